"""Convergence trends: what a model's validation score at a stage has meant for its final test score on benchmark tasks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.selection.grouping import group_on_line
from analysis.selection.performance import PerformanceMatrix

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Trends:
    """CT(m)_t: the trends of one model at one stage, ascending by validation score; arrays are (n_trends,)."""

    validation: FloatArray
    """Average validation score of a trend's tasks."""
    test: FloatArray
    """Average final test score of a trend's tasks."""
    n_tasks: IntArray
    labels: IntArray
    """(n_tasks of the matrix,) trend of each task, -1 for a task without a score."""


def mine_trends(record: PerformanceMatrix, base_model: str, stage: int, *, n_trends: int) -> Trends | None:
    """Group a model's benchmark tasks by its validation scores at a stage, with K-means, and average each group.

    Args:
        record: benchmark tasks, the target not among them.
        base_model: the candidate.
        stage: from 1.
        n_trends: groups; fewer where there are fewer distinct scores.

    Returns:
        None for a model that is not in the record, or has no task with both this stage and a test score.

    Source: section IV.C; K-means with 4 clusters as in the reference code, solved exactly.
    """
    if base_model not in record.base_models or not 1 <= stage <= record.n_stages:
        return None
    row = record.row(base_model)
    validation, test = record.validation[row, :, stage - 1], record.test[row]
    known = np.isfinite(validation) & np.isfinite(test)
    if not known.any():
        return None
    groups = group_on_line(validation[known], n_trends)
    labels = np.full(len(record.tasks), -1, dtype=np.int64)
    labels[known] = groups
    counts = np.bincount(groups)
    return Trends(
        validation=np.bincount(groups, weights=validation[known]) / counts,
        test=np.bincount(groups, weights=test[known]) / counts,
        n_tasks=counts.astype(np.int64),
        labels=labels,
    )


def match_trend(trends: Trends, score: float) -> int:
    """The trend whose average validation score is nearest (Eq. 5); of two equally near the lower one."""
    return int(np.argmin(np.abs(trends.validation - score)))


def predict_final(trends: Trends, score: float) -> float:
    """Predicted test score: that of the matched trend (Eq. 6)."""
    return float(trends.test[match_trend(trends, score)])
