"""Several scores in one: the mean of the places they give."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from analysis.proxies.rows import FloatArray


def average_places(scores: npt.ArrayLike) -> FloatArray:
    """Mean place of each candidate over several scores, in [0, 1]; higher is better.

    Among the n candidates that score j was given for, the place of one is (rank - 1/2) / n, rank 1 for the lowest, ties sharing their
    mean. A candidate's places are averaged over the scores it has; NaN without any.

    Args:
        scores: (n_candidates, n_scores), higher is better, NaN where refused.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"got scores of shape {values.shape}; expected (n_candidates, n_scores)")
    places = np.full(values.shape, np.nan)
    for column in range(values.shape[1]):
        known = np.isfinite(values[:, column])
        if known.any():
            places[known, column] = (rankdata(values[known, column]) - 0.5) / known.sum()
    there = np.isfinite(places)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, places, 0.0).sum(axis=1) / there.sum(axis=1))
