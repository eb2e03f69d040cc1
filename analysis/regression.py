"""Gain without interaction: gain(i, j) = (b_i + t_j) t'_j, against source-only, target-only and shuffled gains."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from analysis.alternating import Factors, fit_alternating
from analysis.association import FloatArray
from analysis.gain_matrix import BoolArray, check_gain

MIN_MODELS, MIN_TARGETS = 3, 2
MIN_CELLS_PER_BASE, MIN_CELLS_PER_TARGET = 2, 3


@dataclass(frozen=True, kw_only=True)
class GainModel:
    """Fit of (b_i + t_j) t'_j = b_i t'_j + c_j; NaN for base models and targets left out, all NaN with a ``reason``.

    Scale and shift of b are free in the model. They are fixed so that b has mean 0, t' has mean square 1 and its sum
    is positive: b_i is then the gain over the average base model on a target of typical sensitivity, in points.
    """

    base_effect: FloatArray
    """(n_bases,) b, points."""
    target_slope: FloatArray
    """(n_tasks,) t', no unit: sensitivity to the choice of base model."""
    target_level: FloatArray
    """(n_tasks,) c_j = t_j t'_j, points: gain of the average base model."""
    target_shift: FloatArray
    """(n_tasks,) t_j = c_j / t'_j, points; NaN where t'_j is 0."""
    fitted: FloatArray
    """(n_bases, n_tasks), points, also for missing cells of fitted base models and targets."""
    used: BoolArray
    """(n_bases, n_tasks) cells that the fit rests on."""
    n_parameters: int
    """Free parameters: n_bases + 2 n_tasks - 2 (scale and shift of b are not free)."""
    mse: float = math.nan
    """Sum of squared residuals over the used cells, divided by their number (no correction for parameters)."""
    ridge: float = 0.0
    method: str = ""
    """"closed form" or "alternating"."""
    converged: bool = False
    n_steps: int = 0
    start_losses: tuple[float, ...] = ()
    """Penalised loss that each start of the alternating fit ended with."""
    second_ratio: float = math.nan
    """Second over first singular value (closed form): near 1, b and t' are hardly determined, though the MSE is."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class RegressionComparison:
    """Mean squared errors in points squared, each the mean over the same used cells."""

    n_cells: int
    full: float = math.nan
    """(b_i + t_j) t'_j"""
    source: float = math.nan
    """b_i: the mean of each base model."""
    target: float = math.nan
    """t_j: the mean of each target."""
    constant: float = math.nan
    """One mean for all: the variance of the gains."""
    shuffled_full_mean: float = math.nan
    shuffled_full_sd: float = math.nan
    shuffled_source_mean: float = math.nan
    shuffled_source_sd: float = math.nan
    shuffled_target_mean: float = math.nan
    shuffled_target_sd: float = math.nan
    n_shuffles: int = 0
    n_not_converged: int = 0
    """Shuffles whose alternating fit ran out of steps."""
    reason: str = ""


def fit_gain_model(
    gain: npt.ArrayLike, *, rng: np.random.Generator, ridge: float = 0.0, n_starts: int = 3
) -> GainModel:
    """Least-squares fit of gain(i, j) = (b_i + t_j) t'_j, in closed form when complete.

    Closed form: c_j = column means, b t'^T = best rank-one approximation of the column-centred matrix (its first
    singular pair). Why this is the global optimum: (b_i + t_j) t'_j = b_i t'_j + c_j with c_j = t_j t'_j, and c_j
    takes any value when t'_j != 0. For given b and t' the best c_j is mean_i(G_ij - b_i t'_j); with it the residual
    is (G_ij - mean_i G_ij) - (b_i - mean b) t'_j. So the loss is |Gc - b t'^T|^2 over b of mean zero, Gc the
    column-centred matrix. By Eckart and Young no rank-one matrix does better than sigma_1 u v^T, and u, in the column
    space of Gc, has mean zero, so it is allowed. Where t'_j = 0 but c_j != 0 (a constant column), the value is an
    infimum, approached by t'_j -> 0 with t_j = c_j / t'_j; then t_j is NaN and c_j is given.

    With a ridge the loss is sum of squares + ridge * (|b|^2 + |t'|^2) for b and t' of equal norm: as the penalty of a
    product d u v^T is at least 2 ridge d, the optimum keeps u and v and shrinks sigma_1 to max(sigma_1 - ridge, 0).

    Args:
        gain: (n_bases, n_tasks), points, NaN = missing. Base models with fewer than 2 cells and targets with fewer
            than 3 are left out (they would be fitted exactly), repeatedly until none is left.
        rng: generator for the starts of the alternating fit; not drawn from when complete.
        ridge: shrinkage of b and t', in points; see ``analysis.shrinkage.choose_ridge``.
        n_starts: starts of the alternating fit.

    Returns:
        GainModel. Fewer than 3 base models, fewer than 2 targets, not more cells than parameters, or cells that fall
        into unconnected blocks give NaN with the reason.

    Raises:
        ValueError: a malformed matrix or a negative ridge.

    Source: "Where to start?", section 5. Differs: SGD there; Eckart and Young (1936) here.
    Cost: one singular value decomposition, or O(cells) per alternating step.
    """
    array = check_gain(gain)
    if not ridge >= 0:
        raise ValueError(f"got ridge {ridge}; expected points of at least 0")
    used = usable_cells(array)
    reason = _unusable(array, used)
    if reason:
        return _empty_model(used, ridge=ridge, reason=reason)
    inner = array[np.ix_(*_fitted_lines(used))]
    if not np.isnan(inner).any():
        factors, second_ratio = fit_closed_form(inner, ridge=ridge)
        return _embed(array, used, factors, ridge=ridge, second_ratio=second_ratio)
    fit = fit_alternating(inner, rng=rng, ridge=ridge, n_starts=n_starts)
    return _embed(
        array,
        used,
        fit.factors,
        ridge=ridge,
        converged=fit.converged,
        n_steps=fit.n_steps,
        start_losses=fit.start_losses,
    )


def fit_closed_form(gain: FloatArray, *, ridge: float = 0.0) -> tuple[Factors, float]:
    """Optimal factors of a complete matrix (proof: fit_gain_model), and the ratio sigma_2 / sigma_1 (NaN for 0/0)."""
    level = gain.mean(axis=0)
    left, singular, right = np.linalg.svd(gain - level, full_matrices=False)
    negligible = 1e-12 * max(1.0, float(np.abs(gain).max()))
    root = math.sqrt(max(float(singular[0]) - ridge, 0.0)) if singular[0] > negligible else 0.0
    ratio = float(singular[1] / singular[0]) if singular[0] > negligible else math.nan
    return Factors(base=root * left[:, 0], slope=root * right[0], level=level), ratio


def compare_regressions(
    gain: npt.ArrayLike, *, rng: np.random.Generator, n_shuffles: int = 100, n_starts: int = 2
) -> RegressionComparison:
    """MSE of the full model, of source only and target only, and of all three on shuffled gains.

    mse = sum over used cells of (gain - fit)^2 / number of used cells. A shuffle puts the gains of all used cells
    in random places (missing cells stay) and fits again.

    Args:
        gain: (n_bases, n_tasks), points, NaN = missing.
        rng: generator.
        n_shuffles: at least 2.
        n_starts: starts of the alternating fit where cells are missing.

    Returns:
        RegressionComparison; the reasons of fit_gain_model.

    Raises:
        ValueError: a malformed matrix, or fewer than 2 shuffles.

    Source: "Where to start?", section 5 (4.2 against 10.4, 8.2 and shuffled 9.6 in-house). Note: these are errors of
    fit, and the full model has the most parameters; ``analysis.shrinkage.choose_ridge`` gives errors on held-out cells.
    """
    array = check_gain(gain)
    if n_shuffles < 2:
        raise ValueError(f"got {n_shuffles} shuffles; expected at least 2 for a standard deviation")
    model = fit_gain_model(array, rng=rng, n_starts=n_starts)
    if model.reason:
        return RegressionComparison(n_cells=int(model.used.sum()), reason=model.reason)
    inner = np.where(model.used, array, math.nan)[np.ix_(*_fitted_lines(model.used))]
    seen = ~np.isnan(inner)
    shuffled, not_converged = [], 0
    for _ in range(n_shuffles):
        moved = inner.copy()
        moved[seen] = rng.permutation(inner[seen])
        full = fit_gain_model(moved, rng=rng, n_starts=n_starts)
        not_converged += not full.converged
        shuffled.append((full.mse, mean_error(moved, axis=1), mean_error(moved, axis=0)))
    means, sds = np.mean(shuffled, axis=0), np.std(shuffled, axis=0, ddof=1)
    return RegressionComparison(
        n_cells=int(seen.sum()),
        full=model.mse,
        source=mean_error(inner, axis=1),
        target=mean_error(inner, axis=0),
        constant=float(np.nanvar(inner)),
        shuffled_full_mean=float(means[0]),
        shuffled_full_sd=float(sds[0]),
        shuffled_source_mean=float(means[1]),
        shuffled_source_sd=float(sds[1]),
        shuffled_target_mean=float(means[2]),
        shuffled_target_sd=float(sds[2]),
        n_shuffles=n_shuffles,
        n_not_converged=not_converged,
    )


def mean_error(gain: FloatArray, *, axis: int) -> float:
    """Mean squared distance of the present cells from the mean of their row (axis 1: source only) or column (axis 0)."""
    return float(np.nanmean((gain - np.nanmean(gain, axis=axis, keepdims=True)) ** 2))


def usable_cells(gain: FloatArray) -> BoolArray:
    """Cells left when base models with fewer than 2 cells and targets with fewer than 3 are dropped, to the end."""
    used = ~np.isnan(gain)
    while True:
        keep = used & (used.sum(axis=1) >= MIN_CELLS_PER_BASE)[:, None] & (used.sum(axis=0) >= MIN_CELLS_PER_TARGET)
        if (keep == used).all():
            return used
        used = keep


def _unusable(gain: FloatArray, used: BoolArray) -> str:
    rows, columns = _fitted_lines(used)
    seen_bases, seen_tasks = (int((~np.isnan(gain)).any(axis=axis).sum()) for axis in (1, 0))
    if seen_bases < MIN_MODELS or seen_tasks < MIN_TARGETS:
        return f"gains of {seen_bases} base models on {seen_tasks} targets: needs {MIN_MODELS} and {MIN_TARGETS}"
    n_bases, n_tasks, n_cells = int(rows.sum()), int(columns.sum()), int(used.sum())
    if n_bases < MIN_MODELS or n_tasks < MIN_TARGETS:
        return (
            f"{n_bases} base models with {MIN_CELLS_PER_BASE} gains and {n_tasks} targets with {MIN_CELLS_PER_TARGET}"
            f" are left: needs {MIN_MODELS} and {MIN_TARGETS}"
        )
    n_parameters = n_bases + 2 * n_tasks - 2
    if n_cells <= n_parameters:
        return f"{n_cells} gains for {n_parameters} parameters: needs more gains than parameters"
    row, column = np.nonzero(used)
    links = coo_array((np.ones(row.size), (row, used.shape[0] + column)), shape=(sum(used.shape),) * 2)
    labels = connected_components(links, directed=False)[1]
    n_blocks = np.unique(labels[np.concatenate([rows, columns])]).size
    if n_blocks > 1:
        return f"the gains fall into {n_blocks} blocks without a common base model or target: not comparable"
    return ""


def _empty_model(used: BoolArray, *, ridge: float, reason: str) -> GainModel:
    base, task = (np.full(n, math.nan) for n in used.shape)
    return GainModel(
        base_effect=base, target_slope=task, target_level=task, target_shift=task, fitted=np.full(used.shape, math.nan),
        used=used, n_parameters=0, ridge=ridge, reason=reason,
    )  # fmt: skip


def _normalised(factors: Factors) -> Factors:
    """Mean square of slope 1 and its sum positive; both solvers give a base of mean 0 already."""
    mean_square = float((factors.slope**2).mean())
    if mean_square == 0:
        return Factors(base=np.zeros_like(factors.base), slope=np.ones_like(factors.slope), level=factors.level)
    total = float(factors.slope.sum())
    lead = total if abs(total) > 1e-9 * math.sqrt(mean_square) else float(factors.slope[np.argmax(factors.slope != 0)])
    scale = math.copysign(math.sqrt(mean_square), lead)
    return Factors(base=factors.base * scale, slope=factors.slope / scale, level=factors.level)


def _embed(
    gain: FloatArray,
    used: BoolArray,
    factors: Factors,
    *,
    ridge: float,
    second_ratio: float = math.nan,
    converged: bool = True,
    n_steps: int = 0,
    start_losses: tuple[float, ...] = (),
) -> GainModel:
    """Normalise the factors and put them back at their places among the base models and targets left out."""
    rows, columns = _fitted_lines(used)
    model = _normalised(factors)
    base = _place(model.base, rows)
    slope, level = _place(model.slope, columns), _place(model.level, columns)
    fitted = np.outer(base, slope) + level
    # a slope that is zero up to rounding leaves t_j undetermined
    shift = np.divide(level, slope, out=np.full(slope.shape, math.nan), where=np.abs(slope) > 1e-9)
    return GainModel(
        base_effect=base,
        target_slope=slope,
        target_level=level,
        target_shift=shift,
        fitted=fitted,
        used=used,
        n_parameters=int(rows.sum() + 2 * columns.sum() - 2),
        mse=float(((gain - fitted)[used] ** 2).mean()),
        ridge=ridge,
        method="alternating" if start_losses else "closed form",
        converged=converged,
        n_steps=n_steps,
        start_losses=start_losses,
        second_ratio=second_ratio,
    )


def _fitted_lines(used: BoolArray) -> tuple[BoolArray, BoolArray]:
    """Rows and columns with any used cell."""
    return np.asarray(used.any(axis=1)), np.asarray(used.any(axis=0))


def _place(values: FloatArray, where: BoolArray) -> FloatArray:
    full = np.full(where.shape, math.nan)
    full[where] = values
    return full
