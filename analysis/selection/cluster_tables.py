"""Tables I, II, III, X and XI of the paper, of any performance matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.selection.clustered import ClusteredMatrix, cluster_matrix
from analysis.selection.clustering import Clusters, choose_threshold, cluster_by_kmeans, cluster_by_linkage
from analysis.selection.performance import PerformanceMatrix
from analysis.selection.recall_rules import RecallRules
from analysis.selection.silhouette import silhouette_reference, silhouette_sklearn
from analysis.selection.similarity import cosine_distance, performance_distance

FloatArray = npt.NDArray[np.float64]
Cell = str | int | float | None

K_OF_MANY_TASKS, K_OF_FEW_TASKS = (5, 10, 15), (3, 4, 5)
"""The k of Table X for text (24 tasks) and for vision (10)."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A finished table."""

    name: str
    """File name without ending."""
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    """None where a number is not defined."""
    note: str = ""
    """Why something is missing."""


def number(value: float) -> float | None:
    """None for what is not finite."""
    return float(value) if math.isfinite(value) else None


def table_methods(
    clustered: ClusteredMatrix, rules: RecallRules, *, vectors: Mapping[str, npt.ArrayLike] | None = None
) -> Table:
    """Table I: silhouettes of average linkage and K-means, by performance and by the text of model cards.

    K-means makes as many clusters as linkage does; both are judged by the distance of Eq. 1, or the cosine of texts. Text
    needs vectors of at least three base models, and speaks of those only.
    """
    matrix = clustered.matrix
    rows = [_method_row("performance", "linkage", clustered.distance, clustered.clusters)]
    notes = []
    means = kmeans_clusters(clustered)
    if isinstance(means, Clusters):
        rows.append(_method_row("performance", "k-means", clustered.distance, means))
    else:
        notes.append(means)
    known = [name for name in matrix.base_models if vectors is not None and name in vectors]
    if vectors is not None and len(known) >= 3:
        texts = np.array([vectors[name] for name in known], dtype=np.float64)
        distance, average = cosine_distance(texts), matrix.select(base_models=known).average
        threshold = choose_threshold(distance, rules.rule)
        linked = cluster_by_linkage(distance, average, threshold=threshold)
        unit = texts / np.linalg.norm(texts, axis=1, keepdims=True)
        rows.append(_method_row("text", "linkage", distance, linked))
        again = cluster_by_kmeans(unit, average, n_clusters=linked.sizes.size)
        rows.append(_method_row("text", "k-means", distance, again))
    else:
        notes.append(f"text: {len(known)} base models with a card; at least 3 are needed")
    return Table(
        name="table_1_methods",
        title="Table I: clustering methods, silhouette in both forms",
        columns=(
            "similarity",
            "method",
            "silhouette_reference",
            "silhouette_sklearn",
            "n_base_models",
            "n_non_singleton",
            "n_in_non_singleton",
        ),
        rows=tuple(rows),
        note="; ".join(notes),
    )


def kmeans_clusters(clustered: ClusteredMatrix) -> Clusters | str:
    """As many clusters as linkage made, by K-means on score vectors; why not, where scores are missing."""
    matrix = clustered.matrix
    try:
        return cluster_by_kmeans(matrix.test, matrix.average, n_clusters=clustered.clusters.sizes.size)
    except ValueError as error:
        return f"k-means: {error}"


def table_members(matrix: PerformanceMatrix, clusters: Clusters, *, name: str, title: str) -> Table:
    """Tables II and XI: clusters of two or more with their members."""
    bases = matrix.base_models
    rows = [
        (
            int(cluster) + 1,
            int(clusters.sizes[cluster]),
            bases[clusters.representatives[cluster]],
            ", ".join(bases[row] for row in clusters.members(int(cluster))),
        )
        for cluster in clusters.shared
    ]
    return Table(name=name, title=title, columns=("cluster", "size", "representative", "base_models"), rows=tuple(rows))


def table_singletons(clustered: ClusteredMatrix) -> Table:
    """Table III: average score of models in clusters and of those alone, and on how many tasks each group has the best one.

    A task on which both groups share the best score counts for both.
    """
    matrix, clusters = clustered.matrix, clustered.clusters
    alone = clusters.sizes[clusters.labels] == 1
    tasks = np.flatnonzero(np.isfinite(matrix.test).any(axis=0))
    best = np.nanmax(matrix.test[:, tasks], axis=0)
    rows = []
    for label, members in (("non-singleton", ~alone), ("singleton", alone)):
        average = matrix.average[members]
        known = average[np.isfinite(average)]
        wins = int((np.nan_to_num(matrix.test[np.ix_(members, tasks)], nan=-np.inf) == best).any(axis=0).sum())
        rows.append((label, int(members.sum()), float(known.mean()) if known.size else None, wins))
    return Table(
        name="table_3_singletons",
        title="Table III: models in clusters and models alone",
        columns=("cluster_type", "n_base_models", "average_score", "n_best_of_task"),
        rows=tuple(rows),
    )


def table_differences(matrix: PerformanceMatrix, threshold: float, *, ks: Sequence[int] | None = None) -> Table:
    """Table X: silhouettes by the number k of differences in Eq. 1, the threshold being the same for all."""
    n_tasks = len(matrix.tasks)
    wanted = ks or (K_OF_MANY_TASKS if n_tasks >= K_OF_MANY_TASKS[-1] else K_OF_FEW_TASKS)
    rows = []
    for k in sorted({min(k, n_tasks) for k in wanted}):
        distance = performance_distance(matrix.test, k=k)
        clusters = cluster_by_linkage(distance, matrix.average, threshold=threshold)
        rows.append((k, *_forms(distance, clusters), int(clusters.shared.size)))
    return Table(
        name="table_10_differences",
        title=f"Table X: number of differences k, threshold {threshold:g}",
        columns=("k", "silhouette_reference", "silhouette_sklearn", "n_non_singleton"),
        rows=tuple(rows),
    )


def cluster_tables(
    matrix: PerformanceMatrix, rules: RecallRules, *, vectors: Mapping[str, npt.ArrayLike] | None = None
) -> list[Table]:
    """Tables I, II, III, X and XI of a matrix."""
    clustered = cluster_matrix(matrix, rules)
    found = [
        table_methods(clustered, rules, vectors=vectors),
        table_members(
            matrix, clustered.clusters, name="table_2_clusters", title="Table II: clusters by average linkage"
        ),
        table_singletons(clustered),
        table_differences(matrix, clustered.threshold),
    ]
    means = kmeans_clusters(clustered)
    if isinstance(means, Clusters):
        found.append(table_members(matrix, means, name="table_11_kmeans", title="Table XI: clusters by K-means"))
    return found


def _method_row(similarity: str, method: str, distance: FloatArray, clusters: Clusters) -> tuple[Cell, ...]:
    inside = int(clusters.sizes[clusters.shared].sum())
    return (similarity, method, *_forms(distance, clusters), len(distance), int(clusters.shared.size), inside)


def _forms(distance: FloatArray, clusters: Clusters) -> tuple[float | None, float | None]:
    return (
        number(silhouette_reference(distance, clusters.labels)),
        number(silhouette_sklearn(distance, clusters.labels)),
    )
