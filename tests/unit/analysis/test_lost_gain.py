"""Lost gain by hand and by brute force over ties; noise floor against order statistics."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from analysis.lost_gain import average_order, measure_lost_gain, simulate_noise_floor

NAN = math.nan
GAIN = np.array([[5.0, 0.0, 1.0], [4.0, 2.0, 1.5], [1.0, 6.0, 1.2], [9.0, 1.0, 0.0]])
ORDER = np.array([4.0, 3.0, 2.0, 1.0])


def test_losses_of_the_first_one_and_three() -> None:
    one, three = (measure_lost_gain(GAIN, ORDER, top=top) for top in (1, 3))
    # best per target 9, 6, 1.5; the first model has 5, 0, 1; the first three 5, 6, 1.5
    assert one.loss.tolist() == [4, 6, 0.5] and three.loss.tolist() == [4, 0, 0]
    assert (one.mean, one.max, one.n_over, one.n_targets) == (3.5, 6, 2, 3)
    assert (three.mean, three.max, three.n_over) == (pytest.approx(4 / 3), 4, 1)
    assert not one.tied and one.reason == ""


def test_exactly_one_point_is_not_more_than_a_point() -> None:
    found = measure_lost_gain([[0.0], [1.0], [0.0]], [3, 2, 1], top=1)
    assert found.loss.tolist() == [1] and found.n_over == 0
    assert measure_lost_gain([[0.0], [1.0], [0.0]], [3, 2, 1], top=1, threshold=0.5).n_over == 1


@pytest.mark.parametrize("top", [1, 2, 3, 4])
def test_ties_give_the_mean_over_all_ways_to_break_them(top: int) -> None:
    rng = np.random.default_rng(3)
    gain, order = rng.normal(size=(6, 4)), np.array([9.0, 5, 5, 5, 5, 1])
    ways = []
    for tied in itertools.permutations([1, 2, 3, 4]):
        chosen = [0, *tied, 5][:top]
        ways.append(gain.max(axis=0) - gain[chosen].max(axis=0))
    found = measure_lost_gain(gain, order, top=top)
    assert found.loss == pytest.approx(np.mean(ways, axis=0))
    assert found.tied == (top in (2, 3, 4))


def test_a_missing_cell_of_a_chosen_model_leaves_its_target_unjudged() -> None:
    gain = GAIN.copy()
    gain[0, 0], gain[3, 1] = NAN, NAN
    found = measure_lost_gain(gain, ORDER, top=1)
    assert found.loss == pytest.approx([NAN, 6, 0.5], nan_ok=True)
    assert (found.n_targets, found.n_unjudged, found.n_lower_bound) == (2, 1, 1)
    assert found.mean == pytest.approx(3.25)


def test_an_unranked_model_is_never_chosen_but_may_be_the_best() -> None:
    found = measure_lost_gain(GAIN, [4, 3, 2, NAN], top=3)
    assert found.loss.tolist() == [4, 0, 0] and found.n_unranked == 1


@pytest.mark.parametrize(
    ("gain", "order", "top", "reason"),
    [
        (GAIN[:2], ORDER[:2], 1, "only 2 base models"),
        (GAIN, [1, NAN, NAN, NAN], 2, "only 1 ranked"),
        (GAIN, ORDER, 4, "nothing can be lost"),
        (np.full((4, 2), NAN), ORDER, 1, "no target has a cell"),
    ],
)
def test_what_cannot_be_computed_is_nan_with_the_reason(
    gain: np.ndarray, order: np.ndarray, top: int, reason: str
) -> None:
    found = measure_lost_gain(gain, order, top=top)
    assert reason in found.reason
    assert math.isnan(found.mean) and math.isnan(found.max) and found.n_targets == 0 and found.n_over == 0


def test_one_target_and_constant_columns_have_values() -> None:
    assert measure_lost_gain(GAIN[:, :1], ORDER, top=1).mean == 4
    assert measure_lost_gain(np.full((4, 2), 7.0), ORDER, top=1).max == 0


def test_malformed_orders_are_refused() -> None:
    with pytest.raises(ValueError, match="order scores"):
        measure_lost_gain(GAIN, [1, 2], top=1)
    with pytest.raises(ValueError, match="at least 1"):
        measure_lost_gain(GAIN, ORDER, top=0)


def test_order_by_average_over_a_group() -> None:
    orders = average_order(GAIN, tasks=np.array([True, True, False]))
    assert orders[:, 0].tolist() == [2.5, 3, 3.5, 5] and (orders == orders[:, :1]).all()
    # ranked by (9 + 1) / 2 the last model comes first: it is best on target 0 and far off on target 1
    assert measure_lost_gain(GAIN, orders, top=1).loss.tolist() == [0, 5, 1.5]


def test_a_target_can_be_left_out_of_its_own_order() -> None:
    orders = average_order(GAIN, tasks=np.array([True, True, False]), leave_target_out=True)
    assert orders[:, 0].tolist() == [0, 2, 6, 1] and orders[:, 1].tolist() == [5, 4, 1, 9]
    assert orders[:, 2].tolist() == [2.5, 3, 3.5, 5]
    # target 0 now starts from model 2 (gain 1, best 9), target 1 from model 3 (gain 1, best 6)
    assert measure_lost_gain(GAIN, orders, top=1).loss.tolist() == [8, 5, 1.5]
    alone = average_order(GAIN, tasks=np.array([True, False, False]), leave_target_out=True)
    assert np.isnan(alone[:, 0]).all() and alone[:, 1].tolist() == GAIN[:, 0].tolist()
    assert "only 0 ranked" in measure_lost_gain(GAIN, alone, top=1).reason


def test_an_empty_task_group_is_refused() -> None:
    for mask in (np.zeros(3, dtype=bool), np.ones(2, dtype=bool), np.array([0, 1, 2])):
        with pytest.raises(ValueError, match="boolean mask"):
            average_order(GAIN, tasks=mask)


def test_noise_floor_is_the_expected_maximum_of_normals() -> None:
    found = simulate_noise_floor(np.array([[1.0, 2.0]] * 3), top=1, rng=np.random.default_rng(0), n_draws=20000)
    # expected maximum of 3 standard normals: 3 / (2 sqrt(pi)); one chosen without looking is 0 on average
    exact = 3 / (2 * math.sqrt(math.pi))
    assert abs(found.max_gain[0] - exact) < 4 * found.max_gain_se[0]
    assert abs(found.max_gain[1] - 2 * exact) < 4 * found.max_gain_se[1]
    assert found.loss == pytest.approx([exact, 2 * exact], abs=0.05)
    assert found.mean_loss == pytest.approx(1.5 * exact, abs=0.04)


def test_noise_floor_of_a_pair_among_five_and_of_unequal_errors() -> None:
    five = simulate_noise_floor(np.ones((5, 1)), top=2, rng=np.random.default_rng(1), n_draws=20000)
    # E max of 5 is 1.16296 and of 2 is 1 / sqrt(pi)
    assert five.loss[0] == pytest.approx(1.16296 - 1 / math.sqrt(math.pi), abs=0.03)
    # max(0, 0, s Z) has mean s / sqrt(2 pi), and more than a point with P(Z > 1 / 3)
    one = simulate_noise_floor([[0.0], [0.0], [3.0]], top=1, rng=np.random.default_rng(1), n_draws=20000)
    assert one.max_gain[0] == pytest.approx(3 / math.sqrt(2 * math.pi), abs=0.04)


def test_noise_floor_states_what_it_lacks() -> None:
    rng = np.random.default_rng(0)
    found = simulate_noise_floor([[1.0, 1.0], [1.0, NAN], [1.0, 1.0]], top=1, rng=rng, n_draws=50)
    assert math.isnan(found.max_gain[1]) and found.reason == "" and not math.isnan(found.mean_loss)
    few = simulate_noise_floor(np.ones((2, 2)), top=1, rng=rng, n_draws=50)
    assert "no target" in few.reason and math.isnan(few.mean_loss)
    with pytest.raises(ValueError, match="negative"):
        simulate_noise_floor([[-1.0]], top=1, rng=rng)
    with pytest.raises(ValueError, match="draws"):
        simulate_noise_floor(np.ones((3, 1)), top=1, rng=rng, n_draws=1)
