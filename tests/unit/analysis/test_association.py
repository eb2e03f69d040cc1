"""Pearson, Spearman and the line against scipy, permutation counts and matrix algebra."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.association import associate, fit_line, predict

RNG = np.random.default_rng(5)
X = RNG.normal(size=30)
Y = 0.7 * X + RNG.normal(size=30)


def test_numbers_of_a_large_sample_are_scipys() -> None:
    found = associate(X, Y)
    assert (found.n, found.n_dropped, found.reason) == (30, 0, "")
    assert (found.pearson, found.pearson_p) == pytest.approx(tuple(stats.pearsonr(X, Y)))
    assert (found.spearman, found.spearman_p) == pytest.approx(tuple(stats.spearmanr(X, Y)))


def test_spearman_p_of_a_perfect_order_counts_permutations() -> None:
    # of the n! orders only the same and the reversed one are as extreme; the t approximation would say p = 0
    assert associate([1, 2, 3], [10, 20, 40]).spearman_p == pytest.approx(2 / 6)
    assert associate([1, 2, 3, 4], [4, 3, 2, 1]).spearman_p == pytest.approx(2 / 24)
    assert associate([1, 2, 3, 4], [4, 3, 2, 1]).spearman == -1


def test_spearman_uses_average_ranks_in_ties() -> None:
    # ranks (1, 2.5, 2.5, 4) against (1, 2, 3, 4): 4.5 / sqrt(4.5 * 5)
    assert associate([1, 2, 2, 3], [1, 2, 3, 4]).spearman == pytest.approx(4.5 / math.sqrt(22.5))


def test_missing_pairs_are_dropped_and_counted() -> None:
    x, y = X.copy(), Y.copy()
    x[3], y[8] = math.nan, math.nan
    keep = np.delete(np.arange(30), [3, 8])
    found = associate(x, y)
    assert (found.n, found.n_dropped) == (28, 2)
    assert found.pearson == pytest.approx(stats.pearsonr(X[keep], Y[keep]).statistic)


def test_line_has_the_errors_of_the_normal_equations() -> None:
    line = fit_line(X, Y)
    design = np.column_stack([np.ones(30), X])
    (intercept, slope), rss, _, _ = np.linalg.lstsq(design, Y)
    covariance = rss[0] / 28 * np.linalg.inv(design.T @ design)
    assert (line.intercept, line.slope) == pytest.approx((intercept, slope))
    assert (line.intercept_se, line.slope_se) == pytest.approx(tuple(np.sqrt(np.diag(covariance))))
    at = np.array([1.0, 2.5])
    half = stats.t.ppf(0.95, 28) * np.sqrt(rss[0] / 28 + at @ covariance @ at)
    expected = predict(line, 2.5, level=0.9)
    assert expected.high - expected.mean == pytest.approx(half)
    assert expected.mean - expected.low == pytest.approx(half)


def test_a_constant_answer_has_a_line_but_no_correlation() -> None:
    line = fit_line([1, 2, 3], [5, 5, 5])
    assert (line.slope, line.intercept, line.slope_se, line.reason) == (0, 5, 0, "")
    found = associate([1, 2, 3], [5, 5, 5])
    assert math.isnan(found.pearson) and "second column is constant" in found.reason


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        ([], [], "only 0 pairs"),
        ([1, 2], [1, 2], "only 2 pairs"),
        ([1, 2, math.nan], [1, 2, 3], "only 2 pairs"),
        ([4, 4, 4], [1, 2, 3], "first column is constant"),
        ([0.1 + 0.2, 0.3, 0.3], [1, 2, 3], "first column is constant"),
    ],
)
def test_what_cannot_be_computed_is_nan_with_the_reason(x: list[float], y: list[float], reason: str) -> None:
    found, line = associate(x, y), fit_line(x, y)
    assert reason in found.reason
    assert all(math.isnan(v) for v in (found.pearson, found.pearson_p, found.spearman, found.spearman_p))
    assert line.reason and math.isnan(line.slope) and math.isnan(line.intercept_se)
    assert math.isnan(predict(line, 1.0).mean)


def test_malformed_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        associate([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="infinite"):
        associate([1, 2, math.inf], [1, 2, 3])
    with pytest.raises(ValueError, match="between 0 and 1"):
        predict(fit_line(X, Y), 0.0, level=95)
