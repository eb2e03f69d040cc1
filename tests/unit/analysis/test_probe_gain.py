"""Static ranking by probe: gains, fit, influence of a family, and the place of a new model."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.probe_gain import expect_average_gain, fit_probe_gain, leave_family_out, probe_gain

NAN = math.nan
PROBE = np.array([-10.0, -2.0, 0.0, 5.0, 20.0, 31.0])
AVERAGE = np.array([-3.0, -1.5, -2.5, -0.5, 1.0, 2.5])


def test_probe_gain_is_in_points_over_the_pretrained_model() -> None:
    assert probe_gain([0.6, NAN, 0.5], pretrained=0.55) == pytest.approx([5, NAN, -5], nan_ok=True)
    assert np.isnan(probe_gain([0.6, 0.5], pretrained=NAN)).all()
    with pytest.raises(ValueError, match="divide percent by 100"):
        probe_gain([56.0], pretrained=0.5)


def test_fit_is_scipys() -> None:
    fit = fit_probe_gain(PROBE, AVERAGE)
    oracle = stats.linregress(PROBE, AVERAGE)
    assert (fit.line.slope, fit.line.intercept) == pytest.approx((oracle.slope, oracle.intercept))
    assert (fit.line.slope_se, fit.line.intercept_se) == pytest.approx((oracle.stderr, oracle.intercept_stderr))
    assert (fit.association.pearson, fit.association.pearson_p) == pytest.approx((oracle.rvalue, oracle.pvalue))
    assert fit.association.spearman == pytest.approx(stats.spearmanr(PROBE, AVERAGE).statistic)


@pytest.mark.parametrize(
    ("probe", "average", "reason"),
    [
        ([1, 2], [1, 2], "only 2 pairs"),
        ([NAN] * 6, AVERAGE, "only 0 pairs"),
        ([3] * 6, AVERAGE, "first column is constant"),
        (PROBE, [1] * 6, "second column is constant"),
    ],
)
def test_what_cannot_be_fitted_is_nan_with_the_reason(probe: list[float], average: list[float], reason: str) -> None:
    fit = fit_probe_gain(probe, average)
    assert reason in fit.reason and math.isnan(fit.association.pearson)


def test_a_family_that_carries_the_correlation_is_found() -> None:
    rng = np.random.default_rng(2)
    cloud = rng.normal(size=(2, 40))
    outliers = rng.normal(size=(2, 10)) + 12
    x, y = np.concatenate([cloud, outliers], axis=1)
    families = ["b"] * 20 + ["a"] * 20 + ["fusion run"] * 10
    found = leave_family_out(x, y, families)
    assert found.families == ("a", "b", "fusion run") and found.n_left == (30, 30, 40)
    assert found.most_influential == "fusion run"
    assert found.pearson[2] == pytest.approx(stats.pearsonr(*cloud).statistic)
    assert found.spearman[2] == pytest.approx(stats.spearmanr(*cloud).statistic)
    assert found.pearson[:2].min() > 0.9


def test_one_family_cannot_be_left_out() -> None:
    found = leave_family_out(PROBE, AVERAGE, ["x"] * 6)
    assert "needs at least 2" in found.reason and np.isnan(found.pearson).all() and found.most_influential == ""
    assert "no correlation" in leave_family_out([1, 1, 1], [1, 2, 3], ["x", "y", "z"]).reason
    with pytest.raises(ValueError, match="one per base model"):
        leave_family_out(PROBE, AVERAGE, ["x"])


def test_a_new_model_is_placed_by_its_expected_gain() -> None:
    # an exact line: 1 + 2 x, so the interval has no width
    fit = fit_probe_gain([0, 1, 2, 3], [1, 3, 5, 7])
    found = expect_average_gain(fit, probe=2.5, known_average=[1, 3, 5, 7, NAN])
    assert (found.mean, found.low, found.high) == pytest.approx((6, 6, 6))
    assert (found.rank, found.rank_best, found.rank_worst) == (2, 2, 2)


def test_an_equal_gain_shares_the_place() -> None:
    found = expect_average_gain(fit_probe_gain([0, 1, 2, 3], [1, 3, 5, 7]), probe=2, known_average=[1, 3, 5, 7])
    assert found.mean == 5 and found.rank == 2


def test_a_wide_interval_gives_a_range_of_places() -> None:
    found = expect_average_gain(fit_probe_gain(PROBE, AVERAGE), probe=10.0, known_average=AVERAGE)
    assert found.low < found.mean < found.high
    assert found.rank_best <= found.rank <= found.rank_worst
    assert found.rank == 1 + int((found.mean < AVERAGE).sum())


@pytest.mark.parametrize(
    ("average", "probe", "known", "reason"),
    [(AVERAGE[:2], 1.0, AVERAGE, "only"), (AVERAGE, NAN, AVERAGE, "no probe"), (AVERAGE, 1.0, [NAN], "no ranked")],
)
def test_no_expectation_without_its_parts(average: np.ndarray, probe: float, known: np.ndarray, reason: str) -> None:
    found = expect_average_gain(fit_probe_gain(PROBE[: len(average)], average), probe=probe, known_average=known)
    assert reason in found.reason and math.isnan(found.mean) and found.rank == 0
