"""Denominators: recovery, widening, and scores of constant predictions."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.integrity import constant_predictions, on_lattice, recover_test_sizes


def test_on_lattice_is_a_whole_number_of_right_answers() -> None:
    values = np.array([0.7, 0.71, 1 / 3, np.nan, np.inf, 0.0, 1.0])
    assert on_lattice(values, 10).tolist() == [True, False, False, False, False, True, True]
    assert on_lattice(values, 3).tolist() == [False, False, True, False, False, True, True]
    assert not on_lattice(values, 0).any()


def test_rounded_scores_fit_only_within_their_resolution() -> None:
    value = np.array([0.6346])  # 66/104 printed to four digits
    assert not on_lattice(value, 104)[0]
    assert on_lattice(value, 104, resolution=5e-5)[0]


def test_smallest_common_denominator() -> None:
    repetitions = np.array([[3 / 8, 2 / 7], [5 / 8, 3 / 7], [4 / 8, np.nan]])
    sizes = recover_test_sizes(repetitions, ["a", "b"])
    assert sizes.n.tolist() == [8, 7]
    assert sizes.evidence.tolist() == [3, 2]
    assert sizes.source == ("recovered", "recovered")


def test_a_correlation_has_no_denominator(rng: np.random.Generator) -> None:
    sizes = recover_test_sizes(rng.uniform(0.8, 0.9, size=(20, 1)), ["stsb"])
    assert sizes.n.tolist() == [0]
    assert sizes.correlations.tolist() == [True]


def test_nothing_to_go_by() -> None:
    sizes = recover_test_sizes(np.array([[np.nan, 0.0, 1.0]]), ["a", "b", "c"])
    assert sizes.n.tolist() == [0, 0, 0]
    assert sizes.source == ("none",) * 3
    assert not sizes.correlations.any()
    assert recover_test_sizes(np.empty((0, 1)), ["a"]).n.tolist() == [0]


def test_rows_widen_a_denominator_that_shares_a_factor() -> None:
    """All repetitions score an even number of 104; the rows show odd ones."""
    repetitions = np.array([[66 / 104, 31 / 71], [64 / 104, 40 / 71], [60 / 104, 37 / 71]])
    assert recover_test_sizes(repetitions, ["wsc", "wnli"]).n.tolist() == [52, 71]
    rows = np.array([[k / 104, (k - 30) / 71] for k in range(55, 75)])
    sizes = recover_test_sizes(repetitions, ["wsc", "wnli"], scores=rows)
    assert sizes.n.tolist() == [104, 71]
    assert sizes.source == ("multiple", "recovered")


def test_stated_sizes_are_used_unless_contradicted() -> None:
    repetitions = np.array([[3 / 8, 2 / 7], [5 / 8, 3 / 7]])
    sizes = recover_test_sizes(repetitions, ["a", "b"], {"a": 16, "b": 9})
    assert sizes.n.tolist() == [16, 7]
    assert sizes.source == ("known", "recovered")
    assert len(sizes.conflicts) == 1
    assert "b: a test size of 9 was stated" in sizes.conflicts[0]


def test_a_lone_value_of_many_digits_is_not_believed() -> None:
    """One value alone fits some denominator below 100,000 by luck: pi / 4 does."""
    assert recover_test_sizes(np.array([[np.pi / 4]]), ["a"]).n.tolist() == [0]


def test_wrong_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 3\), expected \(rows, 2\)"):
        recover_test_sizes(np.zeros((2, 3)), ["a", "b"])


def test_class_shares_mark_constant_predictions() -> None:
    sizes = recover_test_sizes(np.array([[41 / 71], [30 / 71]]), ["wnli"])
    scores = np.array([[40 / 71], [31 / 71], [39 / 71], [0.0], [np.nan]])
    marked = constant_predictions(scores, sizes, class_counts={"wnli": [40, 31]})
    assert marked[:, 0].tolist() == [True, True, False, True, False]


def test_a_share_hit_again_and_again_is_read_from_the_scores() -> None:
    """30 of 60 rows score 66/104, the rest one count each: 66 is the majority class."""
    counts = np.r_[np.full(30, 66), np.arange(40, 70)]
    scores = np.c_[counts / 104, np.arange(60) / 500 + 0.5]  # second column: rows differ
    sizes = recover_test_sizes(scores, ["wsc", "other"])
    marked = constant_predictions(scores, sizes)
    assert marked[:, 0].tolist() == (counts == 66).tolist()
    assert not marked[:, 1].any()
