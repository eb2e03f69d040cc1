"""Significance, order and share of better base models, by hand."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from analysis.gain_matrix import Spread, average_gain, check_gain, mark_significant, order_by_group, share_better

NAN = math.nan
# cell spreads: sd of (0.5, 0.6) is 0.1 / sqrt(2) = 7.0711 points, of (0.70, 0.72) 1.4142 points
SCORES = np.array([[[0.5, 0.6], [0.7, 0.72]], [[0.8, 0.8], [0.61, NAN]]])


def test_cell_spread_marks_what_exceeds_two_standard_deviations() -> None:
    gain = np.array([[14.2, -2.9], [3.0, 1.0]])
    found = mark_significant(gain, SCORES, spread=Spread.CELL)
    assert found.std[0] == pytest.approx([7.0711, 1.4142], abs=1e-4)
    assert found.better.tolist() == [[True, False], [False, False]]
    assert found.worse.tolist() == [[False, True], [False, False]]
    # one cell with equal seeds, one with a single seed: no standard deviation to hold the gain against
    assert found.undecided.tolist() == [[False, False], [True, True]]
    assert found.reason == ""


def test_just_inside_two_standard_deviations_is_not_significant() -> None:
    found = mark_significant(np.array([[14.1, -2.8], [0, 0]]), SCORES, spread=Spread.CELL)
    assert not found.better.any() and not found.worse.any()


def test_pooled_spread_weights_variances_by_degrees_of_freedom() -> None:
    found = mark_significant(np.array([[11.0, 3.0], [9.0, 1.0]]), SCORES, spread=Spread.POOLED)
    # task 0: (50 + 0) / 2 = 25 -> 5; task 1: only one cell has two seeds -> sqrt(2)
    assert found.std == pytest.approx(np.array([[5, math.sqrt(2)], [5, math.sqrt(2)]]))
    assert found.better.tolist() == [[True, True], [False, False]]


def test_pooled_spread_counts_a_cell_with_more_seeds_for_more() -> None:
    # variances 50 (2 seeds) and 1 (3 seeds: 0.70, 0.71, 0.72) points squared: (50 + 2 * 1) / 3
    scores = np.array([[[0.5, 0.6, NAN]], [[0.70, 0.71, 0.72]]])
    found = mark_significant([[1.0], [1.0]], scores, spread=Spread.POOLED)
    assert found.std == pytest.approx(np.full((2, 1), math.sqrt(52 / 3)))


def test_a_missing_gain_is_neither_decided_nor_undecided() -> None:
    found = mark_significant([[NAN, 9.0], [NAN, 1.0]], SCORES, spread=Spread.CELL)
    assert found.undecided.tolist() == [[False, False], [False, True]]
    assert found.better.tolist() == [[False, True], [False, False]]


def test_standard_error_adds_the_pretrained_models_own() -> None:
    pretrained = np.array([[0.4, 0.6], [0.6, 0.6]])
    found = mark_significant(np.zeros((2, 2)), SCORES, spread=Spread.STANDARD_ERROR, pretrained=pretrained)
    assert found.std[0, 0] == pytest.approx(math.sqrt(50 / 2 + 200 / 2))
    assert found.std[0, 1] == pytest.approx(1.0)
    assert math.isnan(found.std[1, 1])


def test_equal_seeds_do_not_pass_for_a_spread_by_rounding() -> None:
    same = np.full((1, 1, 3), 0.1 + 0.2)
    same[0, 0, 1] = 0.3
    found = mark_significant([[1.0]], same, spread=Spread.CELL)
    assert found.undecided.all() and not found.better.any()
    assert "positive standard deviation" in found.reason


@pytest.mark.parametrize(
    ("gain", "pretrained", "reason"),
    [
        (np.full((2, 2), NAN), np.full((2, 2), 0.5), "no gain is present"),
        (np.ones((2, 2)), None, "no pretrained scores"),
    ],
)
def test_without_the_pretrained_model_nothing_is_decided(
    gain: np.ndarray, pretrained: np.ndarray | None, reason: str
) -> None:
    found = mark_significant(gain, SCORES, spread=Spread.STANDARD_ERROR, pretrained=pretrained)
    assert reason in found.reason
    assert not found.better.any() and not found.worse.any()


def test_malformed_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="n_seeds"):
        mark_significant(np.ones((2, 2)), np.ones((2, 2)), spread=Spread.CELL)
    with pytest.raises(ValueError, match="divide percent by 100"):
        mark_significant(np.ones((2, 2)), 100 * SCORES, spread=Spread.CELL)
    with pytest.raises(ValueError, match="pretrained scores of shape"):
        mark_significant(np.ones((2, 2)), SCORES, spread=Spread.STANDARD_ERROR, pretrained=[0.5, 0.5])


@pytest.mark.parametrize("gain", [[], [1.0, 2.0], np.ones((0, 3)), [[math.inf]]])
def test_malformed_gains_are_refused(gain: npt.ArrayLike) -> None:
    with pytest.raises(ValueError, match="expected"):
        check_gain(gain)


def test_an_average_is_over_all_chosen_tasks_or_missing() -> None:
    gain = [[1.0, 3.0, NAN], [2.0, 4.0, 6.0]]
    assert average_gain(gain) == pytest.approx([NAN, 4], nan_ok=True)
    assert average_gain(gain, tasks=[0, 1]) == pytest.approx([2, 3])
    assert average_gain(gain, tasks=np.array([False, True, True])) == pytest.approx([NAN, 5], nan_ok=True)
    with pytest.raises(ValueError, match="no task"):
        average_gain(gain, tasks=np.zeros(3, dtype=bool))


def test_order_is_by_group_then_average_with_missing_last() -> None:
    order = order_by_group(
        [1, 5, NAN, 3, 2], ["NLI", "General", "NLI", "General", "NLI"], group_order=["General", "NLI"]
    )
    assert order.tolist() == [1, 3, 4, 0, 2]
    with pytest.raises(ValueError, match="'Twitter'"):
        order_by_group([1, 2], ["General", "Twitter"], group_order=["General"])
    with pytest.raises(ValueError, match="one group per row"):
        order_by_group([1, 2], ["General"], group_order=["General"])


def test_share_counts_averages_above_zero() -> None:
    found = share_better([[1.0, 1.0], [-1.0, 2.0], [-3.0, 1.0], [0.0, 0.0], [5.0, NAN]])
    assert (found.n_models, found.n_better, found.n_incomplete, found.share) == (4, 2, 1, 0.5)
    # Wilson for 2 of 4 at z = 1.96: centre 0.5, half width z / (2 sqrt(4 + z^2))
    half = 1.959964 / (2 * math.sqrt(4 + 1.959964**2))
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-5)


def test_share_without_a_complete_base_model_names_the_requirement() -> None:
    found = share_better([[NAN, 1.0], [2.0, NAN]])
    assert math.isnan(found.share) and "pretrained" in found.reason and found.n_incomplete == 2
