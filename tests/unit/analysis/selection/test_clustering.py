"""Clusters, representatives, thresholds and both silhouettes, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.selection.clustering import choose_threshold, cluster_by_kmeans, cluster_by_linkage
from analysis.selection.recall_rules import ThresholdRule
from analysis.selection.silhouette import silhouette_reference, silhouette_sklearn

# four models on a line at 0.0, 0.1, 0.5, 0.6, and one far away at 2.0
PLACES = np.array([0.0, 0.1, 0.5, 0.6, 2.0])
DISTANCE = np.abs(PLACES[:, None] - PLACES[None, :])
AVERAGE = np.array([0.3, 0.4, 0.9, 0.8, 0.99])


@pytest.mark.parametrize(
    ("threshold", "labels"),
    [
        (0.05, [0, 1, 2, 3, 4]),
        (0.1, [0, 0, 1, 1, 2]),
        (0.49, [0, 0, 1, 1, 2]),
        (0.5, [0, 0, 0, 0, 1]),  # mean distance of the two pairs: (0.5 + 0.6 + 0.4 + 0.5) / 4
        (2.0, [0, 0, 0, 0, 0]),
    ],
)
def test_average_linkage(threshold: float, labels: list[int]) -> None:
    assert cluster_by_linkage(DISTANCE, AVERAGE, threshold=threshold).labels.tolist() == labels


def test_representatives_and_sizes() -> None:
    clusters = cluster_by_linkage(DISTANCE, AVERAGE, threshold=0.1)
    assert clusters.representatives.tolist() == [1, 2, 4]
    assert clusters.sizes.tolist() == [2, 2, 1]
    assert clusters.shared.tolist() == [0, 1]
    assert clusters.members(1).tolist() == [2, 3]


def test_a_model_without_average_represents_only_itself() -> None:
    average = np.array([np.nan, 0.1, 0.2, np.nan, np.nan])
    assert cluster_by_linkage(DISTANCE, average, threshold=0.1).representatives.tolist() == [1, 2, 4]


def test_larger_clusters_come_first() -> None:
    order = [4, 0, 1, 2, 3]
    clusters = cluster_by_linkage(DISTANCE[np.ix_(order, order)], AVERAGE[order], threshold=0.5)
    assert clusters.labels.tolist() == [1, 0, 0, 0, 0]


def test_all_equal_is_one_cluster_and_one_model_too() -> None:
    same = np.zeros((4, 4))
    assert choose_threshold(same, ThresholdRule.MEDIAN) == 0
    assert cluster_by_linkage(same, np.ones(4), threshold=0).sizes.tolist() == [4]
    assert cluster_by_linkage(np.zeros((1, 1)), np.ones(1), threshold=0).sizes.tolist() == [1]
    assert choose_threshold(np.zeros((1, 1)), ThresholdRule.MEDIAN) == 0


def test_the_median_rule() -> None:
    # distances 0.1 (twice), 0.4, 0.5 (twice), 0.6, 1.4, 1.5, 1.9, 2.0: median 0.55, two thirds 0.367
    assert choose_threshold(DISTANCE, ThresholdRule.MEDIAN) == 0.4


def test_the_silhouette_rule_finds_the_two_pairs_and_the_far_one() -> None:
    pairs = np.array([0.0, 0.1, 5.0, 5.1, 9.0, 9.1])
    distance = np.abs(pairs[:, None] - pairs[None, :])
    threshold = choose_threshold(distance, ThresholdRule.SILHOUETTE)
    assert cluster_by_linkage(distance, np.ones(6), threshold=threshold).sizes.tolist() == [2, 2, 2]


@pytest.mark.parametrize("threshold", [-0.1, math.nan, math.inf])
def test_thresholds_that_cannot_be(threshold: float) -> None:
    with pytest.raises(ValueError, match="expected a distance"):
        cluster_by_linkage(DISTANCE, AVERAGE, threshold=threshold)


def test_kmeans() -> None:
    vectors = np.column_stack([PLACES, PLACES])
    assert cluster_by_kmeans(vectors, AVERAGE, n_clusters=3).labels.tolist() == [0, 0, 1, 1, 2]
    assert cluster_by_kmeans(np.ones((3, 2)), np.ones(3), n_clusters=2).sizes.tolist() == [3]
    with pytest.raises(ValueError, match="1 of 2 vectors"):
        cluster_by_kmeans(np.array([[np.nan], [1.0]]), np.ones(2), n_clusters=1)


def test_reference_silhouette_by_hand() -> None:
    # pair (0.0, 0.1): a = 0.1, outsiders of 0.0 at 0.5, 0.6, 2.0: b = 3.1 / 3; of 0.1: b = 2.8 / 3
    # pair (0.5, 0.6): a = 0.1, outsiders of 0.5: (0.5 + 0.4 + 1.5) / 3 = 0.8; of 0.6: (0.6 + 0.5 + 1.4) / 3 = 2.5 / 3
    expected = np.mean([1 - 0.1 / (3.1 / 3), 1 - 0.1 / (2.8 / 3), 1 - 0.1 / 0.8, 1 - 0.1 / (2.5 / 3)])
    assert silhouette_reference(DISTANCE, [0, 0, 1, 1, 2]) == pytest.approx(expected)


def test_sklearn_silhouette_by_hand() -> None:
    # nearest other cluster: of 0.0 (0.5 + 0.6) / 2, of 0.1 (0.4 + 0.5) / 2, and the same for 0.6 and 0.5; 2.0 alone counts 0
    expected = np.mean([1 - 0.1 / 0.55, 1 - 0.1 / 0.45, 1 - 0.1 / 0.45, 1 - 0.1 / 0.55, 0])
    assert silhouette_sklearn(DISTANCE, [0, 0, 1, 1, 2]) == pytest.approx(expected)


@pytest.mark.parametrize("labels", [[0] * 5, [0, 1, 2, 3, 4]], ids=["one cluster", "singletons"])
def test_silhouettes_that_are_not_defined(labels: list[int]) -> None:
    assert math.isnan(silhouette_sklearn(DISTANCE, labels))
    assert math.isnan(silhouette_reference(DISTANCE, labels))


def test_equal_models_in_two_clusters_score_0() -> None:
    assert silhouette_reference(np.zeros((4, 4)), [0, 0, 1, 1]) == 0
