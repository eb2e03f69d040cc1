"""The numbers of the published pages, by the rules of the published pages and to the last bit.

These rules are kept because the pages are to be reproduced, not because they are good: a mean over whatever tasks a row has,
no interval, no check of a row. The analyses of this package do it differently (docs/faithful.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracking.published import TASKS, PublishedArchitecture

HIDDEN_NAME = "ibm/ColD-Fusion-itr"
"""Models whose name contains this are left out of the pages, but kept in the CSV."""
COLUMNS = tuple(sorted(TASKS))
"""Task columns in the order of the pages: by name."""
_ORDER = [TASKS.index(task) for task in COLUMNS]


@dataclass(frozen=True, kw_only=True, eq=False)
class FaithfulBaseline:
    """The pretrained model over its repetitions, in points; columns as ``COLUMNS``."""

    mean: NDArray[np.float64]
    """(36,)"""
    std: NDArray[np.float64]
    """(36,) sample standard deviation (ddof = 1); NaN below two repetitions."""
    avg: float
    """Mean of the task means."""
    avg_std: float
    """Sample standard deviation of the means of the repetitions (not of the task deviations)."""
    n_repetitions: int


@dataclass(frozen=True, kw_only=True)
class FaithfulRow:
    """One ranked model, in points."""

    model: str
    avg: float
    """Mean over the tasks it has; NaN where it has none."""
    probe: float
    """Linear-probe score on MNLI."""
    scores: tuple[float, ...]
    """(36,) columns as ``COLUMNS``."""
    metadata_complete: bool
    """Whether every other column of its line is filled."""

    @property
    def fully_tested(self) -> bool:
        """Whether its line has no empty cell at all: what the published count of fully tested models counts."""
        return self.metadata_complete and not math.isnan(self.probe) and not any(map(math.isnan, self.scores))


@dataclass(frozen=True, kw_only=True, eq=False)
class FaithfulRanking:
    """Baseline and ranked models of one architecture."""

    arch: str
    baseline: FaithfulBaseline
    rows: tuple[FaithfulRow, ...]
    """Best first."""

    @property
    def shown(self) -> tuple[FaithfulRow, ...]:
        """The rows the pages show."""
        return tuple(row for row in self.rows if HIDDEN_NAME not in row.model)


def faithful_ranking(arch: PublishedArchitecture) -> FaithfulRanking:
    """Rank the models of one architecture as published.

    Kept are models with all 36 task scores or none. Order: average descending, then probe score descending, NaN last, ties in
    the order of the file.

    Differs: rows with a score outside its range are left out (the published code had no such rows and no such check).

    Raises:
        ValueError: the architecture has no pretrained repetition, so there is no baseline.
    """
    if not len(arch.pretrained):
        raise ValueError(
            f"{arch.name} has no pretrained repetition, expected at least one: without it there is no gain"
        )
    n_scores = np.isfinite(arch.scores).sum(axis=1)
    kept = np.flatnonzero(((n_scores == len(TASKS)) | (n_scores == 0)) & arch.in_range())
    rows = [_row(arch, int(place)) for place in kept]
    rows.sort(key=lambda row: (*_descending(row.avg), *_descending(row.probe)))
    return FaithfulRanking(arch=arch.name, baseline=faithful_baseline(arch.pretrained), rows=tuple(rows))


def faithful_baseline(pretrained: NDArray[np.float64]) -> FaithfulBaseline:
    """Mean and deviation of the pretrained model per task and on average.

    Args:
        pretrained: (n_repetitions, 36) fractions, columns as ``TASKS``; NaN where a repetition lacks a task.
    """
    points = pretrained * 100
    means = np.array([compensated_mean(column) for column in points.T])
    stds = np.array([sample_std(column) for column in points.T])
    return FaithfulBaseline(
        mean=means[_ORDER],
        std=stds[_ORDER],
        avg=mean_of_present(means),
        avg_std=sample_std([compensated_mean(repetition) for repetition in points]),
        n_repetitions=len(points),
    )


def _row(arch: PublishedArchitecture, place: int) -> FaithfulRow:
    points = arch.scores[place] * 100
    return FaithfulRow(
        model=arch.models[place],
        avg=mean_of_present(points),
        probe=float(arch.probe[place] * 100),
        scores=tuple(map(float, points[_ORDER])),
        metadata_complete=all(arch.metadata[place].values()),
    )


def _descending(value: float) -> tuple[bool, float]:
    return (True, 0.0) if math.isnan(value) else (False, -value)


def gains(ranking: FaithfulRanking, row: FaithfulRow) -> tuple[float, ...]:
    """Gain per task in points: score minus the pretrained mean; (36,), columns as ``COLUMNS``."""
    return tuple(score - float(base) for score, base in zip(row.scores, ranking.baseline.mean, strict=True))


def mean_of_present(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Mean of the values that are not NaN, NaN where there is none (numpy's pairwise summation, as published)."""
    held = np.asarray(values, dtype=np.float64)
    held = held[~np.isnan(held)]
    return float(np.average(held)) if held.size else math.nan


def compensated_mean(values: Iterable[float]) -> float:
    """Mean of the values that are not NaN by Kahan's compensated summation; NaN where there is none.

    Source: pandas' group mean sums so, and the published baseline carries its last bits; plain, pairwise and exactly rounded
    sums differ from it in up to 20, 20 and 3 of the 36 tasks.
    """
    total = compensation = 0.0
    count = 0
    for value in map(float, values):
        if math.isnan(value):
            continue
        step = value - compensation
        grown = total + step
        compensation = grown - total - step
        total = grown
        count += 1
    return total / count if count else math.nan


def sample_std(values: Iterable[float]) -> float:
    """Standard deviation with ddof = 1 of the values that are not NaN; NaN below two."""
    held = np.array([value for value in map(float, values) if not math.isnan(value)])
    return float(np.std(held, ddof=1)) if held.size > 1 else math.nan
