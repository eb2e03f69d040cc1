"""Coarse recall on a live target: clusters from the matrix, transferability scores of as few candidates as can be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.selection.clustering import Clusters, ThresholdRule, choose_threshold, cluster_by_linkage
from analysis.selection.performance import PerformanceMatrix
from analysis.selection.recall import RecallVariant, normalise_proxy, recall
from analysis.selection.similarity import performance_distance
from tracking.errors import InputError

FloatArray = npt.NDArray[np.float64]

Score = Callable[[Sequence[str]], dict[str, float]]
"""Base models -> their proxy scores on the target; NaN, or left out, where there is none."""


@dataclass(frozen=True, kw_only=True)
class Recalled:
    """Every base model of the matrix, best first."""

    names: tuple[str, ...]
    scores: dict[str, float]
    """Recall scores; NaN where none."""
    clusters: dict[str, int]
    scored: tuple[str, ...]
    """Base models that a proxy score was computed of, each a forward pass over the target."""
    notes: tuple[str, ...] = ()


def recall_candidates(
    matrix: PerformanceMatrix,
    score: Score,
    *,
    proxy: str,
    variant: RecallVariant = RecallVariant.PAPER,
    distances: int = 5,
) -> Recalled:
    """Order the base models of a matrix for a target.

    The variant ``paper`` scores one base model a cluster: the best by average, or, where that one has no score (LEEP needs a
    head), the next best. ``reference_code`` scores every member.

    Args:
        matrix: benchmark tasks, the target not among them.
        score: asked for few base models at a time.
        proxy: name of the score.
        variant: of recall.
        distances: k of Eq. 1.

    Raises:
        InputError: no base model has a score.
    """
    distance = performance_distance(matrix.test, k=distances)
    clusters = cluster_by_linkage(distance, matrix.average, threshold=choose_threshold(distance, ThresholdRule.MEDIAN))
    found = np.full(len(matrix.base_models), np.nan)
    scored: list[str] = []
    for rows in _waves(clusters, matrix, found, variant):
        names = [matrix.base_models[row] for row in rows]
        scored += names
        values = score(names)
        found[rows] = [values.get(name, math.nan) for name in names]
    if not np.isfinite(found).any():
        raise InputError(
            f"none of {len(scored)} base models has a {proxy} score on this target, expected one at least; choose another score "
            "with select.proxy (logme needs neither classes nor a head)"
        )
    result = recall(matrix, clusters, normalise_proxy(proxy, found), similarity=1 - distance, variant=variant)
    order = [matrix.base_models[row] for row in result.order]
    return Recalled(
        names=tuple(order),
        scores={name: float(value) for name, value in zip(matrix.base_models, result.scores, strict=True)},
        clusters={name: int(label) for name, label in zip(matrix.base_models, clusters.labels, strict=True)},
        scored=tuple(scored),
        notes=(result.note,) if result.note else (),
    )


def _waves(
    clusters: Clusters, matrix: PerformanceMatrix, found: FloatArray, variant: RecallVariant
) -> Iterator[list[int]]:
    """Rows to be scored, a wave at a time; the next wave looks at what the last one found."""
    average = np.where(np.isfinite(matrix.average), matrix.average, -np.inf)
    groups = [sorted(clusters.members(int(one)).tolist(), key=lambda row: -average[row]) for one in clusters.shared]
    if variant is RecallVariant.REFERENCE_CODE:
        depth = max((len(group) for group in groups), default=0)
        if groups:
            yield [row for group in groups for row in group]
    else:
        depth = 0
        while rows := [group[depth] for group in groups if depth < len(group) and not _any_known(found, group)]:
            yield rows
            depth += 1
    seen = {row for group in groups for row in group[:depth]}
    if not _any_known(found, range(len(found))):
        yield [row for row in range(len(found)) if row not in seen]


def _any_known(found: FloatArray, rows: Iterable[int]) -> bool:
    return any(math.isfinite(found[row]) for row in rows)
