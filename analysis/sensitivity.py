"""Which target tasks gain from a better start at all: max-gain against the gain of one strong model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.association import Association, FloatArray, associate
from analysis.gain_matrix import IntArray, average_gain, check_gain

MIN_MODELS = 3


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Potential of each target and how well one strong base model reveals it; arrays are (n_tasks,)."""

    strong: int
    """Row of the strong base model; -1 when none could be chosen."""
    strong_gain: FloatArray
    """Gain of the strong base model, points."""
    max_gain: FloatArray
    """Best gain over the base models, points; NaN where no base model was measured."""
    gain_range: FloatArray
    """Best minus worst gain over all base models, points (section 6.1)."""
    n_models: IntArray
    """Base models that the maximum was taken over: fewer models, lower maximum."""
    association: Association
    """Strong gain against max-gain over the targets."""
    reason: str = ""
    """Names the requirement that failed; then ``association`` holds no number."""


def measure_sensitivity(gain: npt.ArrayLike, *, strong: int | None = None, exclude_strong: bool = False) -> Sensitivity:
    """Max-gain of each target against the gain of one strong base model.

    max_gain(t) = max over m of gain(m, t); correlated over targets with gain(strong, t).

    Args:
        gain: (n_bases, n_tasks), points, NaN = missing.
        strong: row of the strong base model (the paper takes MNLI); default: the best by average gain among the
            base models measured on every task.
        exclude_strong: leave the strong model out of the maximum. With it inside, as in the paper, the two columns
            share a part (on targets where it is the best they are equal), which raises the correlation.

    Returns:
        Sensitivity. Fewer than 3 base models, no complete base model to choose from, fewer than 3 targets or a
        constant column give NaN with the reason.

    Raises:
        ValueError: a malformed matrix, or ``strong`` outside of it.

    Source: "Where to start?", sections 2 and 4.1. Note: a maximum over noisy gains is biased upwards, the more the
    noisier the target; ``analysis.lost_gain.simulate_noise_floor`` gives the size of that part.
    """
    array = check_gain(gain)
    n_bases, n_tasks = array.shape
    if strong is not None and not 0 <= strong < n_bases:
        raise ValueError(f"got strong model row {strong}; expected 0 to {n_bases - 1}")
    reason = "" if n_bases >= MIN_MODELS else f"only {n_bases} base models: needs at least {MIN_MODELS}"
    chosen = _best_by_average(array) if strong is None else strong
    if chosen < 0 and not reason:
        reason = "no base model has a gain on every task, so none is the best by average: name the strong model"
    pool = np.delete(array, chosen, axis=0) if exclude_strong and chosen >= 0 else array
    strong_gain = array[chosen] if chosen >= 0 else np.full(n_tasks, np.nan)
    max_gain = _extreme(pool, 1.0)
    missing = np.full(n_tasks, np.nan)
    association = associate(missing, missing) if reason else associate(strong_gain, max_gain)
    return Sensitivity(
        strong=chosen,
        strong_gain=strong_gain,
        max_gain=max_gain,
        gain_range=_extreme(array, 1.0) - _extreme(array, -1.0),
        n_models=(~np.isnan(pool)).sum(axis=0).astype(np.int64),
        association=association,
        reason=reason or association.reason,
    )


def _best_by_average(gain: FloatArray) -> int:
    average = average_gain(gain)
    return -1 if np.isnan(average).all() else int(np.nanargmax(average))


def _extreme(gain: FloatArray, sign: float) -> FloatArray:
    """Largest (sign 1) or smallest (sign -1) number of each column, NaN for a column without any."""
    signed = np.where(np.isnan(gain), -np.inf, sign * gain).max(axis=0, initial=-np.inf)
    return np.where(np.isinf(signed), np.nan, sign * signed)
