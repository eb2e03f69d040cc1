"""Leave-one-out nearest neighbours: whether rows that lie together have the same label."""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from analysis.proxies.rows import FloatArray, LabelledRows

NEIGHBOURS = 5
_CHUNK = 1024
_TIE = 1e-9
"""Relative difference of squared distances below which they count as equal."""


def score_neighbours(rows: LabelledRows) -> float:
    """Leave-one-out accuracy of five nearest neighbours (Euclidean), fraction; for numbers, Spearman's rho of their mean.

    Every row that is as near as the fifth counts as well, and classes with equally many votes share them, so that neither the order
    of rows nor the names of classes matter.

    Cost: O(n^2 d), in chunks of 1,024 rows.
    """
    wanted = rows.targets[:, None] if rows.regression else rows.one_hot()
    gathered = _gather(rows.features - rows.features.mean(axis=0), wanted)
    if rows.regression:
        predicted = gathered[:, 0]
        return float(spearmanr(predicted, rows.targets).statistic) if np.ptp(predicted) > 0 else 0.0
    winners = gathered >= gathered.max(axis=1, keepdims=True) - _TIE
    right = winners[np.arange(len(winners)), rows.codes] / winners.sum(axis=1)
    return float(right.mean())


def _gather(centred: FloatArray, wanted: FloatArray) -> FloatArray:
    """(n_rows, n_columns) mean of ``wanted`` over the neighbours of each row."""
    norms = np.einsum("ij,ij->i", centred, centred)
    n_rows = len(centred)
    k = min(NEIGHBOURS, n_rows - 1)
    found = np.empty((n_rows, wanted.shape[1]))
    for start in range(0, n_rows, _CHUNK):
        part = slice(start, min(start + _CHUNK, n_rows))
        distances = norms[part, None] + norms[None, :] - 2 * centred[part] @ centred.T
        here = np.arange(part.stop - start)
        distances[here, start + here] = np.inf
        limit = np.partition(distances, k - 1, axis=1)[:, k - 1 : k]
        near = distances <= limit + _TIE * (norms[part, None] + norms.max())
        found[part] = (near @ wanted) / near.sum(axis=1, keepdims=True)
    return found
