"""Curves by training size: averages, trend and U-shape by hand and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.size_curves import Direction, average_curves, find_u_shape, fit_trend

NAN = math.nan
SIZES = [50, 100, 200, 400, 800]
DIP = np.array([3.0, 1.0, -2.0, -1.0, 0.5]) + np.random.default_rng(0).normal(0, 0.4, size=(8, 5))


def test_curves_average_the_last_axis() -> None:
    found = average_curves([[[1.0, 3.0], [2.0, NAN]], [[0.0, 4.0], [5.0, 5.0]]])
    assert found.mean == pytest.approx(np.array([[2, NAN], [2, 5]]), nan_ok=True)
    assert found.se == pytest.approx(np.array([[1, NAN], [2, 0]]), nan_ok=True)
    assert np.isnan(average_curves(np.ones((2, 3, 1))).se).all()
    for bad in (np.ones((2, 3)), np.ones((0, 1, 1)), np.full((1, 1, 1), math.inf)):
        with pytest.raises(ValueError, match="n_averaged"):
            average_curves(bad)


def test_trend_is_in_points_per_doubling() -> None:
    gain = [0.1, 0.9, 2.1, 2.8, 4.1]
    found = fit_trend(SIZES, gain)
    oracle = stats.linregress(np.arange(5), gain)
    assert (found.line.slope, found.p) == pytest.approx((oracle.slope, oracle.pvalue))
    assert found.direction is Direction.RISES
    assert fit_trend(SIZES, [-g for g in gain]).direction is Direction.FALLS
    assert fit_trend(SIZES, [1, -1, 1, -1, 1]).direction is Direction.UNCLEAR


def test_trend_without_residual_or_without_slope() -> None:
    exact, flat = fit_trend([1, 2, 4, 8], [0, 1, 2, 3]), fit_trend([1, 2, 4, 8], [2, 2, 2, 2])
    assert exact.line.slope == pytest.approx(1) and exact.p < 1e-12 and exact.direction is Direction.RISES
    assert flat.p == 1 and flat.direction is Direction.UNCLEAR and flat.reason == ""


@pytest.mark.parametrize(
    ("sizes", "gain", "reason"),
    [([50, 100], [1, 2], "only 2 pairs"), ([50, 100, 200], [1, NAN, 2], "only 2"), ([9, 9, 9], [1, 2, 3], "constant")],
)
def test_trend_states_what_it_lacks(sizes: list[int], gain: list[float], reason: str) -> None:
    found = fit_trend(sizes, gain)
    assert reason in found.reason and math.isnan(found.p) and found.direction is Direction.UNCLEAR
    with pytest.raises(ValueError, match="above 0"):
        fit_trend([0, 1, 2], [1, 2, 3])


def test_a_dip_is_found_and_paid_for_by_the_number_of_places_looked_at() -> None:
    found = find_u_shape(SIZES, DIP)
    p = [
        max(stats.ttest_1samp(DIP[:, end] - DIP[:, k], 0, alternative="greater").pvalue for end in (0, -1))
        for k in (1, 2, 3)
    ]
    assert found.lowest == 2
    assert found.p == pytest.approx(3 * min(p)) and found.p < 0.001
    mean = DIP.mean(axis=0)
    assert (found.drop, found.rise) == pytest.approx((mean[0] - mean[2], mean[4] - mean[2]))
    assert found.starts_positive and found.dips_negative and found.n_models == 8


@pytest.mark.parametrize("curve", [[5, 4, 3, 2, 1], [1, 2, 3, 4, 5], [0, 2, 4, 2, 0], [1, 1, 1, 1, 1]])
def test_what_only_falls_rises_humps_or_lies_flat_is_no_u(curve: list[float]) -> None:
    noise = np.random.default_rng(1).normal(0, 0.3, size=(8, 5))
    assert find_u_shape(SIZES, np.array(curve) + noise).p > 0.2
    assert find_u_shape(SIZES, np.tile(np.array(curve, dtype=float), (4, 1))).p == 1


def test_an_exact_dip_of_equal_models_has_p_zero_at_its_lowest_point() -> None:
    found = find_u_shape(SIZES, np.tile([3.0, 1.0, -2.0, -1.0, 0.5], (4, 1)))
    assert found.p == 0 and found.lowest == 2


def test_chance_seldom_finds_a_u() -> None:
    source = np.random.default_rng(2)
    found = [find_u_shape(SIZES, source.normal(size=(6, 5))).p < 0.05 for _ in range(200)]
    assert np.mean(found) <= 0.05


def test_models_with_a_missing_size_are_left_out_and_too_few_is_stated() -> None:
    gain = DIP.copy()
    gain[0, 3] = NAN
    assert (find_u_shape(SIZES, gain).n_models, find_u_shape(SIZES, gain).n_dropped) == (7, 1)
    assert find_u_shape(SIZES, gain).p == pytest.approx(find_u_shape(SIZES, DIP[1:]).p)
    gain[:6, 0] = NAN
    few, short = find_u_shape(SIZES, gain), find_u_shape([50, 100], DIP[:, :2])
    assert "only 2 base models" in few.reason and math.isnan(few.p) and few.lowest == -1
    assert "only 2 sizes" in short.reason and math.isnan(short.p)
    with pytest.raises(ValueError, match="ascending"):
        find_u_shape([100, 50, 200, 400, 800], DIP)
    with pytest.raises(ValueError, match="ascending"):
        find_u_shape(SIZES[:4], DIP)
