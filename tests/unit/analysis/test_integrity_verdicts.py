"""Verdicts on rows damaged by hand, one fault at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from analysis.integrity import RowAudit, TestSizes, audit_rows, recover_test_sizes

TASKS = ("cola", "mrpc", "stsb", "rte", "sst2", "wnli", "qnli", "trec", "imdb", "boolq", "wic", "anli")
SIZES = (1043, 408, 0, 277, 872, 71, 5463, 500, 25000, 3270, 638, 3200)
LEVELS = (0.83, 0.88, 0.90, 0.72, 0.94, 0.56, 0.92, 0.97, 0.93, 0.78, 0.66, 0.50)

Table = np.ndarray


def sound_rows(rng: np.random.Generator, n_rows: int) -> Table:
    """Rows of k/n near each task's level; stsb any number."""
    raw = np.asarray(LEVELS) + rng.normal(0, 0.008, size=(n_rows, len(TASKS)))
    sizes = np.asarray(SIZES)
    return np.where(sizes > 0, np.round(raw * sizes) / np.maximum(sizes, 1), raw)


@pytest.fixture
def rows(rng: np.random.Generator) -> Table:
    return sound_rows(rng, 24)


@pytest.fixture
def audit(rng: np.random.Generator) -> Callable[..., RowAudit]:
    repetitions = sound_rows(rng, 20)
    sizes = recover_test_sizes(repetitions, TASKS)
    assert sizes.n.tolist() == list(SIZES)

    def run(table: Table, **more: object) -> RowAudit:
        names = [f"model-{i}" for i in range(len(table))]
        return audit_rows(names, table, test_sizes=sizes, repetitions=repetitions, **more)  # type: ignore[arg-type]

    return run


def test_sound_rows_pass_unchanged(rows: Table, audit: Callable[..., RowAudit]) -> None:
    result = audit(rows)
    assert set(result.status) == {"ok"}
    assert set(result.reason) == {""}
    assert np.array_equal(result.scores, rows)
    assert (result.cell_status == "ok").all()
    assert result.usable().all()


@pytest.mark.parametrize("end", ["kept", "empty", "padded"])
def test_a_dropped_task_is_found_and_the_rest_put_back(rows: Table, audit: Callable[..., RowAudit], end: str) -> None:
    """mrpc and wnli dropped: 10 scores move left, the last two places are left, emptied or filled."""
    truth = rows[3].copy()
    kept = np.delete(truth, [1, 5])
    rows[3, :10] = kept
    rows[3, 10:] = {"kept": truth[10:], "empty": np.nan, "padded": kept[-1]}[end]
    result = audit(rows)
    assert result.status[3] == "repaired"
    assert result.kind[3] == "shifted"
    assert result.lost_tasks[3] == ("mrpc", "wnli")
    expected = truth.copy()
    expected[[1, 5]] = np.nan
    assert np.array_equal(result.scores[3], expected, equal_nan=True)
    assert result.cell_status[3, 0] == "ok"
    assert result.cell_status[3, 1] == "lost"
    assert result.cell_status[3, 2] == "repaired"
    assert result.reason[3].startswith("mrpc and wnli have no score of their own")
    assert "after moving" in result.evidence[3]
    assert [status for i, status in enumerate(result.status) if i != 3] == ["ok"] * 23
    assert not result.usable()[3]
    assert result.usable(min_coverage=10 / 12)[3]


def test_a_row_moved_twice_is_read_in_layers(rows: Table, audit: Callable[..., RowAudit]) -> None:
    """mrpc was lost first (11 scores written), then rte too with only 6 scores at hand: three layers."""
    truth = rows[3].copy()
    rows[3, :11] = np.delete(truth, 1)
    rows[3, :6] = truth[[0, 2, 4, 5, 6, 7]]
    result = audit(rows)
    assert result.status[3] == "repaired"
    assert result.lost_tasks[3] == ("mrpc", "rte")
    expected = truth.copy()
    expected[[1, 3]] = np.nan
    assert np.array_equal(result.scores[3], expected, equal_nan=True)
    assert "3 layers" in result.evidence[3]


def test_an_accuracy_under_a_correlation_is_noticed(rows: Table, audit: Callable[..., RowAudit]) -> None:
    """Only stsb is lost, and rte's score stands in its place as well as in its own."""
    rows[3, 2] = rows[3, 3]
    result = audit(rows)
    assert result.status[3] == "repaired"
    assert result.lost_tasks[3] == ("stsb",)
    assert result.scores[3, 3] == rows[3, 3]


def test_exchanged_tasks_are_exchanged_back(rows: Table, audit: Callable[..., RowAudit]) -> None:
    truth = rows[3].copy()
    rows[3, [4, 9]] = truth[[9, 4]]
    result = audit(rows)
    assert (result.status[3], result.kind[3]) == ("repaired", "exchanged")
    assert result.lost_tasks[3] == ()
    assert np.array_equal(result.scores[3], truth)


def test_a_score_of_another_split_is_quarantined_alone(rows: Table, audit: Callable[..., RowAudit]) -> None:
    rows[3, 4] = 647 / 677
    result = audit(rows)
    assert (result.status[3], result.kind[3]) == ("quarantined", "other_split")
    assert result.lost_tasks[3] == ("sst2",)
    assert np.isfinite(result.scores[3]).sum() == 11
    assert "sst2 0.955687 = 647/677, not k/872" in result.evidence[3]


def test_a_row_of_other_splits_is_quarantined_whole(rows: Table, audit: Callable[..., RowAudit]) -> None:
    for column, (right, size) in zip([0, 1, 3, 4], [(700, 857), (301, 367), (171, 251), (621, 673)], strict=True):
        rows[3, column] = right / size
    result = audit(rows)
    assert (result.status[3], result.kind[3]) == ("quarantined", "other_split")
    assert np.isnan(result.scores[3]).all()


def test_levels_alone_raise_a_doubt_where_denominators_cannot() -> None:
    """Two tasks of 3,000 examples, exchanged: nothing but the level tells, so the pair is set aside, not repaired."""
    rng = np.random.default_rng(1)
    table = np.round((np.array([0.9, 0.72]) + rng.normal(0, 0.004, size=(30, 2))) * 3000) / 3000
    table = np.c_[table, np.round(rng.normal(0.8, 0.01, size=30) * 1043) / 1043]
    sizes = recover_test_sizes(table, ["ag_news", "yahoo", "cola"])
    table[7, :2] = table[7, 1::-1]
    result = audit_rows([str(i) for i in range(30)], table, test_sizes=sizes, repetitions=None)
    assert (result.status[7], result.kind[7]) == ("quarantined", "level")
    assert result.lost_tasks[7] == ("ag_news", "yahoo")
    assert result.status.count("ok") == 29


def test_percent_and_impossible_scores(rows: Table, audit: Callable[..., RowAudit]) -> None:
    rows[3] *= 100
    rows[4, 1] = 1.2
    rows[5, 1] = np.inf
    rows[6, 0] = -0.1
    rows[7, 2] = -0.1  # a rank correlation may be negative
    result = audit(rows)
    assert [result.kind[i] for i in range(3, 8)] == [
        "percent",
        "out_of_range",
        "out_of_range",
        "out_of_range",
        "intact",
    ]
    assert [result.status[i] for i in range(3, 7)] == ["quarantined"] * 4
    assert np.isnan(result.scores[3:7]).all()


def test_names_and_rows_that_stand_twice(rows: Table, audit: Callable[..., RowAudit]) -> None:
    repetitions = sound_rows(np.random.default_rng(5), 20)
    sizes = recover_test_sizes(repetitions, TASKS)
    names = [f"m{i}" for i in range(24)]
    names[1], rows[1] = names[0], rows[0]  # same name, same scores
    names[3] = names[2]  # same name, other scores
    rows[5] = rows[4]  # other name, same scores
    names[7], rows[7] = names[6], np.nan  # same name, untested
    names[8] = " "
    result = audit_rows(names, rows, test_sizes=sizes, repetitions=repetitions)
    assert [result.kind[i] for i in range(9)] == [
        "intact", "duplicate", "conflict", "conflict", "intact", "identical", "intact", "duplicate", "unnamed",
    ]  # fmt: skip
    assert result.usable().tolist() == [True, False, False, False, True, False, True, False, False] + [True] * 15


def test_other_recipes_are_not_mixed_in(rows: Table, audit: Callable[..., RowAudit]) -> None:
    recipe = ["2"] * 24
    recipe[0], recipe[1] = "1", ""
    result = audit(rows, recipe=recipe)
    assert (result.kind[0], result.status[0]) == ("recipe", "quarantined")
    assert result.reason[0] == "trained by recipe 1 where 22 of 23 rows used 2"
    assert result.status[1] == "ok"


def test_logged_counts_are_held_against_score_and_size(rows: Table, audit: Callable[..., RowAudit]) -> None:
    size = np.tile(np.where(np.asarray(SIZES) > 0, SIZES, np.nan), (24, 1))
    right = np.round(rows * size)
    size[3, 4] = 500
    right[4, 0] += 7
    result = audit(rows, n_correct=right, n_eval=size)
    assert (result.kind[3], result.lost_tasks[3]) == ("counts", ("sst2",))
    assert "sst2 was evaluated on 500 examples, its test set has 872" in result.reason[3]
    assert (result.kind[4], result.lost_tasks[4]) == ("counts", ("cola",))
    assert result.status.count("ok") == 22


def test_a_collapsed_model_is_set_aside_and_a_collapsed_task_only_marked(
    rows: Table, audit: Callable[..., RowAudit]
) -> None:
    shares = {task: [int(0.6 * n), n - int(0.6 * n)] for task, n in zip(TASKS, SIZES, strict=True) if n}
    rows[3] = [shares[task][0] / n if n else 0.0 for task, n in zip(TASKS, SIZES, strict=True)]
    rows[4, 5] = shares["wnli"][0] / 71
    result = audit(rows, class_counts=shares)
    assert (result.kind[3], result.status[3]) == ("collapsed", "quarantined")
    assert (result.kind[4], result.status[4]) == ("intact", "ok")
    assert result.collapsed[4, 5]


def test_partial_and_untested_rows(rows: Table, audit: Callable[..., RowAudit]) -> None:
    rows[3, 2] = np.nan
    rows[4] = np.nan
    result = audit(rows)
    assert (result.kind[3], result.status[3], result.lost_tasks[3]) == ("partial", "quarantined", ("stsb",))
    assert result.reason[3] == "11 of 12 tasks have a score; missing: stsb"
    assert (result.kind[4], result.status[4], result.lost_tasks[4]) == ("untested", "ok", ())
    assert not result.usable(min_coverage=0.0)[4]
    lenient = audit(rows, min_coverage=0.5)
    assert (lenient.kind[3], lenient.status[3]) == ("intact", "ok")
    assert np.isfinite(lenient.scores[3]).sum() == 11


def test_probe_of_zero_is_no_probe(rows: Table, audit: Callable[..., RowAudit]) -> None:
    probe = np.full(24, 0.6)
    probe[:4] = [0.0, np.nan, 1.5, 1.0]
    result = audit(rows, probe=probe)
    assert result.probe_status[:5] == ("quarantined", "missing", "quarantined", "ok", "ok")
    assert set(result.status) == {"ok"}
    with pytest.raises(ValueError, match="probe has shape"):
        audit(rows, probe=probe[:3])


def test_without_denominators_only_range_and_copies_are_checked(rows: Table) -> None:
    sizes = recover_test_sizes(np.empty((0, 12)), TASKS)
    rows[3, 0] = 1.5
    result = audit_rows([str(i) for i in range(24)], rows, test_sizes=sizes)
    assert result.kind[3] == "out_of_range"
    assert result.status.count("ok") == 23


def test_no_rows_at_all() -> None:
    sizes = TestSizes(tasks=("a",), n=np.array([10]), evidence=np.array([3]), source=("known",), conflicts=())
    result = audit_rows([], np.empty((0, 1)), test_sizes=sizes)
    assert result.status == ()
    assert result.usable().shape == (0,)


def test_the_order_of_rows_does_not_matter(rows: Table, audit: Callable[..., RowAudit]) -> None:
    rows[3, :10] = np.delete(rows[3], [1, 5])
    rows[4, 4] = 647 / 677
    order = np.random.default_rng(3).permutation(24)
    straight, mixed = audit(rows), audit(rows[order])
    assert [straight.status[i] for i in order] == list(mixed.status)
    assert np.array_equal(straight.scores[order], mixed.scores, equal_nan=True)


def test_shapes_that_do_not_belong_together(rows: Table, audit: Callable[..., RowAudit]) -> None:
    with pytest.raises(ValueError, match=r"scores has shape \(24, 11\), expected \(24, 12\)"):
        audit(rows[:, :11])
    with pytest.raises(ValueError, match="recipe has 2 entries for 24 rows"):
        audit(rows, recipe=["1", "2"])
