"""Exact K-means on a line, against trying every partition and against scikit-learn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.cluster import KMeans

from analysis.selection.grouping import group_on_line


def _within(values: np.ndarray, labels: np.ndarray) -> float:
    return sum(((values[labels == g] - values[labels == g].mean()) ** 2).sum() for g in np.unique(labels))


def _least(values: np.ndarray, n_groups: int) -> float:
    """Over all ways to cut the sorted values."""
    ordered = np.sort(values)
    best = np.inf
    for cuts in itertools.combinations(range(1, len(values)), n_groups - 1):
        best = min(best, sum(((part - part.mean()) ** 2).sum() for part in np.split(ordered, cuts)))
    return best


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_groups", [1, 2, 3, 4])
def test_no_partition_is_better(seed: int, n_groups: int) -> None:
    values = np.random.default_rng(seed).uniform(0, 1, 9)
    labels = group_on_line(values, n_groups)
    assert np.unique(labels).tolist() == list(range(n_groups))
    assert _within(values, labels) == pytest.approx(_least(values, n_groups))


def test_agrees_with_the_best_of_many_starts() -> None:
    values = np.random.default_rng(7).normal(size=40)
    found = KMeans(n_clusters=4, n_init=200, random_state=0).fit(values[:, None])
    assert _within(values, group_on_line(values, 4)) == pytest.approx(found.inertia_)


def test_labels_ascend_with_the_values_and_do_not_depend_on_order() -> None:
    assert group_on_line([0.9, 0.1, 0.11, 0.5], 3).tolist() == [2, 0, 0, 1]


def test_equal_values_stay_together() -> None:
    assert group_on_line([0.5, 0.5, 0.5], 4).tolist() == [0, 0, 0]
    assert group_on_line([0.5, 0.5, 0.7], 3).tolist() == [0, 0, 1]


def test_a_large_offset_does_not_matter() -> None:
    values = np.array([0.0, 0.001, 0.01, 0.011])
    assert group_on_line(values + 1e6, 2).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(("values", "n_groups"), [([], 2), ([np.nan, 0.1], 1), ([0.1], 0)])
def test_what_cannot_be_grouped_is_refused(values: list[float], n_groups: int) -> None:
    with pytest.raises(ValueError, match="expected at least one group"):
        group_on_line(values, n_groups)
