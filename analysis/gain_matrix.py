"""The gain matrix as Fig. 1 shows it: which cells are significant, in which order, and who beats the pretrained model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt
from scipy import stats

from analysis.association import FloatArray

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

POINTS = 100.0


class Spread(Enum):
    """Which standard deviation a gain is held against."""

    CELL = "cell"
    """Standard deviation (ddof 1) over the seeds of the very cell, as in Fig. 5."""
    POOLED = "pooled"
    """Per task, the pooled standard deviation over the seeds of all base models: steadier with few seeds."""
    STANDARD_ERROR = "standard_error"
    """Standard error of the gain: sqrt(sd^2/n of the cell + sd^2/n of the pretrained model on that task)."""


@dataclass(frozen=True, kw_only=True)
class Significance:
    """Which cells differ from the pretrained model; all masks are (n_bases, n_tasks)."""

    better: BoolArray
    """Gain above ``n_std`` standard deviations: the italic cells of Fig. 1."""
    worse: BoolArray
    """Gain below minus ``n_std`` standard deviations."""
    undecided: BoolArray
    """Gain present, but no positive standard deviation to hold it against (one seed, or all seeds equal)."""
    std: FloatArray
    """(n_bases, n_tasks) the standard deviation used, in points; NaN where there is none."""
    reason: str = ""
    """Set when no cell at all could be decided."""


@dataclass(frozen=True, kw_only=True)
class ShareBetter:
    """How many base models gain on average; ``low`` and ``high`` are Wilson's interval for the share."""

    n_models: int
    """Base models with a gain on every task."""
    n_better: int
    n_incomplete: int
    """Base models left out because a task is missing: their averages are over other tasks."""
    share: float = math.nan
    low: float = math.nan
    high: float = math.nan
    reason: str = ""


def check_gain(gain: npt.ArrayLike) -> FloatArray:
    """The gain matrix as floats, (n_bases, n_tasks), points, NaN = missing.

    Raises: ValueError unless it is two-dimensional, not empty and free of infinite values.
    """
    array = np.asarray(gain, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"got a gain matrix of shape {array.shape}; expected (n_bases, n_tasks), neither of them zero")
    if np.isinf(array).any():
        raise ValueError("got an infinite gain; expected points or NaN for missing; mark unusable cells as NaN")
    return array


def average_gain(gain: npt.ArrayLike, *, tasks: npt.ArrayLike | None = None) -> FloatArray:
    """Average gain of each base model over the chosen tasks, NaN where one of them is missing.

    g_avg(m) = mean over t of gain(m, t). An average over fewer tasks would be another quantity, so it is not given.

    Args:
        gain: (n_bases, n_tasks), points.
        tasks: (n_tasks,) boolean mask or column numbers; default all.

    Returns:
        (n_bases,), points.

    Raises:
        ValueError: no task chosen.

    Source: "Where to start?", section 4.2.
    """
    array = check_gain(gain)
    chosen = array if tasks is None else array[:, np.asarray(tasks)]
    if chosen.shape[1] == 0:
        raise ValueError("got no task to average over; expected at least one; choose tasks that the matrix holds")
    return np.asarray(chosen.mean(axis=1))


def mark_significant(
    gain: npt.ArrayLike,
    scores: npt.ArrayLike,
    *,
    spread: Spread,
    pretrained: npt.ArrayLike | None = None,
    n_std: float = 2.0,
) -> Significance:
    """Cells whose gain exceeds ``n_std`` standard deviations.

    Args:
        gain: (n_bases, n_tasks), points, NaN = missing.
        scores: (n_bases, n_tasks, n_seeds), fractions, NaN = missing seed.
        spread: which standard deviation, see Spread.
        pretrained: (n_tasks, n_seeds) fractions of the pretrained model; needed for STANDARD_ERROR only.
        n_std: threshold in standard deviations.

    Returns:
        Significance. A cell without a positive standard deviation is undecided, never significant: a task on which
        all seeds give one score (WSC and WNLI in Table 3) would otherwise make any gain "significant".

    Raises:
        ValueError: shapes that do not match, or scores that are no fractions.

    Source: "Where to start?", Fig. 1 and appendix D. Differs: the paper holds an average of 5 seeds against the
    standard deviation of a single one (CELL); STANDARD_ERROR is what appendix D says such averages require.
    """
    array = check_gain(gain)
    std = _spread(array.shape, _check_scores(scores, array.shape), spread, pretrained=pretrained)
    present = ~np.isnan(array)
    usable = std > 0
    reason = "" if (usable & present).any() else _no_spread(present, spread, pretrained)
    with np.errstate(invalid="ignore"):
        return Significance(
            better=usable & (array > n_std * std),
            worse=usable & (array < -n_std * std),
            undecided=present & ~usable,
            std=std,
            reason=reason,
        )


def order_by_group(average: npt.ArrayLike, groups: Sequence[str], *, group_order: Sequence[str]) -> IntArray:
    """Row (or column) order of Fig. 1: by group, within a group by average gain from high to low.

    Args:
        average: (n,), points; NaN comes last within its group; equal averages keep their order.
        groups: n group names.
        group_order: every group name once, first shown first.

    Returns:
        (n,) indices into the rows as given.

    Raises:
        ValueError: lengths differ, or a group is not in ``group_order``.
    """
    values = np.asarray(average, dtype=np.float64)
    if values.ndim != 1 or len(groups) != values.size:
        raise ValueError(f"got {len(groups)} groups for averages of shape {values.shape}; expected one group per row")
    unknown = sorted(set(groups) - set(group_order))
    if unknown:
        raise ValueError(f"got groups {unknown}; expected only {list(group_order)}; add them to the order")
    place = {name: position for position, name in enumerate(group_order)}
    return np.lexsort((-values, np.array([place[name] for name in groups], dtype=np.int64)))


def share_better(gain: npt.ArrayLike, *, tasks: npt.ArrayLike | None = None) -> ShareBetter:
    """Share of base models whose average gain is above zero (the paper: "about 1 in 6").

    Args:
        gain: (n_bases, n_tasks), points, without the pretrained model's own row.
        tasks: mask or column numbers of the tasks to average over; default all.

    Returns:
        ShareBetter; without any complete base model it is NaN with the reason.

    Source: "Where to start?", section 4.
    """
    average = average_gain(gain, tasks=tasks)
    complete = ~np.isnan(average)
    n, n_better = int(complete.sum()), int((average > 0).sum())
    if n == 0:
        reason = "no base model has a gain on every task: is the pretrained model's row missing?"
        return ShareBetter(n_models=0, n_better=0, n_incomplete=average.size, reason=reason)
    interval = stats.binomtest(n_better, n).proportion_ci(method="wilson")
    return ShareBetter(
        n_models=n,
        n_better=n_better,
        n_incomplete=average.size - n,
        share=n_better / n,
        low=float(interval.low),
        high=float(interval.high),
    )


def _check_scores(scores: npt.ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 3 or array.shape[:2] != shape:
        raise ValueError(
            f"got scores of shape {array.shape}; expected (n_bases, n_tasks, n_seeds) with {shape} in front"
        )
    return _check_fractions(array)


def _check_fractions(array: FloatArray) -> FloatArray:
    if (np.abs(array) > 1 + 1e-9).any():
        raise ValueError(
            f"got a score of {np.nanmax(np.abs(array)):g}; expected fractions of at most 1; divide percent by 100"
        )
    return array


def _variance(seeds: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Variance (ddof 1; NaN below two seeds) in points squared over the last axis, and the number of seeds."""
    n = (~np.isnan(seeds)).sum(axis=-1).astype(np.float64)
    mean = np.nansum(seeds, axis=-1) / np.maximum(n, 1)
    deviation = seeds - mean[..., None]
    # seeds that agree to 12 digits count as equal, else rounding would pass for a standard deviation
    deviation = np.where(np.abs(deviation) > 1e-12, deviation, 0.0)
    total = (deviation**2).sum(axis=-1)
    return np.where(n > 1, POINTS**2 * total / np.maximum(n - 1, 1), np.nan), n


def _spread(
    shape: tuple[int, ...], scores: FloatArray, spread: Spread, *, pretrained: npt.ArrayLike | None
) -> FloatArray:
    variance, n = _variance(scores)
    if spread is Spread.CELL:
        return np.sqrt(variance)
    if spread is Spread.POOLED:
        freedom = np.where(n > 1, n - 1, 0)
        total = freedom.sum(axis=0)
        pooled = np.where(total > 0, np.nansum(freedom * variance, axis=0) / np.maximum(total, 1), np.nan)
        return np.broadcast_to(np.sqrt(pooled), shape).copy()
    if pretrained is None:
        return np.full(shape, np.nan)
    reference = np.asarray(pretrained, dtype=np.float64)
    if reference.ndim != 2 or reference.shape[0] != shape[1]:
        raise ValueError(f"got pretrained scores of shape {reference.shape}; expected ({shape[1]}, n_seeds)")
    reference_variance, reference_n = _variance(_check_fractions(reference))
    return np.sqrt(variance / np.maximum(n, 1) + reference_variance / np.maximum(reference_n, 1))


def _no_spread(present: BoolArray, spread: Spread, pretrained: npt.ArrayLike | None) -> str:
    if not present.any():
        return "no gain is present: is the pretrained model's row missing?"
    if spread is Spread.STANDARD_ERROR and pretrained is None:
        return "no pretrained scores: the standard error of a gain needs the pretrained model's seeds"
    return "no cell has a positive standard deviation: needs at least 2 differing seeds"
