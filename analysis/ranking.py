"""The ranking of base models by average gain over the pretrained one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.matrix import ScoreMatrix
from analysis.noise import POINTS, cell_gains, estimate_gains

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Base models, best first; arrays are (n_bases,) in that order, points where not said otherwise."""

    bases: tuple[str, ...]
    rank: npt.NDArray[np.int64]
    """1 is best, equal gains share a rank; 0 for base models that lack a task, which are listed last and not ranked."""
    n_tasks: npt.NDArray[np.int64]
    """Tasks with a score of this and of the pretrained model."""
    n_cells: npt.NDArray[np.int64]
    """Scored cells."""
    avg_score: FloatArray
    """Mean over tasks of the mean over seeds."""
    avg_gain: FloatArray
    """Mean over tasks of the gain over the pretrained model; 0 for itself."""
    avg_gain_se: FloatArray
    """Standard error of the gain from seeds; NaN where no cell of some task has two seeds."""
    gain: FloatArray
    """(n_bases, n_tasks) gain by task."""
    task_score: FloatArray
    """(n_bases, n_tasks) mean score over seeds."""
    tasks: tuple[str, ...]
    reason: str = ""
    """Why standard errors are missing; empty if none is."""


def rank_bases(matrix: ScoreMatrix) -> Ranking:
    """Rank base models by average gain over all tasks that the pretrained model has.

    gain(m, t) = mean over seeds of m on t minus that of the pretrained model (section 2 of "Where to start?"), its standard
    error as ``noise.estimate_gains`` has it.

    Args:
        matrix: scores, the pretrained model in the first row.

    Raises:
        ValueError: the pretrained model has no score at all.
    """
    usable = np.isfinite(matrix.pretrained).any(axis=1)
    if not usable.any():
        raise ValueError(f"the pretrained model {matrix.bases[0]} has no score; run it on at least one task")
    scores, baseline = matrix.scores[:, usable], matrix.pretrained[usable]
    estimate = estimate_gains(scores[1:], baseline) if len(matrix.bases) > 1 else None
    gains = np.concatenate([[0.0], estimate.gain]) if estimate else np.zeros(1)
    errors = np.concatenate([[0.0], estimate.se]) if estimate else np.zeros(1)
    present = np.isfinite(scores).any(axis=2)
    sums = np.where(np.isfinite(scores), scores, 0.0).sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = POINTS * sums / np.isfinite(scores).sum(axis=2)
        average = np.where(present, means, 0.0).sum(axis=1) / present.sum(axis=1)
    complete: npt.NDArray[np.bool_] = np.all(present, axis=1)
    order = np.lexsort((np.array(matrix.bases), -np.nan_to_num(gains, nan=-np.inf), ~complete))
    ranked = np.where(complete, 1 + (gains[complete][None, :] > gains[:, None]).sum(axis=1), 0)
    by_task = (
        np.concatenate([np.zeros((1, usable.sum())), cell_gains(scores[1:], baseline)])
        if estimate
        else np.zeros_like(means)
    )
    return Ranking(
        bases=tuple(matrix.bases[index] for index in order),
        rank=ranked[order],
        n_tasks=present.sum(axis=1)[order],
        n_cells=np.isfinite(scores).sum(axis=(1, 2))[order],
        avg_score=average[order],
        avg_gain=gains[order],
        avg_gain_se=errors[order],
        gain=by_task[order],
        task_score=means[order],
        tasks=tuple(np.array(matrix.tasks)[usable].tolist()),
        reason=estimate.reason if estimate else "only the pretrained model has cells",
    )
