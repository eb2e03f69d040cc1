"""Eq. 1 and cosines, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.selection.similarity import UNLIKE, cosine_distance, performance_distance


def test_the_k_largest_differences() -> None:
    scores = [[0.5, 0.6, 0.7, 0.8], [0.6, 0.9, 0.7, 0.6]]  # differences 0.1, 0.3, 0.0, 0.2
    assert performance_distance(scores, k=1)[0, 1] == pytest.approx(0.3)
    assert performance_distance(scores, k=2)[0, 1] == pytest.approx(0.25)
    assert performance_distance(scores, k=4)[0, 1] == pytest.approx(0.15)
    assert performance_distance(scores, k=9)[0, 1] == pytest.approx(0.15)


def test_only_positive_scores_count() -> None:
    scores = [[-0.5, 0.6, 0.7, 0.8], [0.6, 0.9, 0.0, 0.6]]  # left are 0.3 and 0.2
    assert performance_distance(scores, k=2)[0, 1] == pytest.approx(0.25)


def test_too_few_common_tasks_means_unlike() -> None:
    scores = [[0.5, np.nan, 0.7], [0.5, 0.6, np.nan], [0.5, 0.6, 0.7]]
    distance = performance_distance(scores, k=2)
    assert distance[0, 1] == UNLIKE
    assert distance[0, 2] == 0
    assert distance.diagonal().tolist() == [0, 0, 0]


def test_a_model_without_scores_is_unlike_all() -> None:
    assert performance_distance([[np.nan, np.nan], [0.5, 0.6]], k=1)[0].tolist() == [0, UNLIKE]


@given(arrays(np.float64, (5, 7), elements=st.floats(0.01, 1)), st.integers(1, 7), st.randoms())
@settings(max_examples=25)
def test_symmetric_and_blind_to_the_order_of_tasks(scores: np.ndarray, k: int, random: object) -> None:
    distance = performance_distance(scores, k=k)
    np.testing.assert_allclose(distance, distance.T)
    np.testing.assert_allclose(performance_distance(scores[:, ::-1], k=k), distance, atol=1e-12)
    np.testing.assert_allclose(performance_distance(scores[::-1], k=k), distance[::-1, ::-1], atol=1e-12)


@pytest.mark.parametrize(("scores", "k"), [([[0.5]], 0), (np.empty((0, 3)), 5), ([0.1, 0.2], 5)])
def test_refused(scores: object, k: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        performance_distance(scores, k=k)  # type: ignore[arg-type]


def test_cosines() -> None:
    distance = cosine_distance([[1, 0], [0, 2], [3, 3], [-1, 0]])
    np.testing.assert_allclose(distance[0], [0, 1, 1 - np.sqrt(0.5), 2])


@pytest.mark.parametrize("vectors", [[[0, 0], [1, 0]], [[np.nan, 1]], [1, 2]])
def test_vectors_without_a_direction_are_refused(vectors: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        cosine_distance(vectors)  # type: ignore[arg-type]
