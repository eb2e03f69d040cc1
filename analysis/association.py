"""How two columns of numbers go together: Pearson, Spearman and the least-squares line, or the reason why not."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

FloatArray = npt.NDArray[np.float64]

MIN_PAIRS = 3
EXACT_SPEARMAN_PAIRS = 8


@dataclass(frozen=True, kw_only=True)
class Association:
    """Correlation of two columns; every number is NaN exactly when ``reason`` names the requirement that failed."""

    n: int
    """Pairs with both numbers present."""
    n_dropped: int
    """Pairs left out because a number was missing."""
    pearson: float = math.nan
    pearson_p: float = math.nan
    """Two-sided, Student's t with n - 2 degrees of freedom."""
    spearman: float = math.nan
    spearman_p: float = math.nan
    """Two-sided; exact over all orders for n <= 8, Student's t above."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Ordinary least squares y = intercept + slope * x; NaN exactly when ``reason`` names the requirement that failed."""

    n: int
    slope: float = math.nan
    intercept: float = math.nan
    slope_se: float = math.nan
    intercept_se: float = math.nan
    residual_sd: float = math.nan
    """Residual standard deviation with n - 2 degrees of freedom, in units of y."""
    mean_x: float = math.nan
    sum_squares_x: float = math.nan
    """Sum of squared deviations of x from its mean."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Expected value of the line at given x and the interval for one new observation there."""

    mean: FloatArray
    low: FloatArray
    high: FloatArray


def is_constant(values: FloatArray) -> bool:
    """Whether all values agree to about 12 digits, so that a correlation with them has no meaning."""
    return bool(np.ptp(values) <= 1e-12 * np.max(np.abs(values), initial=0.0))


def paired(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[FloatArray, FloatArray, int]:
    """The pairs with both numbers present, and how many were left out.

    Raises: ValueError when the columns are not one-dimensional, differ in length, or hold an infinite value.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"got shapes {a.shape} and {b.shape}; expected two columns of one length; pair them first")
    if np.isinf(a).any() or np.isinf(b).any():
        raise ValueError("got an infinite value; expected numbers or NaN for missing; mark unusable values as NaN")
    keep = ~(np.isnan(a) | np.isnan(b))
    return a[keep], b[keep], int((~keep).sum())


def associate(x: npt.ArrayLike, y: npt.ArrayLike) -> Association:
    """Pearson's r and Spearman's rho of two columns, with two-sided p.

    Args:
        x, y: (n,), any unit; NaN = missing, and the pair is left out and counted.

    Returns:
        Association. Fewer than 3 complete pairs, or a constant column, gives NaN with the reason.

    Raises:
        ValueError: shapes that do not match, or infinite values.

    Source: "Where to start?", sections 4.1 and 4.2. Differs: Spearman's p is exact for n <= 8, where the t
    approximation returns p = 0 for a perfect order.
    """
    a, b, dropped = paired(x, y)
    reason = _unusable(a, b)
    if reason:
        return Association(n=a.size, n_dropped=dropped, reason=reason)
    pearson = stats.pearsonr(a, b)
    rank_a, rank_b = stats.rankdata(a), stats.rankdata(b)
    spearman = float(np.clip(np.corrcoef(rank_a, rank_b)[0, 1], -1.0, 1.0))
    if a.size <= EXACT_SPEARMAN_PAIRS:
        spearman_p = _exact_p(rank_a, rank_b, spearman)
    else:
        spearman_p = float(stats.spearmanr(a, b).pvalue)
    return Association(
        n=a.size,
        n_dropped=dropped,
        pearson=float(pearson.statistic),
        pearson_p=float(pearson.pvalue),
        spearman=spearman,
        spearman_p=spearman_p,
    )


def fit_line(x: npt.ArrayLike, y: npt.ArrayLike) -> Line:
    """Ordinary least squares of y on x with standard errors.

    slope = Sxy / Sxx, intercept = mean(y) - slope * mean(x), s^2 = RSS / (n - 2), se(slope) = s / sqrt(Sxx),
    se(intercept) = s * sqrt(1/n + mean(x)^2 / Sxx).

    Args:
        x, y: (n,), any unit; NaN = missing, and the pair is left out.

    Returns:
        Line. Fewer than 3 complete pairs, or constant x, gives NaN with the reason.

    Source: "Where to start?", appendix F.
    """
    a, b, _ = paired(x, y)
    if a.size < MIN_PAIRS:
        return Line(n=a.size, reason=_too_few(a.size))
    if is_constant(a):
        return Line(n=a.size, reason="x is constant: a slope needs at least two different values")
    mean_x, mean_y = float(a.mean()), float(b.mean())
    sxx = float(((a - mean_x) ** 2).sum())
    slope = float(((a - mean_x) * (b - mean_y)).sum()) / sxx
    intercept = mean_y - slope * mean_x
    residual = b - intercept - slope * a
    sd = math.sqrt(float((residual**2).sum()) / (a.size - 2))
    return Line(
        n=a.size,
        slope=slope,
        intercept=intercept,
        slope_se=sd / math.sqrt(sxx),
        intercept_se=sd * math.sqrt(1 / a.size + mean_x**2 / sxx),
        residual_sd=sd,
        mean_x=mean_x,
        sum_squares_x=sxx,
    )


def predict(line: Line, x: npt.ArrayLike, *, level: float = 0.95) -> Prediction:
    """Value of the line at x and the interval that one new observation falls into with probability ``level``.

    mean +- t(n - 2) * s * sqrt(1 + 1/n + (x - mean_x)^2 / Sxx), under normal errors of equal variance.

    Args:
        line: a fitted Line; one with a reason gives NaN.
        x: any shape.
        level: in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"got level {level}; expected a probability between 0 and 1, for example 0.95")
    at = np.asarray(x, dtype=np.float64)
    mean = line.intercept + line.slope * at
    if line.reason:
        missing = np.full(at.shape, math.nan)
        return Prediction(mean=missing, low=missing, high=missing)
    spread = line.residual_sd * np.sqrt(1 + 1 / line.n + (at - line.mean_x) ** 2 / line.sum_squares_x)
    half = float(stats.t.ppf(0.5 + level / 2, line.n - 2)) * spread
    return Prediction(mean=np.asarray(mean), low=np.asarray(mean - half), high=np.asarray(mean + half))


def _too_few(n: int) -> str:
    return f"only {n} pairs with both numbers: needs at least {MIN_PAIRS}"


def _unusable(a: FloatArray, b: FloatArray) -> str:
    if a.size < MIN_PAIRS:
        return _too_few(a.size)
    if is_constant(a):
        return "the first column is constant: a correlation needs variation in both"
    if is_constant(b):
        return "the second column is constant: a correlation needs variation in both"
    return ""


def _exact_p(rank_a: FloatArray, rank_b: FloatArray, observed: float) -> float:
    """Share of all n! orders of b whose |rho| is at least the observed one (ties by average rank)."""
    orders = np.array(list(itertools.permutations(range(rank_a.size))))
    centred_a, centred_b = rank_a - rank_a.mean(), rank_b - rank_b.mean()
    scale = math.sqrt(float((centred_a**2).sum() * (centred_b**2).sum()))
    rho = centred_b[orders] @ centred_a / scale
    return float(np.mean(np.abs(rho) >= abs(observed) - 1e-9))
