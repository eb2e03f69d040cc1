"""Rank-one fit with column levels when cells are missing: alternating least squares, a pure step and a thin loop."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.association import FloatArray
from analysis.gain_matrix import BoolArray, check_gain

DAMPING = 1e-6
NEGLIGIBLE = 1e-14


@dataclass(frozen=True, kw_only=True)
class Factors:
    """fit(i, j) = base(i) * slope(j) + level(j), kept balanced: base sums to 0 and has the norm of slope."""

    base: FloatArray
    """(n_bases,)"""
    slope: FloatArray
    """(n_tasks,)"""
    level: FloatArray
    """(n_tasks,) points"""

    def fitted(self) -> FloatArray:
        """(n_bases, n_tasks), points, also where the gain is missing."""
        return np.asarray(np.outer(self.base, self.slope) + self.level)


@dataclass(frozen=True, kw_only=True)
class AlternatingFit:
    """Best of several starts."""

    factors: Factors
    loss: float
    """Penalised sum of squares at the end."""
    converged: bool
    """Whether the best start stopped because the loss no longer fell."""
    n_steps: int
    """Steps of the best start."""
    start_losses: tuple[float, ...]
    """Loss that each start ended with, the informed start first: far apart means local minima."""


def penalised_loss(gain: FloatArray, seen: BoolArray, factors: Factors, *, ridge: float) -> float:
    """Sum over seen cells of (gain - base * slope - level)^2, plus ridge * (|base|^2 + |slope|^2)."""
    residual = np.where(seen, gain - factors.fitted(), 0.0)
    penalty = ridge * float((factors.base**2).sum() + (factors.slope**2).sum())
    return float((residual**2).sum()) + penalty


def alternating_step(
    gain: FloatArray, seen: BoolArray, factors: Factors, *, ridge: float, damping: float = DAMPING
) -> Factors:
    """One sweep: best base for given slope and level, then best slope and level for given base; the loss never rises.

    Each half minimises the penalised loss plus mu * |new - old|^2 (a proximal term: it bounds the step where the data
    say nothing and vanishes at a fixed point, so it does not bias the answer), mu = damping * mean curvature.
    Centring base into level and balancing the norms leave the fit unchanged and can only lower the penalty.

    Args:
        gain: (n_bases, n_tasks), points; unseen cells are ignored.
        seen: (n_bases, n_tasks) mask; each row and each column has at least one seen cell.
        factors: where to start from.
        ridge: weight of the penalty, not negative, in units of gain.
        damping: relative weight of the proximal term, above zero.
    """
    weight = seen.astype(np.float64)
    value = np.where(seen, gain, 0.0)
    curvature = weight @ factors.slope**2
    mu = damping * float(curvature.mean()) + np.finfo(np.float64).tiny
    pull = (value - weight * factors.level) @ factors.slope
    base = (pull + mu * factors.base) / (curvature + ridge + mu)

    count = weight.sum(axis=0)
    mean_base, mean_value = base @ weight / count, value.sum(axis=0) / count
    curvature = (base**2) @ weight - count * mean_base**2
    mu = damping * float(curvature.mean()) + np.finfo(np.float64).tiny
    pull = base @ value - count * mean_base * mean_value
    slope = (pull + mu * factors.slope) / (np.maximum(curvature, 0.0) + ridge + mu)
    return _balanced(base, slope, mean_value - slope * mean_base)


def fit_alternating(
    gain: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    ridge: float = 0.0,
    n_starts: int = 3,
    max_steps: int = 5000,
    tolerance: float = 1e-10,
) -> AlternatingFit:
    """Minimise the penalised loss over the cells that are present, from several starts.

    min over base, slope, level of sum_seen (gain - base slope - level)^2 + ridge (|base|^2 + |slope|^2)

    Args:
        gain: (n_bases, n_tasks), points, NaN = missing; each row and column has at least one cell.
        rng: generator for the random starts.
        ridge: weight of the penalty, not negative.
        n_starts: the first from the singular value decomposition of the matrix with missing cells at their column's
            mean, the others random. Missing cells can make local minima, which a complete matrix does not have.
        max_steps: per start.
        tolerance: stop when a step lowers the loss by less than this share of the sum of squares about column means.

    Returns:
        AlternatingFit with the lowest loss; ``converged`` False when its start ran out of steps.

    Raises:
        ValueError: a row or column without cells, a negative ridge, or no start.

    Cost: O(n_bases * n_tasks) per step.
    """
    array = check_gain(gain)
    seen = ~np.isnan(array)
    if not (seen.any(axis=0).all() and seen.any(axis=1).all()):
        raise ValueError("got a base model or a target without any gain; expected at least one cell each; leave it out")
    if not (ridge >= 0 and n_starts >= 1):
        raise ValueError(f"got ridge {ridge} and {n_starts} starts; expected ridge of at least 0 and at least 1 start")
    level = np.nanmean(array, axis=0)
    centred = np.where(seen, array - level, 0.0)
    allowed = tolerance * float((centred**2).sum())
    starts = [_informed_start(centred, level, ridge)]
    starts += [_random_start(centred, level, rng) for _ in range(n_starts - 1)]
    runs = [_descend(array, seen, start, ridge=ridge, max_steps=max_steps, allowed=allowed) for start in starts]
    best = min(runs, key=lambda run: run.loss)
    return AlternatingFit(
        factors=best.factors,
        loss=best.loss,
        converged=best.converged,
        n_steps=best.n_steps,
        start_losses=tuple(run.loss for run in runs),
    )


def _descend(
    gain: FloatArray, seen: BoolArray, factors: Factors, *, ridge: float, max_steps: int, allowed: float
) -> AlternatingFit:
    loss = penalised_loss(gain, seen, factors, ridge=ridge)
    for n_steps in range(1, max_steps + 1):
        factors = alternating_step(gain, seen, factors, ridge=ridge)
        before, loss = loss, penalised_loss(gain, seen, factors, ridge=ridge)
        if before - loss <= allowed:
            return AlternatingFit(factors=factors, loss=loss, converged=True, n_steps=n_steps, start_losses=(loss,))
    return AlternatingFit(factors=factors, loss=loss, converged=False, n_steps=max_steps, start_losses=(loss,))


def _balanced(base: FloatArray, slope: FloatArray, level: FloatArray) -> Factors:
    shift = float(base.mean())
    level, base = level + shift * slope, base - shift
    norm_base, norm_slope = math.sqrt(float((base**2).sum())), math.sqrt(float((slope**2).sum()))
    if norm_base * norm_slope <= NEGLIGIBLE * max(1.0, float(np.abs(level).max())):
        return Factors(base=np.zeros_like(base), slope=np.zeros_like(slope), level=level)
    scale = math.sqrt(norm_slope / norm_base)
    return Factors(base=base * scale, slope=slope / scale, level=level)


def _informed_start(centred: FloatArray, level: FloatArray, ridge: float) -> Factors:
    left, singular, right = np.linalg.svd(centred, full_matrices=False)
    root = math.sqrt(max(float(singular[0]) - ridge, 0.0))
    return _balanced(root * left[:, 0], root * right[0], level)


def _random_start(centred: FloatArray, level: FloatArray, rng: np.random.Generator) -> Factors:
    n_bases, n_tasks = centred.shape
    scale = math.sqrt(float(np.abs(centred).mean()))
    base, slope = (rng.normal(0.0, scale, size=(n,)) for n in (n_bases, n_tasks))
    return _balanced(base, slope, level)
