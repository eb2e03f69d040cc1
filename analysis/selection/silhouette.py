"""The silhouette coefficient of clusters, in the two forms that the paper's numbers need."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from sklearn.metrics import silhouette_score

FloatArray = npt.NDArray[np.float64]


def silhouette_sklearn(distance: FloatArray, labels: npt.ArrayLike) -> float:
    """Rousseeuw's coefficient as scikit-learn has it: b is the mean distance to the nearest other cluster, singletons count 0.

    Returns:
        NaN where it is not defined: a single cluster, or singletons only.
    """
    groups = np.asarray(labels)
    if not 1 < np.unique(groups).size < groups.size:
        return math.nan
    return float(silhouette_score(distance, groups, metric="precomputed"))


def silhouette_reference(distance: FloatArray, labels: npt.ArrayLike) -> float:
    """The coefficient as the paper's tables have it: b is the mean distance to all outsiders, singletons are left out.

        s(i) = (b - a) / max(a, b), averaged over the members of clusters of two or more

    It is larger than scikit-learn's wherever some models are far from all others, whatever the clusters are like.

    Returns:
        NaN where it is not defined: a single cluster, or singletons only.

    Source: Tables I and X, whose numbers it meets (docs/selection.md).
    """
    groups = np.asarray(labels)
    found = []
    for row in range(groups.size):
        own = groups == groups[row]
        if own.sum() < 2 or own.all():
            continue
        inside = distance[row, own].sum() / (own.sum() - 1)
        outside = distance[row, ~own].mean()
        largest = max(inside, outside)
        found.append((outside - inside) / largest if largest > 0 else 0.0)
    return float(np.mean(found)) if found else math.nan
