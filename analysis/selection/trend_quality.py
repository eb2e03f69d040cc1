"""What convergence trends are worth (Fig. 6): do benchmark tasks fall into groups, and do the groups predict the test score?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.selection.grouping import group_on_line
from analysis.selection.performance import PerformanceMatrix
from analysis.selection.silhouette import silhouette_sklearn
from analysis.selection.trends import mine_trends, predict_final

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TrendQuality:
    """Of one base model at one stage; NaN where not defined."""

    base_model: str
    n_tasks: int
    silhouette: float
    """Of the trends, over the validation scores."""
    silhouette_random: float
    """Mean over random groups of the same sizes."""
    error: float
    """Mean over tasks of |predicted - test| / test, each task predicted from the trends of the others."""
    error_of_mean: float
    """The same where the prediction is the mean test score of the other tasks."""


def trend_quality(
    record: PerformanceMatrix, base_model: str, stage: int, *, n_trends: int, rng: np.random.Generator, draws: int = 20
) -> TrendQuality:
    """Silhouette against random groups, and prediction error against the mean of all tasks.

    Args:
        record: benchmark tasks.
        base_model: one of the record.
        stage: from 1.
        n_trends: groups.
        rng: of the random groups.
        draws: how many random groups.

    Source: section V.C, Fig. 6.
    """
    row = record.row(base_model)
    seen, test = record.validation[row, :, stage - 1], record.test[row]
    known = np.flatnonzero(np.isfinite(seen) & np.isfinite(test))
    silhouettes = math.nan, math.nan
    if known.size >= 3:
        distance = np.abs(seen[known][:, None] - seen[known][None, :])
        labels = group_on_line(seen[known], n_trends)
        chance = [silhouette_sklearn(distance, rng.permutation(labels)) for _ in range(draws)]
        silhouettes = silhouette_sklearn(distance, labels), float(np.mean(chance))
    errors, plain = [], []
    for column in known if known.size > 1 else ():
        if test[column] <= 0:
            continue
        others = record.without_task(record.tasks[column])
        trends = mine_trends(others, base_model, stage, n_trends=n_trends)
        if trends is not None:
            errors.append(abs(predict_final(trends, float(seen[column])) - test[column]) / test[column])
            plain.append(
                abs(np.delete(test[known], np.searchsorted(known, column)).mean() - test[column]) / test[column]
            )
    return TrendQuality(
        base_model=base_model,
        n_tasks=int(known.size),
        silhouette=silhouettes[0],
        silhouette_random=silhouettes[1],
        error=float(np.mean(errors)) if errors else math.nan,
        error_of_mean=float(np.mean(plain)) if plain else math.nan,
    )
