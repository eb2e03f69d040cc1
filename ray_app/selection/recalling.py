"""Coarse recall on a live target: clusters from the matrix, proxy scores of as few candidates as can be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.selection.clustered import ClusteredMatrix, cluster_matrix, recall_from
from analysis.selection.performance import PerformanceMatrix
from analysis.selection.recall_rules import RecallRules, RecallVariant

_WITHOUT_SCORES = (
    "no base model has a score {} on this target: recalled by the average over benchmark tasks alone; select.proxies=[logme] needs "
    "neither classes nor a head"
)

Score = Callable[[Sequence[str]], Mapping[str, Mapping[str, float]]]
"""Base models -> proxy -> base model -> score on the target; NaN, or left out, where there is none."""


@dataclass(frozen=True, kw_only=True)
class Recalled:
    """Every base model of the matrix with a recall score, best first."""

    names: tuple[str, ...]
    scores: dict[str, float]
    """Recall scores."""
    clusters: dict[str, int]
    """Number of the cluster, from 1, the largest first."""
    scored: tuple[str, ...]
    """Base models that proxy scores were computed of, each a forward pass over the target."""
    notes: tuple[str, ...] = ()


def recall_candidates(matrix: PerformanceMatrix, score: Score, rules: RecallRules) -> Recalled:
    """Order the base models of a matrix for a target.

    The variant ``paper`` scores one base model a cluster: the best by average, or, where that one has no score (LEEP needs a
    head), the next best. ``reference_code`` scores every member.

    Args:
        matrix: benchmark tasks, the target not among them.
        score: asked for few base models at a time.
        rules: of clusters and recall.

    Returns:
        By recall score; where no base model has a proxy score, by the average over benchmark tasks, and a note says so.
    """
    clustered = cluster_matrix(matrix, rules)
    known: dict[str, dict[str, float]] = {}
    scored: list[str] = []
    for names in _waves(clustered, known, whole=rules.variant is RecallVariant.REFERENCE_CODE):
        scored += names
        for proxy, given in score(names).items():
            known.setdefault(proxy, {}).update({name: value for name, value in given.items() if math.isfinite(value)})
    if any(known.values()):
        found = recall_from(clustered, known, rules)
        values, order, note = found.scores, found.order, found.note
    else:
        values = matrix.average
        order, note = np.argsort(-values, kind="stable"), _WITHOUT_SCORES.format(" or ".join(known))
    bases = matrix.base_models
    ranked = [int(row) for row in order if np.isfinite(values[row])]
    lost = [base for row, base in enumerate(bases) if row not in ranked]
    notes = [note] if note else []
    notes += [f"without a recall score: {', '.join(lost)}"] if lost else []
    return Recalled(
        names=tuple(bases[row] for row in ranked),
        scores={bases[row]: float(values[row]) for row in ranked},
        clusters={bases[row]: int(clustered.clusters.labels[row]) + 1 for row in ranked},
        scored=tuple(scored),
        notes=tuple(notes),
    )


def _waves(clustered: ClusteredMatrix, known: Mapping[str, Mapping[str, float]], *, whole: bool) -> Iterator[list[str]]:
    """Base models to be scored, a wave at a time; the next wave looks at what the last one found."""
    matrix, clusters = clustered.matrix, clustered.clusters
    average = {
        base: value if np.isfinite(value) else -math.inf
        for base, value in zip(matrix.base_models, matrix.average, strict=True)
    }
    groups = [
        sorted((matrix.base_models[row] for row in clusters.members(int(one))), key=lambda base: -average[base])
        for one in clusters.shared
    ]
    depth = max((len(group) for group in groups), default=0) if whole else 0
    if depth:
        yield [base for group in groups for base in group]
    while wave := [group[depth] for group in groups if depth < len(group) and not _any_known(known, group)]:
        yield wave
        depth += 1
    seen = {base for group in groups for base in group[:depth]}
    if not any(known.values()):
        yield [base for base in matrix.base_models if base not in seen]


def _any_known(known: Mapping[str, Mapping[str, float]], names: Iterable[str]) -> bool:
    return any(name in values for values in known.values() for name in names)
