"""Section 6 on small studies whose answers can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.factor_studies import (
    compare_studies,
    condition_studies,
    named_contrast,
    seed_studies,
    source_size_lines,
    target_size_gains,
    target_size_lines,
)
from analysis.size_curves import Direction
from analysis.study import GainStudy
from tests.study_factory import made_of, make_study


def test_source_sizes_make_a_line_for_each_way_of_making() -> None:
    origins = [made_of("mnli", size=size) for size in (400, 100, 200)] + [made_of("qqp", size=100), None]
    study = make_study([[4, 6], [0, 2], [2, 4], [9, 9], [8, 8]], origins=origins)
    (line,), reason = source_size_lines(study)
    assert reason == "" and line.name == "mnli" and line.sizes == (100, 200, 400)
    assert line.mean == pytest.approx([1, 3, 5])
    # one doubling between sizes, two points each time; se of two values 2 apart: sqrt(2) / sqrt(2) = 1
    assert line.trend.line.slope == pytest.approx(2.0) and line.trend.direction is Direction.RISES
    assert line.se == pytest.approx([1, 1, 1])


def test_several_models_of_one_size_are_averaged() -> None:
    origins = [made_of("mnli", size=size) for size in (100, 200)] + [
        made_of("mnli", size=400, seed=seed) for seed in (0, 1)
    ]
    (line,), _ = source_size_lines(make_study([[0, 2], [2, 4], [3, 5], [7, 9]], origins=origins))
    assert line.sizes == (100, 200, 400) and line.mean == pytest.approx([1, 3, 6])


def test_sizes_made_in_different_ways_are_no_line() -> None:
    origins = [made_of("mnli", size=size, series=f"s{size}") for size in (100, 200, 400)]
    lines, reason = source_size_lines(make_study(np.zeros((3, 2)), origins=origins))
    assert lines == () and "at least 3 numbers of training rows" in reason


def test_without_origins_every_factor_says_so() -> None:
    study = make_study(np.zeros((3, 2)))
    for find in (source_size_lines, seed_studies, condition_studies):
        found, reason = find(study)
        assert found == () and "finetuned by Startline" in reason


def by_size(gains: dict[int, list[list[float]]], **more: object) -> dict[int, GainStudy]:
    return {size: make_study(gain, **more) for size, gain in gains.items()}  # type: ignore[arg-type]


def test_target_sizes_average_over_base_models() -> None:
    gains = {50: [[4, 1], [6, 1], [5, 1]], 100: [[0, 1], [1, 1], [-1, 1]], 200: [[4, 1], [4, 1], [4, 1]]}
    studies = by_size(gains)
    lines, shapes, reason = target_size_lines(studies)
    assert reason == "" and [line.name for line in lines] == ["task0", "task1"]
    assert lines[0].mean == pytest.approx([5, 0, 4]) and lines[1].mean == pytest.approx([1, 1, 1])
    task, shape = shapes[0]
    assert task == "task0" and (shape.drop, shape.rise) == (pytest.approx(5), pytest.approx(4)) and shape.lowest == 1
    bases, gain = target_size_gains(studies, "task0")
    assert len(bases) == 3 and gain[0] == pytest.approx([4, 0, 4])


def test_a_base_model_that_lacks_a_size_is_left_out_of_that_target() -> None:
    gains = {50: [[4.0], [6.0]], 100: [[0.0], [np.nan]], 200: [[4.0], [4.0]]}
    (line,), _, _ = target_size_lines(by_size(gains))
    assert line.mean == pytest.approx([4, 0, 4])


@pytest.mark.parametrize(
    ("studies", "reason"),
    [
        ({}, "0 numbers of training rows"),
        (by_size({50: [[1.0]], 100: [[2.0]]}), "2 numbers of training rows"),
        (by_size({size: [[np.nan]] for size in (50, 100, 200)}), "no base model was measured"),
        (
            {size: make_study([[1.0]], tasks=[f"t{size}"]) for size in (50, 100, 200)},
            "0 targets were tried at every size",
        ),
    ],
)
def test_target_sizes_state_what_is_missing(studies: dict[int, GainStudy], reason: str) -> None:
    lines, _, found = target_size_lines(studies)
    assert lines == () and reason in found


def test_seeds_of_one_source_are_compared_by_target_average() -> None:
    origins = [made_of("mnli", seed=seed, score=0.8 + 0.01 * seed) for seed in (2, 0, 1)] + [
        made_of("mnli", seed=0, size=5)
    ]
    study = make_study([[2, 4], [0, 2], [1, 3], [9, 9]], origins=origins)
    (found,), _ = seed_studies(study)
    assert found.seeds == (0, 1, 2) and found.source_score == pytest.approx([0.80, 0.81, 0.82])
    # pretrained 50 points; averages 50 + (1, 2, 3)
    assert found.target_average == pytest.approx([0.51, 0.52, 0.53])
    assert found.spread.association.pearson == pytest.approx(1.0) and found.spread.target_range == pytest.approx(2.0)


def test_conditions_compare_pairs_over_targets_and_sources() -> None:
    ways = [("decay1", "x"), ("decay0", "y")]
    origins = [made_of(task, label=label, series=series) for task in ("mnli", "qqp") for label, series in ways]
    study = make_study([[1, 2, 4], [2, 4, 5], [0, 1, 0], [3, 3, 3]], origins=origins)
    found, reason = condition_studies(study)
    assert reason == "" and [(each.source, each.a, each.b) for each in found] == [
        ("mnli", "decay0", "decay1"),
        ("qqp", "decay0", "decay1"),
        ("", "decay0", "decay1"),
    ]
    # mnli: (2 + 4 + 5) / 3 - (1 + 2 + 4) / 3; over sources: means of (11 / 3, 3) and (7 / 3, 1 / 3)
    assert found[0].contrast.difference == pytest.approx(4 / 3)
    assert found[2].contrast.difference == pytest.approx((11 / 3 + 3) / 2 - (7 / 3 + 1 / 3) / 2)


def test_models_made_alike_are_no_conditions() -> None:
    origins = [made_of("mnli"), made_of("mnli", label="again")]
    found, reason = condition_studies(make_study([[1, 2], [2, 4]], origins=origins))
    assert found == () and "in two ways" in reason


def test_a_named_contrast_compares_two_lists() -> None:
    study = make_study([[4.0], [6.0], [1.0], [1.5]], bases=["g1", "g2", "b1", "b2"])
    found = named_contrast(study, {"good": ["g1", "g2"], "bad": ["b1", "b2"]})
    assert (found.a, found.b) == ("good", "bad") and found.contrast.difference == pytest.approx(3.75)


@pytest.mark.parametrize("lists", [{"good": ["g"]}, {"good": ["g"], "bad": ["nobody"]}, {"a": [], "b": [], "c": []}])
def test_a_contrast_of_what_is_not_there_is_refused(lists: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match="expected 2"):
        named_contrast(make_study([[1.0]], bases=["g"]), lists)


def test_architectures_share_targets_and_source_tasks() -> None:
    first = make_study(
        [[1, 5, 2, 0], [0, 4, 9, 0], [3, 1, 1, 0]],
        tasks=["t0", "t1", "t2", "only_here"],
        origins=[made_of("mnli"), made_of("qqp"), made_of("sst2")],
        arch="a",
    )
    second = make_study(
        [[2, 10, 4], [0, 8, 18], [6, 2, 2], [0, 0, 0]],
        tasks=["t0", "t1", "t2"],
        origins=[made_of("mnli"), made_of("qqp"), made_of("sst2"), made_of("mnli", label="n50")],
        arch="b",
    )
    (pair,) = compare_studies({"b": second, "a": first})
    assert (pair.first, pair.second) == ("a", "b")
    # best gains over the shared targets: (3, 5, 9) and (6, 10, 18)
    assert pair.sensitivity.n == 3 and pair.sensitivity.pearson == pytest.approx(1.0)
    # source averages: 2, 13 / 4, 5 / 4 against 16 / 3, 26 / 3, 10 / 3
    expected = np.corrcoef([2, 13 / 4, 5 / 4], [16 / 3, 26 / 3, 10 / 3])[0, 1]
    assert pair.source_average.n == 3 and pair.source_average.pearson == pytest.approx(expected)


def test_architectures_without_common_ground_say_so() -> None:
    (pair,) = compare_studies({"a": make_study([[1.0]], arch="a"), "b": make_study([[1.0]], tasks=["other"], arch="b")})
    assert pair.sensitivity.n == 0 and pair.sensitivity.reason and "in both architectures" in pair.source_average.reason
