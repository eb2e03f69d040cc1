"""How far to shrink the gain model, chosen on held-out cells, and what each model is worth on cells it has not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.association import FloatArray
from analysis.gain_matrix import IntArray, check_gain
from analysis.regression import GainModel, fit_gain_model

FRACTIONS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
"""Ridges tried by default, as shares of the first singular value: 0 is no shrinkage, 1 leaves target levels only."""


@dataclass(frozen=True, kw_only=True)
class RidgeChoice:
    """Mean squared errors on held-out cells, points squared, all over the same cells."""

    ridge: float
    """The ridge with the least held-out error; NaN exactly when ``reason`` names the failed requirement."""
    grid: FloatArray
    """(n_ridges,) ridges tried, ascending, in points."""
    held_out_error: FloatArray
    """(n_ridges,) error of the gain model under each ridge."""
    held_out_se: FloatArray
    """(n_ridges,) its standard error over cells."""
    source_error: float = math.nan
    """Held-out error of b_i alone (means over the cells of the base model that were kept)."""
    target_error: float = math.nan
    """Held-out error of t_j alone."""
    n_scored: int = 0
    """Held-out cells that every model could predict."""
    n_unscored: int = 0
    """Held-out cells whose base model or target was left with too few others."""
    n_folds: int = 0
    reason: str = ""


def choose_ridge(
    gain: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    grid: Sequence[float] | None = None,
    n_folds: int | None = 5,
) -> RidgeChoice:
    """Choose the ridge of the gain model by cross-validation over cells.

    The cells used by the fit are dealt at random into folds; each fold is predicted by models fitted on the others.

    Args:
        gain: (n_bases, n_tasks), points, NaN = missing.
        rng: generator for the folds and the starts of the fits.
        grid: ridges in points, not negative; default FRACTIONS of the first singular value of the column-centred
            matrix (missing cells at their column's mean).
        n_folds: at least 2; None for leave-one-out (one fit per cell and ridge: for small matrices).

    Returns:
        RidgeChoice; the reasons of fit_gain_model, or no cell that all models could predict.

    Raises:
        ValueError: a malformed matrix, grid or number of folds.

    Cost: n_folds * len(grid) alternating fits.
    Source: the paper compares errors of fit only; held-out cells make models of different size comparable. Without a
    ridge the error can be enormous: where one target rules t', a base model whose cell there is held out is placed by
    targets of almost no slope.
    """
    array = check_gain(gain)
    whole = fit_gain_model(array, rng=rng)
    ridges = _grid(array, whole, grid)
    cells = np.flatnonzero(whole.used)
    if whole.reason:
        missing = np.full(ridges.size, math.nan)
        return RidgeChoice(
            ridge=math.nan, grid=ridges, held_out_error=missing, held_out_se=missing, reason=whole.reason
        )
    folds = _deal(cells, n_folds, rng)
    used = np.where(whole.used, array, math.nan)
    errors = np.full((array.size, ridges.size + 2), math.nan)
    for fold in folds:
        kept = used.copy()
        kept.ravel()[fold] = math.nan
        predicted = [fit_gain_model(kept, rng=rng, ridge=float(ridge), n_starts=1).fitted for ridge in ridges]
        predicted += [_means(kept, axis=1), _means(kept, axis=0)]
        errors[fold] = np.stack([(used - each).ravel()[fold] for each in predicted], axis=1) ** 2
    return _conclude(errors[cells], ridges, len(folds))


def _grid(gain: FloatArray, whole: GainModel, grid: Sequence[float] | None) -> FloatArray:
    if grid is not None:
        ridges = np.unique(np.asarray(grid, dtype=np.float64))
        if ridges.size == 0 or not (ridges >= 0).all() or np.isinf(ridges).any():
            raise ValueError(f"got ridges {list(grid)}; expected finite points of at least 0")
        return ridges
    if whole.reason:
        return np.full(len(FRACTIONS), math.nan)
    inner = gain[np.ix_(whole.used.any(axis=1), whole.used.any(axis=0))]
    centred = inner - np.nanmean(inner, axis=0)
    return np.array(FRACTIONS) * float(np.linalg.norm(np.where(np.isnan(centred), 0.0, centred), ord=2))


def _deal(cells: IntArray, n_folds: int | None, rng: np.random.Generator) -> list[IntArray]:
    n = cells.size if n_folds is None else n_folds
    if not 2 <= n <= cells.size:
        raise ValueError(f"got {n} folds for {cells.size} cells; expected 2 to the number of cells, or None")
    return np.array_split(rng.permutation(cells), n)


def _means(gain: FloatArray, *, axis: int) -> FloatArray:
    """Mean of the present cells of each row (axis 1) or column (axis 0), at every cell; NaN where there is none."""
    n = (~np.isnan(gain)).sum(axis=axis, keepdims=True)
    mean = np.where(n > 0, np.nansum(gain, axis=axis, keepdims=True) / np.maximum(n, 1), math.nan)
    return np.broadcast_to(mean, gain.shape)


def _conclude(errors: FloatArray, ridges: FloatArray, n_folds: int) -> RidgeChoice:
    scored = ~np.isnan(errors).any(axis=1)
    n = int(scored.sum())
    if n < 2:
        missing = np.full(ridges.size, math.nan)
        return RidgeChoice(
            ridge=math.nan, grid=ridges, held_out_error=missing, held_out_se=missing, n_unscored=errors.shape[0],
            n_folds=n_folds, reason=f"{n} held-out cells could be predicted: needs at least 2",
        )  # fmt: skip
    mean = errors[scored].mean(axis=0)
    return RidgeChoice(
        ridge=float(ridges[int(np.argmin(mean[: ridges.size]))]),
        grid=ridges,
        held_out_error=mean[: ridges.size],
        held_out_se=errors[scored].std(axis=0, ddof=1)[: ridges.size] / math.sqrt(n),
        source_error=float(mean[-2]),
        target_error=float(mean[-1]),
        n_scored=n,
        n_unscored=errors.shape[0] - n,
        n_folds=n_folds,
    )
