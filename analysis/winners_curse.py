"""What the best of many noisy results is worth: the winner's curse, estimated and taken off."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import integrate, stats

FloatArray = npt.NDArray[np.float64]

FEWEST = 3
"""Base models that shrinkage needs: with fewer, their spread cannot be told from noise."""


@dataclass(frozen=True, kw_only=True)
class ShrunkenGains:
    """Gains drawn towards their mean by the share of their spread that is noise."""

    gain: FloatArray
    """(n_bases,) points; NaN exactly where the gain or its standard error is NaN, or ``reason`` is set."""
    sd: FloatArray
    """(n_bases,) posterior standard deviation, points."""
    center: float
    """Mean of the true gains, points."""
    spread: float
    """Standard deviation of the true gains (the noise taken off), points; 0 where the noise explains all."""
    reason: str = ""


def expected_best_of_noise(se: npt.ArrayLike) -> float:
    """Expected largest gain among base models that all equal the pretrained model.

    E[max_i e_i] for independent e_i ~ N(0, se_i^2) = integral_0^inf (1 - F(x)) dx - integral_-inf^0 F(x) dx with
    F(x) = prod_i Phi(x / se_i). For n equal standard errors it is se times the expected largest of n standard normals
    (0.564 for 2, 0.846 for 3, 2.51 for 100).

    Args:
        se: (n_bases,) standard errors without the pretrained model's part (it moves all gains together), points; NaN and
            0 are left out.
    Returns:
        points; NaN if no standard error is left.
    Source: Harter, Biometrika 48 (1961) 151-165 (the equal case).
    """
    noise = np.asarray(se, dtype=float).ravel()
    noise = noise[np.isfinite(noise) & (noise > 0)]
    if len(noise) == 0:
        return math.nan
    x = np.linspace(-9.0, 9.0, 1801) * noise.max()
    sizes, counts = np.unique(noise, return_counts=True)
    log_f = sum(count * stats.norm.logcdf(x / size) for size, count in zip(sizes, counts, strict=True))
    below = np.exp(log_f)
    above_zero = integrate.simpson(1 - below[x >= 0], x=x[x >= 0])
    return float(above_zero - integrate.simpson(below[x <= 0], x=x[x <= 0]))


def shrink_gains(gain: npt.ArrayLike, se: npt.ArrayLike) -> ShrunkenGains:
    """Empirical Bayes (James-Stein) estimate of the true gains.

    gain_i ~ N(theta_i, se_i^2), theta_i ~ N(c, w^2). With v_i = 1 / se_i^2, m = sum v g / sum v and
    Q = sum v (g - m)^2: w^2 = max(0, (Q - (n - 1)) / (sum v - sum v^2 / sum v)); c = sum g / (se^2 + w^2) / sum 1 /
    (se^2 + w^2); theta_i = c + B_i (g_i - c) with B_i = w^2 / (w^2 + se_i^2), and
    sd_i^2 = B_i se_i^2 + (1 - B_i)^2 / sum 1 / (se^2 + w^2). Selecting the largest does not bias a posterior mean, if
    the normal prior holds: an outstanding model is drawn in too far.

    Args:
        gain: (n_bases,) points, NaN where missing.
        se: (n_bases,) standard errors without the pretrained model's part, points.
    Returns:
        the shrunken gains; all NaN with a reason for fewer than 3 usable base models.
    Raises:
        ValueError: lengths differ.
    Source: Morris, J. Am. Statist. Assoc. 78 (1983) 47-55; DerSimonian and Laird, Control. Clin. Trials 7 (1986) 177-188,
        equation 8 (w^2); Efron, J. Am. Statist. Assoc. 106 (2011) 1602-1614 (selection).
    """
    values, errors = np.asarray(gain, dtype=float), np.asarray(se, dtype=float)
    if values.shape != errors.shape or values.ndim != 1:
        raise ValueError(
            f"got gains of shape {values.shape} and errors of shape {errors.shape}; expected one per base model"
        )
    usable = np.isfinite(values) & np.isfinite(errors) & (errors > 0)
    nothing = np.full(len(values), np.nan)
    if usable.sum() < FEWEST:
        return ShrunkenGains(
            gain=nothing,
            sd=nothing.copy(),
            center=math.nan,
            spread=math.nan,
            reason=f"{int(usable.sum())} base models have a gain with a standard error; shrinkage needs {FEWEST}",
        )
    g, variance = values[usable], errors[usable] ** 2
    weight = 1 / variance
    middle = (weight * g).sum() / weight.sum()
    excess = (weight * (g - middle) ** 2).sum() - (len(g) - 1)
    spread2 = max(0.0, float(excess / (weight.sum() - (weight**2).sum() / weight.sum())))
    total = 1 / (variance + spread2)
    center = float((total * g).sum() / total.sum())
    kept = spread2 / (spread2 + variance)
    shrunken, sd = nothing, nothing.copy()
    shrunken[usable] = center + kept * (g - center)
    sd[usable] = np.sqrt(kept * variance + (1 - kept) ** 2 / total.sum())
    return ShrunkenGains(gain=shrunken, sd=sd, center=center, spread=math.sqrt(spread2))


def winner_bias(gain: npt.ArrayLike, deviations: npt.ArrayLike) -> float:
    """How much too high the best gain is expected to be, by bootstrap.

    bias = mean over draws b of d_{b, j(b)} with j(b) = argmax_j (gain_j + d_bj): in the bootstrap world, where the gains
    are the truth, what the winner shows minus what it is worth. Takes off too little where the observed gains are more
    spread than the true ones, as they always are: a lower bound of the curse in expectation.

    Args:
        gain: (n_bases,) points, NaN where missing.
        deviations: (n_draws, n_bases) bootstrap gain minus observed gain, points.
    Returns:
        points, at least 0 in expectation; NaN without a usable base model or draw.
    Raises:
        ValueError: lengths differ.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 10; for winners, Sun and Bull,
        Genet. Epidemiol. 28 (2005) 352-367.
    """
    values, moved = np.asarray(gain, dtype=float), np.asarray(deviations, dtype=float)
    if moved.ndim != 2 or values.shape != moved.shape[1:]:
        raise ValueError(
            f"got gains of shape {values.shape} and deviations of shape {moved.shape}; expected (n_bases,) and (n_draws, n_bases)"
        )
    usable = np.isfinite(values) & np.isfinite(moved).all(axis=0)
    if not usable.any() or len(moved) == 0:
        return math.nan
    kept = moved[:, usable]
    winner = (values[usable] + kept).argmax(axis=1)
    return float(kept[np.arange(len(kept)), winner].mean())
