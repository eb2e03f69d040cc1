"""Clusters of base models: average linkage under a threshold, or K-means; each with its representative."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.cluster import KMeans

from analysis.selection.recall_rules import ThresholdRule
from analysis.selection.silhouette import silhouette_sklearn

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_ROUNDING = 1e-9
"""Distances are means of decimals: 0.09 as a sum of five numbers is not quite 0.09."""


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """Base models by cluster, the largest first."""

    labels: IntArray
    """(n_bases,) cluster of each, from 0; larger clusters first, equal ones by their first member."""
    representatives: IntArray
    """(n_clusters,) row of the member with the best average."""
    sizes: IntArray
    """(n_clusters,)."""

    def members(self, cluster: int) -> IntArray:
        """Rows of its base models."""
        return np.flatnonzero(self.labels == cluster).astype(np.int64)

    @property
    def shared(self) -> IntArray:
        """Clusters of two or more."""
        return np.flatnonzero(self.sizes > 1).astype(np.int64)


def cluster_by_linkage(distance: FloatArray, average: FloatArray, *, threshold: float) -> Clusters:
    """Merge the two clusters with the smallest mean distance between their members, up to a threshold.

    Args:
        distance: (n, n), symmetric, 0 on the diagonal.
        average: (n,) mean score by which the representative is chosen; NaN never is where another is known.
        threshold: largest mean distance at which two clusters still merge.

    Source: section III.A, hierarchical clustering with average linkage as in the reference code.
    """
    if not (math.isfinite(threshold) and threshold >= 0):
        raise ValueError(f"got the threshold {threshold}; expected a distance from 0 up")
    if len(distance) == 1:
        return _numbered(np.zeros(1, dtype=np.int64), average)
    return _numbered(fcluster(_tree(distance), threshold + _ROUNDING, criterion="distance"), average)


def cluster_by_kmeans(vectors: FloatArray, average: FloatArray, *, n_clusters: int, seed: int = 0) -> Clusters:
    """K-means of score vectors or text vectors, best of 20 starts.

    Args:
        vectors: (n, d) finite; where scores are missing there is no vector, and ValueError says so.
        average: as in ``cluster_by_linkage``.
        n_clusters: at most as many as there are distinct vectors are made.
        seed: of the starts.
    """
    if not np.isfinite(vectors).all():
        rows = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        raise ValueError(
            f"got missing values in {rows.size} of {len(vectors)} vectors; K-means expects all of them: leave base models or "
            "tasks with missing cells out, or cluster by linkage"
        )
    n_clusters = min(n_clusters, len(np.unique(vectors, axis=0)))
    found = KMeans(n_clusters=n_clusters, n_init=20, random_state=seed).fit_predict(vectors)
    return _numbered(found, average)


def choose_threshold(distance: FloatArray, rule: ThresholdRule) -> float:
    """Threshold for a matrix by a stated rule; 0 for a single base model."""
    n = len(distance)
    if n == 1:
        return 0.0
    if rule is ThresholdRule.MEDIAN:
        return float(f"{2 / 3 * float(np.median(squareform(distance, checks=False))):.1g}")
    tree = _tree(distance)
    heights = np.unique(tree[:, 2])
    best, best_score = float(heights[0]), -math.inf
    for height in heights:
        score = silhouette_sklearn(distance, fcluster(tree, height + _ROUNDING, criterion="distance"))
        if score > best_score:
            best, best_score = float(height), score
    return best


def _tree(distance: FloatArray) -> FloatArray:
    return np.asarray(linkage(squareform(distance, checks=False), method="average"), dtype=np.float64)


def _numbered(found: npt.ArrayLike, average: FloatArray) -> Clusters:
    """Labels by size, with representatives."""
    raw = np.unique(np.asarray(found), return_inverse=True)[1]
    sizes = np.bincount(raw)
    first = np.array([int(np.argmax(raw == label)) for label in range(sizes.size)])
    order = np.lexsort((first, -sizes))
    labels = np.empty(sizes.size, dtype=np.int64)
    labels[order] = np.arange(sizes.size)
    known = np.where(np.isfinite(average), average, -np.inf)
    numbered = labels[raw]
    best = [max(np.flatnonzero(numbered == label), key=lambda row: known[row]) for label in range(sizes.size)]
    return Clusters(
        labels=numbered,
        representatives=np.array(best, dtype=np.int64),
        sizes=sizes[order].astype(np.int64),
    )
