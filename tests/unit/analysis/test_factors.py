"""Factors of section 6: sizes, seeds, conditions, architectures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.factors import (
    compare_architectures,
    compare_conditions,
    compare_seeds,
    compare_smallest_targets,
    correlate_size,
)

NAN = math.nan


def test_size_is_correlated_raw_and_on_the_logarithm() -> None:
    size, average = np.array([10.0, 100.0, 1000.0, 10000.0]), np.array([0.0, 1.0, 2.0, 3.0])
    found = correlate_size(size, average)
    assert found.log.pearson == pytest.approx(1)
    assert found.raw.pearson == pytest.approx(stats.pearsonr(size, average).statistic)
    assert "only 2" in correlate_size([1, 2, NAN], [1, 2, 3]).reason
    with pytest.raises(ValueError, match="0 or less"):
        correlate_size([0, 2, 3], [1, 2, 3])


def test_smallest_targets_share_places_with_the_widest() -> None:
    size = [500, 20, 30, NAN, 900, 10]
    spread = [1.0, 6.0, 2.0, 9.0, 3.0, 5.0]
    found = compare_smallest_targets(size, spread, count=2)
    assert found.smallest == (5, 1) and found.widest == (1, 5) and found.n_shared == 2
    # 2 marked of 5, 2 drawn: both marked in 1 of 10 draws
    assert found.p == pytest.approx(1 / 10)
    # count 3: {5, 1, 2} against {1, 5, 4}; at least 2 shared of C(5, 3): (C(3,2) C(2,1) + 1) / 10
    three = compare_smallest_targets(size, spread, count=3)
    assert three.n_shared == 2 and three.p == pytest.approx(7 / 10)


@pytest.mark.parametrize(
    ("size", "spread", "count", "reason"),
    [
        ([1, 2], [1, 2], 2, "only 2 targets"),
        ([5, 5, 5], [1, 2, 3], 1, "tie in training size"),
        ([1, 2, 3], [4, 4, 1], 1, "tie in gain range"),
    ],
)
def test_an_undetermined_list_of_targets_is_stated(
    size: list[float], spread: list[float], count: int, reason: str
) -> None:
    found = compare_smallest_targets(size, spread, count=count)
    assert reason in found.reason and math.isnan(found.p) and found.smallest == ()
    with pytest.raises(ValueError, match="at least 1"):
        compare_smallest_targets(size, spread, count=0)


def test_seeds_are_compared_in_points() -> None:
    source, target = np.array([0.865, 0.87, 0.875, 0.868]), np.array([0.75, 0.79, 0.745, 0.76])
    found = compare_seeds(source, target, noise_sd=1.0)
    assert (found.source_range, found.target_range) == pytest.approx((1.0, 4.5))
    assert found.target_sd == pytest.approx(np.std(100 * target, ddof=1))
    assert found.excess_p == pytest.approx(1 - stats.chi2.cdf(3 * np.var(100 * target, ddof=1), 3))
    assert found.association.pearson == pytest.approx(stats.pearsonr(source, target).statistic)
    assert math.isnan(compare_seeds(source, target).excess_p)


def test_seeds_state_what_they_lack() -> None:
    none, same = compare_seeds([NAN, 0.5], [0.5, NAN]), compare_seeds([0.5] * 4, [0.1, 0.2, 0.3, 0.4])
    assert none.reason and math.isnan(none.target_range) and math.isnan(none.target_sd)
    assert "constant" in same.reason and same.target_range == pytest.approx(30)
    with pytest.raises(ValueError, match="noise_sd"):
        compare_seeds([0.1, 0.2], [0.1, 0.2], noise_sd=0)


def test_unpaired_conditions_are_welchs() -> None:
    good, bad = [3.1, 4.0, 3.9, 3.5, NAN], [2.0, 2.5, 1.7]
    found = compare_conditions(good, bad, pair=False)
    a, b = np.array(good[:4]), np.array(bad)
    va, vb = a.var(ddof=1) / 4, b.var(ddof=1) / 3
    freedom = (va + vb) ** 2 / (va**2 / 3 + vb**2 / 2)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(va + vb)
    assert (found.n_a, found.n_b) == (4, 3) and found.difference == pytest.approx(a.mean() - b.mean())
    assert (found.low, found.high) == pytest.approx((found.difference - half, found.difference + half))
    assert found.p == pytest.approx(2 * stats.t.sf(found.difference / math.sqrt(va + vb), freedom))


def test_paired_conditions_use_differences() -> None:
    with_decay, without = np.array([1.0, 2.0, 4.0, NAN]), np.array([0.5, 1.0, 3.7, 2.0])
    found = compare_conditions(with_decay, without, pair=True)
    difference = (with_decay - without)[:3]
    assert found.n_a == 3 and found.difference == pytest.approx(difference.mean())
    assert found.p == pytest.approx(stats.ttest_1samp(difference, 0).pvalue)


@pytest.mark.parametrize(
    ("a", "b", "pair", "reason"),
    [
        ([1], [2, 3], False, "at least 2 on each side"),
        ([1, NAN], [2, 3], True, "1 pairs"),
        ([1, 1], [2, 2], False, "no variation"),
        ([1, 2], [2, 3], True, "differ by the same"),
        ([], [], False, "0 and 0 values"),
    ],
)
def test_conditions_state_what_they_lack(a: list[float], b: list[float], pair: bool, reason: str) -> None:
    found = compare_conditions(a, b, pair=pair)
    assert reason in found.reason and math.isnan(found.p) and math.isnan(found.difference)


def test_malformed_conditions_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        compare_conditions([1, 2, 3], [1, 2], pair=True)
    with pytest.raises(ValueError, match="between 0 and 1"):
        compare_conditions([1, 2, 3], [1, 2], pair=False, level=2)


def test_architectures_are_compared_by_potential_and_by_averages() -> None:
    source = np.random.default_rng(0)
    first = source.normal(size=(6, 5)) * [1, 2, 3, 4, 5]
    second = source.normal(size=(6, 5)) * [1, 2, 3, 4, 5]
    (found,) = compare_architectures({"t5": second, "bert": first})
    assert (found.first, found.second) == ("bert", "t5")
    for association, a, b in (
        (found.sensitivity, first.max(axis=0), second.max(axis=0)),
        (found.source_average, first.mean(axis=1), second.mean(axis=1)),
        (found.target_average, first.mean(axis=0), second.mean(axis=0)),
    ):
        assert association.pearson == pytest.approx(stats.pearsonr(a, b).statistic)
    assert len(compare_architectures({"a": first, "b": second, "c": first})) == 3


def test_architectures_leave_out_what_is_missing_and_state_what_they_lack() -> None:
    first, second = np.random.default_rng(1).normal(size=(2, 6, 5))
    first[0, 0] = NAN
    (found,) = compare_architectures({"a": first, "b": second})
    assert (found.source_average.n, found.target_average.n, found.sensitivity.n) == (5, 4, 5)
    (small,) = compare_architectures({"a": second[:2, :1], "b": second[:2, :1]})
    assert small.sensitivity.reason and small.source_average.reason and math.isnan(small.target_average.pearson)
    for bad in ({"a": first}, {"a": first, "b": second[:, :3]}):
        with pytest.raises(ValueError, match="at least 2 architectures"):
            compare_architectures(bad)
