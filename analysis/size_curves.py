"""Gain against the size of a training set: average curves, trend per doubling, and the U-shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt
from scipy import stats

from analysis.association import FloatArray, Line, fit_line
from analysis.gain_matrix import check_gain

MIN_SIZES, MIN_MODELS = 3, 3


class Direction(Enum):
    """Where a curve goes with size."""

    RISES = "rises"
    FALLS = "falls"
    UNCLEAR = "unclear"
    """The slope is not distinguishable from 0, or was not computed."""


@dataclass(frozen=True, kw_only=True)
class SizeCurves:
    """Average gain by size, one curve per line of the figure."""

    mean: FloatArray
    """(n_lines, n_sizes), points; NaN where any of the averaged gains is missing."""
    se: FloatArray
    """(n_lines, n_sizes) standard error over the averaged gains; NaN below 2 of them."""


@dataclass(frozen=True, kw_only=True)
class SizeTrend:
    """Straight line of gain on log2(size)."""

    line: Line
    """Slope in points per doubling."""
    p: float
    """Two-sided, slope 0."""
    direction: Direction
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class UShape:
    """Whether gain falls and then rises again with the size of the target's training data."""

    mean: FloatArray
    """(n_sizes,) average gain over the base models used, points."""
    n_models: int
    """Base models measured at every size."""
    n_dropped: int
    lowest: int = -1
    """Inner size (index) with the lowest average gain."""
    drop: float = math.nan
    """Average gain at the first size minus that at ``lowest``, points."""
    rise: float = math.nan
    """Average gain at the last size minus that at ``lowest``, points."""
    p: float = math.nan
    """Of "nowhere inside does it both drop from the first and rise to the last size"."""
    starts_positive: bool = False
    dips_negative: bool = False
    """Whether the average at ``lowest`` is below zero (the pretrained model is then the better start there)."""
    reason: str = ""


def average_curves(gain: npt.ArrayLike) -> SizeCurves:
    """Curves of Figs. 3 and 4: the average over targets (Fig. 3) or base models (Fig. 4) at each size.

    Args:
        gain: (n_lines, n_sizes, n_averaged), points, NaN = missing; an average with a missing part is NaN, because
            sizes would otherwise be compared on different targets.

    Source: "Where to start?", section 6.1, Figs. 3 and 4.
    """
    array = np.asarray(gain, dtype=np.float64)
    if array.ndim != 3 or array.size == 0 or np.isinf(array).any():
        raise ValueError(f"got gains of shape {array.shape}; expected finite (n_lines, n_sizes, n_averaged), not empty")
    n = array.shape[2]
    mean = array.mean(axis=2)
    se = array.std(axis=2, ddof=1) / math.sqrt(n) if n > 1 else np.full(mean.shape, math.nan)
    return SizeCurves(mean=mean, se=se)


def fit_trend(sizes: Sequence[int], gain: npt.ArrayLike, *, alpha: float = 0.05) -> SizeTrend:
    """Points of gain per doubling of the training set, and whether the curve rises or falls.

    Args:
        sizes: n_sizes numbers of examples, above 0.
        gain: (n_sizes,), points, NaN = missing.
        alpha: the slope counts as different from 0 when p is below.

    Returns:
        SizeTrend; fewer than 3 sizes with a gain, or one size only, give NaN and UNCLEAR with the reason.

    Raises:
        ValueError: lengths differ or a size is not positive.
    """
    line = fit_line(np.log2(_check_sizes(sizes)), gain)
    if line.reason:
        return SizeTrend(line=line, p=math.nan, direction=Direction.UNCLEAR, reason=line.reason)
    if line.slope_se == 0:
        p = 0.0 if line.slope else 1.0
    else:
        p = float(2 * stats.t.sf(abs(line.slope) / line.slope_se, line.n - 2))
    direction = Direction.UNCLEAR if p >= alpha else Direction.RISES if line.slope > 0 else Direction.FALLS
    return SizeTrend(line=line, p=p, direction=direction)


def find_u_shape(sizes: Sequence[int], gain: npt.ArrayLike) -> UShape:
    """Test one target for the U-shape: a drop from the smallest size, then a rise to the largest.

    For each inner size k: one-sided paired t over base models of (first - k) and of (last - k); both must hold, so
    p_k is the larger of the two; over the m inner sizes p = min(1, m * min p_k) (intersection-union, then Bonferroni:
    looking for the lowest point in the same data is paid for).

    Args:
        sizes: n_sizes numbers of examples, ascending, above 0.
        gain: (n_bases, n_sizes), points, NaN = missing; a base model with a missing size is left out and counted.

    Returns:
        UShape; fewer than 3 sizes or 3 complete base models give NaN with the reason.

    Raises:
        ValueError: sizes not ascending, or shapes that do not match.

    Source: "Where to start?", section 6.1 and appendix H, which shows three examples and no test; this test is ours.
    """
    at = _check_sizes(sizes)
    array = check_gain(gain)
    if array.shape[1] != at.size or (np.diff(at) <= 0).any():
        raise ValueError(
            f"got sizes {list(sizes)} for gains of shape {array.shape}; expected one ascending size per column"
        )
    complete = array[~np.isnan(array).any(axis=1)]
    n, dropped = complete.shape[0], array.shape[0] - complete.shape[0]
    reason = ""
    if at.size < MIN_SIZES:
        reason = f"only {at.size} sizes: a U-shape needs at least {MIN_SIZES}"
    elif n < MIN_MODELS:
        reason = f"only {n} base models measured at every size: needs at least {MIN_MODELS}"
    mean = complete.mean(axis=0) if n else np.full(at.size, math.nan)
    if reason:
        return UShape(mean=mean, n_models=n, n_dropped=dropped, reason=reason)
    inner = complete[:, 1:-1]
    p_inner = np.maximum(_p_above(complete[:, :1] - inner), _p_above(complete[:, -1:] - inner))
    lowest = 1 + int(np.argmin(mean[1:-1]))
    return UShape(
        mean=mean,
        n_models=n,
        n_dropped=dropped,
        lowest=lowest,
        drop=float(mean[0] - mean[lowest]),
        rise=float(mean[-1] - mean[lowest]),
        p=min(1.0, p_inner.size * float(p_inner.min())),
        starts_positive=bool(mean[0] > 0),
        dips_negative=bool(mean[lowest] < 0),
    )


def _check_sizes(sizes: Sequence[int]) -> FloatArray:
    at = np.asarray(sizes, dtype=np.float64)
    if at.ndim != 1 or at.size == 0 or not (at > 0).all():
        raise ValueError(f"got sizes {list(sizes)}; expected numbers of examples above 0")
    return at


def _p_above(difference: FloatArray) -> FloatArray:
    """One-sided p of mean 0 against above 0 for each column; without any spread 0 or 1 by the sign."""
    n = difference.shape[0]
    mean, sd = difference.mean(axis=0), difference.std(axis=0, ddof=1)
    flat = sd <= 1e-12 * np.abs(difference).max(axis=0, initial=0.0)
    t = mean / np.where(flat, 1.0, sd) * math.sqrt(n)
    return np.where(flat, np.where(mean > 0, 0.0, 1.0), stats.t.sf(t, n - 1))
