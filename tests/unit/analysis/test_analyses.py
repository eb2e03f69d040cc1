"""All analyses together: every number is there or has a reason, whatever comes in."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from analysis.analyses import Analyses, Extras, analyse, mark_beyond_noise
from analysis.report.analysis_json import analyses_as_plain
from analysis.study import GainStudy
from tests.study_factory import made_of, make_study

TASKS = ["mnli", "cola", "rte", "irony", "imdb"]
GROUPS = ["nli", "general", "nli", "twitter", "other"]
ISSUE_KEYS = {"n_models", "share_better", "probe", "sensitivity", "lost_gain", "regression", "groups", "symmetry"}


def whole_study() -> GainStudy:
    rng = np.random.default_rng(3)
    gain = rng.normal(0, 2, size=(6, 5)) + np.array([3, 1, 0, -1, -2, -3])[:, None]
    sources = ["mnli", "cola", "rte", "irony", "imdb", "qqp"]
    return make_study(
        gain,
        tasks=TASKS,
        origins=[made_of(task, size=500 * (place + 1)) for place, task in enumerate(sources)],
        probe=gain.mean(axis=1) + rng.normal(0, 0.5, size=6),
        source_groups=["nli", "general", "nli", "twitter", "other", "general"],
        target_groups=GROUPS,
        target_sizes=[100, 900, 300, 500, 700],
    )


def run(study: GainStudy, extras: Extras | None = None) -> Analyses:
    return analyse(study, rng=np.random.default_rng(0), extras=extras, n_shuffles=3, n_draws=20)


def plain(study: GainStudy, extras: Extras | None = None) -> dict[str, Any]:
    found = analyses_as_plain(run(study, extras))
    return json.loads(json.dumps(found, allow_nan=False))  # NaN is no JSON: this would raise


def nulls(value: Any, path: str = "") -> list[str]:
    if value is None:
        return [path]
    if isinstance(value, dict):
        return [found for name, item in value.items() for found in nulls(item, f"{path}.{name}".lstrip("."))]
    return []


def explained(found: dict[str, Any]) -> list[str]:
    """Nulls that no reason explains, by their own path or that of a part around them."""
    free = {"set", "settings", "sensitivity.strong", "regression.method", "regression.held_out"}
    return [
        path
        for path in nulls({name: value for name, value in found.items() if name not in ("reasons", "targets")})
        if path not in free and not any(path == reason or path.startswith(f"{reason}.") for reason in found["reasons"])
    ]


def test_a_whole_study_has_every_number_of_the_issue() -> None:
    found = plain(whole_study())
    assert set(found) >= ISSUE_KEYS
    assert found["n_models"] == 6 and 0 < found["share_better"] < 1
    assert set(found["probe"]) >= {"pearson", "spearman", "p", "slope", "intercept"}
    assert set(found["sensitivity"]) >= {"pearson", "spearman"}
    for order in ("by_probe", "by_average", "by_average_of_others", "noise_floor"):
        for loss in ("loss_1", "loss_3"):
            assert set(found["lost_gain"][order][loss]) >= {"mean", "max", "n_over_1"}
    numbers = ("mse_full", "mse_source", "mse_target", "mse_shuffled_mean", "mse_shuffled_sd")
    assert all(found["regression"][name] > 0 for name in numbers)
    assert found["groups"]["nli"]["twitter"] is not None and -1 <= found["symmetry"] <= 1
    assert found["sensitivity"]["strong"] == "org/modela"  # the plain MNLI model
    assert not explained(found)


def test_symmetry_is_that_of_the_tasks_which_are_both() -> None:
    found = run(whole_study())
    matrix = found.study.gain[:5]
    symmetric, skew = (matrix + matrix.T) / 2, (matrix - matrix.T) / 2
    s, v = np.linalg.norm(symmetric), np.linalg.norm(skew)
    assert found.interaction.symmetry_tasks == tuple(TASKS)
    assert found.interaction.symmetry.observed.score == pytest.approx((s - v) / (s + v))


def test_groups_leave_out_what_was_finetuned_on_the_target_itself() -> None:
    found = run(whole_study())
    gain, table = found.study.gain, found.interaction.groups
    assert table is not None
    # NLI sources are rows 0 and 2 (mnli, rte), NLI targets columns 0 and 2: only mnli -> rte and rte -> mnli are left
    row, column = table.source_groups.index("nli"), table.target_groups.index("nli")
    assert table.mean_gain[row, column] == pytest.approx((gain[0, 2] + gain[2, 0]) / 2)


def test_standard_errors_by_hand() -> None:
    # two seeds one point apart in every cell: sd 1 / sqrt 2; error sqrt(1/2 (1/2 + 1/2)) = 1 / sqrt 2
    study = make_study([[1.5, 1.3], [-1.5, 0.0]], spread=1.0)
    marks = mark_beyond_noise(study)
    assert marks.std == pytest.approx(np.full((2, 2), math.sqrt(0.5)))
    assert marks.better.tolist() == [[True, False], [False, False]] and marks.worse.tolist() == [
        [False, False],
        [True, False],
    ]


@pytest.mark.parametrize(
    ("study", "absent"),
    [
        pytest.param(make_study([[1.0, 2.0]]), ["probe", "sensitivity", "regression", "lost_gain.by_average.loss_1"], id="one model"),
        pytest.param(make_study([[1.0, 2.0], [2.0, 1.0]]), ["probe", "sensitivity", "regression"], id="two models"),
        pytest.param(make_study([[1.0], [2.0], [3.0]], probe=[1, 2, 4]), ["sensitivity", "regression", "symmetry"], id="one target"),
        pytest.param(make_study(np.full((4, 4), np.nan)), ["share_better", "probe", "sensitivity", "regression"], id="no gain at all"),
        pytest.param(make_study(np.full((4, 4), 2.0), probe=[1, 1, 1, 1]), ["probe", "sensitivity"], id="constant columns"),
        pytest.param(make_study(np.eye(4), seeds=1), ["significance", "lost_gain.noise_floor.loss_1"], id="one seed"),
        pytest.param(make_study(np.where(np.eye(4) > 0, np.nan, 1.0)), ["share_better"], id="no complete model"),
    ],
)  # fmt: skip
def test_bad_input_has_a_stated_outcome(study: GainStudy, absent: list[str]) -> None:
    found = plain(study)
    for path in absent:
        assert found["reasons"][path], path
    assert not explained(found)


def test_missing_cells_are_no_numbers_of_their_own() -> None:
    study = whole_study()
    scores = study.scores.copy()
    scores[5, 2] = np.nan
    thinned = GainStudy(**{**vars(study), "scores": scores})
    found = plain(thinned)
    # five of six are complete, so the sixth is in nothing
    assert found["n_models"] == found["n_complete"] == 5 and found["left_out"] == ["org/modelf"]
    rest = study.select([True] * 5 + [False], [True] * 5)
    assert found["probe"]["pearson"] == pytest.approx(plain(rest)["probe"]["pearson"])


def test_a_study_with_many_gaps_is_fitted_with_its_gaps() -> None:
    rng = np.random.default_rng(5)
    gain = rng.normal(size=(8, 6))
    gain[np.arange(6), np.arange(6)] = np.nan
    found = plain(make_study(gain))
    assert found["regression"]["n_models"] == 8 and found["regression"]["method"] == "alternating"
    assert found["regression"]["n_cells"] == 42


def test_nothing_to_analyse_is_refused() -> None:
    empty = make_study(np.zeros((2, 3))).select([False, False], [True] * 3)
    with pytest.raises(ValueError, match="0 base models on 3 targets"):
        run(empty)


def test_order_of_models_and_tasks_changes_nothing() -> None:
    study = whole_study()
    rows, columns = np.array([4, 2, 0, 5, 1, 3]), np.array([3, 0, 4, 1, 2])
    turned = GainStudy(
        **{
            **vars(study),
            "bases": tuple(study.bases[row] for row in rows),
            "tasks": tuple(study.tasks[column] for column in columns),
            "scores": study.scores[np.ix_(rows, columns)],
            "baseline": study.baseline[columns],
            "probe": study.probe[rows],
            "origins": tuple(study.origins[row] for row in rows),
            "source_groups": tuple(study.source_groups[row] for row in rows),
            "target_groups": tuple(study.target_groups[column] for column in columns),
            "target_sizes": study.target_sizes[columns],
        }
    )
    one, other = plain(study), plain(turned)
    same = ("share_better", "symmetry", "groups", "probe", "sensitivity")
    assert {name: _rounded(other[name]) for name in same} == {name: _rounded(one[name]) for name in same}
    for name in ("mse_full", "mse_source", "mse_target"):
        assert other["regression"][name] == pytest.approx(one["regression"][name])


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(value[name]) for name in sorted(value)}
    return round(value, 9) if isinstance(value, float) else value


def test_other_architectures_and_contrasts_are_taken_up() -> None:
    study = whole_study()
    other = GainStudy(**{**vars(study), "arch": "other"})
    extras = Extras(
        others={"other": other}, contrast={"good": ["org/modela", "org/modelb"], "bad": ["org/modele", "org/modelf"]}
    )
    found = plain(study, extras)
    (pair,) = found["factors"]["architectures"]
    assert (pair["first"], pair["second"]) == ("other", "tiny") and pair["sensitivity"]["pearson"] == pytest.approx(1.0)
    assert found["factors"]["conditions"][-1]["a"] == "good" and found["factors"]["conditions"][-1]["difference"] > 0


def test_the_same_seed_gives_the_same_file() -> None:
    assert plain(whole_study()) == plain(whole_study())
