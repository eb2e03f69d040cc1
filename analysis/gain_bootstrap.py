"""Intervals for the coefficients of the gain model, by resampling residuals within each target."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.association import FloatArray
from analysis.gain_matrix import check_gain
from analysis.regression import GainModel, fit_gain_model


@dataclass(frozen=True, kw_only=True)
class GainIntervals:
    """Basic bootstrap intervals beside the fit itself; low and high are NaN where the fit is."""

    model: GainModel
    base_low: FloatArray
    base_high: FloatArray
    """(n_bases,) b_i, points."""
    slope_low: FloatArray
    slope_high: FloatArray
    """(n_tasks,) t'_j."""
    level_low: FloatArray
    level_high: FloatArray
    """(n_tasks,) c_j = t_j t'_j, points."""
    level: float
    n_draws: int
    reason: str = ""


def bootstrap_gain_model(
    gain: npt.ArrayLike, *, rng: np.random.Generator, n_draws: int = 200, level: float = 0.95, ridge: float = 0.0
) -> GainIntervals:
    """Bootstrap intervals of b, t' and c in gain(i, j) = b_i t'_j + c_j.

    Each draw adds to the fitted value of every cell a residual drawn with replacement from the same target (targets
    differ widely in noise) and fits again. As a fit shrinks residuals, each is divided by sqrt(1 - h) with the
    leverage h_ij = 1/n_j + b_i^2 / sum b^2 + t'_j^2 / sum t'^2 (sums over the cells seen). Draws are turned to the sign
    of the fit. The interval is the basic one, 2 fit - upper quantile to 2 fit - lower quantile, because noise in the
    first singular pair pulls all draws of t' to one side, and percentiles would repeat that bias instead of undoing it.

    Args:
        gain: (n_bases, n_tasks), points, NaN = missing.
        rng: generator.
        n_draws: at least 20.
        level: nominal probability of an interval, in (0, 1).
        ridge: as in fit_gain_model; a shrunken fit is biased towards 0, and its intervals with it.

    Returns:
        GainIntervals; the reasons of fit_gain_model, with NaN intervals.

    Raises:
        ValueError: a malformed matrix, too few draws, or a level outside (0, 1).

    Source: residual bootstrap, Efron and Tibshirani (1993), chapter 9; Davison and Hinkley (1997), section 6.2.3
    (leverage) and 5.2 (basic interval); not in the paper. Residuals hold the interaction of source and target together
    with seed noise, so the intervals cover both. In simulations with noise as large as the effects (22 x 22 to
    318 x 36, noise differing between targets) nominal 0.95 covers b and c 0.91 to 0.96 of the time and t' 0.87 to 0.93,
    with 15 % of the cells missing t' 0.83; where b t'^T hardly stands out of the residuals (``model.second_ratio`` 0.7)
    t' only 0.75.
    Cost: n_draws fits.
    """
    array = check_gain(gain)
    if n_draws < 20:
        raise ValueError(f"got {n_draws} draws; expected at least 20 for percentiles")
    if not 0 < level < 1:
        raise ValueError(f"got level {level}; expected a probability between 0 and 1, for example 0.95")
    model = fit_gain_model(array, rng=rng, ridge=ridge)
    if model.reason:
        return _intervals(model, [], level)
    residual = np.where(model.used, array - model.fitted, math.nan) / np.sqrt(1 - _leverage(model))
    residual -= _column_means(residual)
    draws = [_draw(model, residual, rng) for _ in range(n_draws)]
    return _intervals(model, draws, level)


def _leverage(model: GainModel) -> FloatArray:
    """(n_bases, n_tasks) pull of each cell on its own fitted value, at most 0.95."""
    base, slope = (np.where(np.isnan(each), 0.0, each) for each in (model.base_effect, model.target_slope))
    used = model.used.astype(np.float64)
    share_level = 1 / np.maximum(used.sum(axis=0), 1)
    share_base = base[:, None] ** 2 / np.maximum(base**2 @ used, np.finfo(np.float64).tiny)
    share_slope = slope**2 / np.maximum(used @ slope**2, np.finfo(np.float64).tiny)[:, None]
    return np.minimum(share_level + share_base + share_slope, 0.95)


def _column_means(values: FloatArray) -> FloatArray:
    n = (~np.isnan(values)).sum(axis=0)
    return np.where(n > 0, np.nansum(values, axis=0) / np.maximum(n, 1), math.nan)


def _draw(
    model: GainModel, residual: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray]:
    sample = np.full(residual.shape, math.nan)
    for j in np.flatnonzero(model.used.any(axis=0)):
        seen = model.used[:, j]
        sample[seen, j] = model.fitted[seen, j] + rng.choice(residual[seen, j], size=int(seen.sum()))
    again = fit_gain_model(sample, rng=rng, ridge=model.ridge, n_starts=1)
    agreement = np.nansum(again.target_slope * model.target_slope)
    sign = -1.0 if agreement < 0 else 1.0
    return sign * again.base_effect, sign * again.target_slope, again.target_level


def _intervals(model: GainModel, draws: list[tuple[FloatArray, FloatArray, FloatArray]], level: float) -> GainIntervals:
    fits = (model.base_effect, model.target_slope, model.target_level)
    if not draws:
        bounds = [(np.full_like(fit, math.nan), np.full_like(fit, math.nan)) for fit in fits]
    else:
        tails = ((1 + level) / 2, (1 - level) / 2)
        # what was left out of the fit stays NaN: a quantile of NaN is NaN
        quantiles = [np.quantile(np.stack(part), tails, axis=0) for part in zip(*draws, strict=True)]
        bounds = [(2 * fit - high, 2 * fit - low) for fit, (high, low) in zip(fits, quantiles, strict=True)]
    (base_low, base_high), (slope_low, slope_high), (level_low, level_high) = bounds
    return GainIntervals(
        model=model,
        base_low=base_low,
        base_high=base_high,
        slope_low=slope_low,
        slope_high=slope_high,
        level_low=level_low,
        level_high=level_high,
        level=level,
        n_draws=len(draws),
        reason=model.reason,
    )
