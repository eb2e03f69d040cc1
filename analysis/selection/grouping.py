"""K-means of numbers on a line, solved exactly: the same numbers give the same groups, whatever the seed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def group_on_line(values: npt.ArrayLike, n_groups: int) -> IntArray:
    """Labels 0, 1, ... in ascending order of the groups' means; the sum of squares within groups is the least there is.

    On a line the best groups are intervals of the sorted values, so dynamic programming over their ends finds them:
    cost(g, j) = min over i of cost(g - 1, i) + ss(i..j).

    Args:
        values: (n,) finite numbers, at least one.
        n_groups: at least 1; equal values are never parted, so that there are at most as many groups as distinct values.

    Raises:
        ValueError: no value, a value that is not finite, or no group.

    Source: Wang & Song, "Ckmeans.1d.dp", R Journal 3(2), 2011. Differs from scikit-learn's KMeans: no random start.
    Cost: O(n_groups n^2).
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not numbers.size or not np.isfinite(numbers).all() or n_groups < 1:
        raise ValueError(
            f"got values of shape {numbers.shape} for {n_groups} groups; expected at least one group and one finite number"
        )
    distinct, place, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    n, n_groups = distinct.size, min(n_groups, distinct.size)
    # sums from the smallest value on: a large common offset would swallow the squares
    shifted = distinct - distinct[0]
    weight = np.concatenate([[0.0], np.cumsum(counts)])
    total = np.concatenate([[0.0], np.cumsum(counts * shifted)])
    square = np.concatenate([[0.0], np.cumsum(counts * shifted**2)])
    cost = np.full(n + 1, np.inf)
    cost[0] = 0.0
    begins = np.zeros((n_groups, n + 1), dtype=np.int64)
    for group in range(n_groups):
        best = np.full(n + 1, np.inf)
        for end in range(group + 1, n + 1):
            start = np.arange(group, end)
            within = square[end] - square[start] - (total[end] - total[start]) ** 2 / (weight[end] - weight[start])
            options = cost[start] + within
            chosen = int(np.argmin(options))
            best[end], begins[group, end] = options[chosen], start[chosen]
        cost = best
    labels = np.zeros(n, dtype=np.int64)
    end = n
    for group in range(n_groups - 1, -1, -1):
        labels[begins[group, end] : end] = group
        end = int(begins[group, end])
    return labels[place]
