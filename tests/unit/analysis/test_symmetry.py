"""Symmetry by hand and against its own shuffles."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from analysis.symmetry import compare_symmetry, measure_symmetry

NAN = math.nan


def test_known_matrices() -> None:
    # S = [[1, 2.5], [2.5, 4]], V = [[0, -0.5], [0.5, 0]]: norms sqrt(29.5) and sqrt(0.5)
    assert measure_symmetry([[1, 2], [3, 4]]).score == pytest.approx(0.769616, abs=5e-7)
    assert measure_symmetry([[0, 1], [0, 0]]).score == 0
    assert measure_symmetry([[1, 2], [2, 5]]).score == 1
    assert measure_symmetry([[0, 3], [-3, 0]]).score == -1


def test_the_diagonal_can_be_left_out() -> None:
    # norms sqrt(12.5) and sqrt(0.5)
    assert measure_symmetry([[1, 2], [3, 4]], diagonal=False).score == pytest.approx((5 - 1) / (5 + 1))


def test_a_pair_with_a_missing_cell_is_left_out() -> None:
    found = measure_symmetry([[1.0, 2.0, NAN], [3.0, 4.0, 5.0], [7.0, 5.0, 0.0]])
    assert (found.n_pairs, found.n_dropped) == (2, 1)
    # S: 1, 4 on the diagonal, 2.5 and 5 off it; V: 0.5
    s, v = math.sqrt(17 + 2 * (6.25 + 25)), math.sqrt(0.5)
    assert found.score == pytest.approx((s - v) / (s + v))


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        ([[5.0]], "no pair"),
        ([[1, NAN], [2, 3]], "no pair"),
        (np.zeros((3, 3)), "all cells are zero"),
        (np.full((3, 3), NAN), "no pair"),
    ],
)
def test_what_cannot_be_computed_is_nan_with_the_reason(matrix: np.ndarray, reason: str) -> None:
    found = measure_symmetry(matrix)
    assert reason in found.reason and math.isnan(found.score)
    assert compare_symmetry(matrix, rng=np.random.default_rng(0)).reason


def test_a_matrix_that_is_not_square_is_refused() -> None:
    with pytest.raises(ValueError, match="square"):
        measure_symmetry(np.ones((2, 3)))
    with pytest.raises(ValueError, match="shuffles"):
        compare_symmetry(np.eye(3), rng=np.random.default_rng(0), n_shuffles=1)


def test_shuffles_agree_with_all_arrangements() -> None:
    matrix = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.5, 0.0]])
    places = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    scores = []
    for values in itertools.permutations(matrix[tuple(zip(*places, strict=True))]):
        arranged = np.zeros((3, 3))
        for (i, j), value in zip(places, values, strict=True):
            arranged[i, j] = value
        s, v = np.linalg.norm((arranged + arranged.T) / 2), np.linalg.norm((arranged - arranged.T) / 2)
        scores.append((s - v) / (s + v))
    found = compare_symmetry(matrix, rng=np.random.default_rng(4), n_shuffles=800)
    assert found.shuffled_mean == pytest.approx(np.mean(scores), abs=0.02)
    assert found.shuffled_sd == pytest.approx(np.std(scores), abs=0.02)
    assert found.p == pytest.approx(np.mean(np.array(scores) >= found.observed.score - 1e-12), abs=0.03)


def test_a_cell_without_its_counterpart_is_not_shuffled_into_pairs() -> None:
    matrix = np.array([[0.0, NAN, 1.0], [1000.0, 0.0, 2.0], [3.0, 4.0, 0.0]])
    scores = []
    for a, b, c, d in itertools.permutations([1.0, 2.0, 3.0, 4.0]):
        s, v = math.hypot(a + c, b + d), math.hypot(a - c, b - d)
        scores.append((s - v) / (s + v))
    found = compare_symmetry(matrix, rng=np.random.default_rng(0), n_shuffles=400)
    assert found.shuffled_mean == pytest.approx(np.mean(scores), abs=0.03)
    assert found.shuffled_sd == pytest.approx(np.std(scores), abs=0.03)


def test_no_null_distribution_is_stated() -> None:
    rng = np.random.default_rng(0)
    assert "only 2 tasks" in compare_symmetry([[1, 2], [3, 4]], rng=rng).reason
    assert "equal" in compare_symmetry(np.ones((3, 3)), rng=rng).reason
    missing = np.arange(16.0).reshape(4, 4)
    missing[0, 1] = NAN
    found = compare_symmetry(missing, rng=rng, n_shuffles=20)
    assert found.observed.n_dropped == 1 and 0 < found.p <= 1
