"""How alike two base models are: by what they score on benchmark tasks (Eq. 1), or by what their cards say."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

UNLIKE = 1.0
"""Distance of two base models that cannot be compared: the largest that scores from 0 to 1 can have."""


def performance_distance(test: npt.ArrayLike, *, k: int = 5) -> FloatArray:
    """Distance 1 - sim of every two base models (Eq. 1): the mean of their k largest absolute score differences.

        dis(a, b) = avg(top_k |vec(a) - vec(b)|)

    Only tasks on which both score above 0 count: a correlation below 0 means that a model learned nothing, by chance more or
    less so. With fewer than k such tasks (or than the matrix has tasks) two models cannot be compared and are ``UNLIKE``.

    Args:
        test: (n_bases, n_tasks) fractions, NaN where missing.
        k: how many differences; the paper takes 5. All tasks where the matrix has fewer.

    Returns:
        (n_bases, n_bases), symmetric, 0 on the diagonal.

    Source: section III.A, Eq. 1; that only positive scores count is the reference code's rule, and what meets its numbers.
    Cost: O(n_bases^2 n_tasks).
    """
    scores = np.asarray(test, dtype=np.float64)
    if scores.ndim != 2 or not scores.size:
        raise ValueError(
            f"got scores of shape {scores.shape}; expected (n_bases, n_tasks), at least one base model and task"
        )
    if k < 1:
        raise ValueError(f"got k = {k}; expected at least one difference to average")
    k = min(k, scores.shape[1])
    usable = np.where(scores > 0, scores, np.nan)
    n = scores.shape[0]
    distance = np.zeros((n, n))
    for row in range(n):
        differences = np.sort(-np.abs(usable - usable[row]), axis=1)[:, :k]  # NaN last
        comparable = np.isfinite(differences).all(axis=1)
        distance[row] = np.where(comparable, -differences.mean(axis=1), UNLIKE)
    distance = (distance + distance.T) / 2
    np.fill_diagonal(distance, 0.0)
    return distance


def cosine_distance(vectors: npt.ArrayLike) -> FloatArray:
    """1 - cosine of every two rows, (n, n): distance of texts by the vectors of a sentence encoder, or of score vectors.

    Raises:
        ValueError: not (n, d), a value that is not finite, or a row of zeros, which has no direction.
    """
    rows = np.asarray(vectors, dtype=np.float64)
    if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
        raise ValueError(f"got vectors of shape {rows.shape}; expected (n, d) finite numbers")
    length = np.linalg.norm(rows, axis=1)
    if not length.all():
        raise ValueError(f"got a row of zeros (row {int(np.argmin(length))}); expected vectors with a direction")
    unit = rows / length[:, None]
    distance = np.clip(1 - unit @ unit.T, 0.0, 2.0)
    distance = (distance + distance.T) / 2
    np.fill_diagonal(distance, 0.0)
    return distance
