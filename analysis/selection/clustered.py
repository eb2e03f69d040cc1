"""A performance matrix with its clusters, and recall from it: the offline part in two calls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.selection.clustering import Clusters, choose_threshold, cluster_by_linkage
from analysis.selection.performance import PerformanceMatrix
from analysis.selection.recall import Recall, combine_proxies, recall
from analysis.selection.recall_rules import RecallRules
from analysis.selection.silhouette import silhouette_reference, silhouette_sklearn
from analysis.selection.similarity import performance_distance

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ClusteredMatrix:
    """What recall needs of the benchmark."""

    matrix: PerformanceMatrix
    distance: FloatArray
    """(n_bases, n_bases) of Eq. 1."""
    clusters: Clusters
    threshold: float
    k: int
    """Differences that made a distance; fewer than asked for where the matrix has fewer tasks."""

    def representatives(self) -> list[str]:
        """One base model for each cluster of two or more: those that the paper computes proxy scores for."""
        return [self.matrix.base_models[self.clusters.representatives[cluster]] for cluster in self.clusters.shared]


def cluster_matrix(matrix: PerformanceMatrix, rules: RecallRules) -> ClusteredMatrix:
    """Distances by Eq. 1, then average linkage under the given threshold or one found by the rule."""
    distance = performance_distance(matrix.test, k=rules.differences)
    threshold = choose_threshold(distance, rules.rule) if rules.threshold is None else rules.threshold
    return ClusteredMatrix(
        matrix=matrix,
        distance=distance,
        clusters=cluster_by_linkage(distance, matrix.average, threshold=threshold),
        threshold=threshold,
        k=min(rules.differences, len(matrix.tasks)),
    )


def recall_from(clustered: ClusteredMatrix, scores: Mapping[str, Mapping[str, float]], rules: RecallRules) -> Recall:
    """Recall score of every base model.

    Args:
        clustered: the benchmark.
        scores: proxy -> base model -> score on the target; what is not in it has none. Several proxies count by mean place.
        rules: which variant.

    Raises:
        ValueError: no usable score.
    """
    bases = clustered.matrix.base_models
    columns = {
        proxy: np.array([given.get(base, math.nan) for base in bases], dtype=np.float64)
        for proxy, given in scores.items()
    }
    return recall(
        clustered.matrix,
        clustered.clusters,
        combine_proxies(columns),
        similarity=1 - clustered.distance,
        variant=rules.variant,
    )


def clusters_as_plain(clustered: ClusteredMatrix) -> dict[str, Any]:
    """The JSON file of `make clusters`; a silhouette that is not defined is null."""
    bases, clusters = clustered.matrix.base_models, clustered.clusters
    forms = {
        "silhouette_sklearn": silhouette_sklearn(clustered.distance, clusters.labels),
        "silhouette_reference": silhouette_reference(clustered.distance, clusters.labels),
    }
    return {
        "n_base_models": len(bases),
        "n_tasks": len(clustered.matrix.tasks),
        "clusters": [[bases[row] for row in clusters.members(cluster)] for cluster in range(clusters.sizes.size)],
        "representatives": [bases[row] for row in clusters.representatives],
        "n_non_singleton": int(clusters.shared.size),
        "n_in_non_singleton": int(clusters.sizes[clusters.shared].sum()),
        "n_singleton": int((clusters.sizes == 1).sum()),
        "threshold": clustered.threshold,
        "k": clustered.k,
        **{name: value if math.isfinite(value) else None for name, value in forms.items()},
    }
