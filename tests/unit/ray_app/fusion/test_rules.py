"""The rules of fusing against hand arithmetic, against element-by-element loops in exact fractions, and their symmetry."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ray_app.fusion import rules

F32 = np.float32
WILD = st.floats(width=32, allow_nan=False, allow_infinity=False)
"""All finite float32 values: exponents from -149 to 127, both zeros."""


def _f(*values: float) -> np.ndarray:
    return np.array(values, F32)


def test_mean_by_hand() -> None:
    found = rules.mean([_f(1, 2, -4), _f(3, 0, 8), _f(5, 1, -1)])
    assert found.dtype == np.float64
    assert found.tolist() == [3.0, 1.0, 1.0]


@settings(max_examples=60, deadline=None)
@given(arrays(F32, (5, 40), elements=WILD), st.randoms(use_true_random=False))
def test_mean_is_the_exact_mean_and_bit_identical_in_any_order(values: np.ndarray, chance: object) -> None:
    rows = list(values)
    expected = [float(sum(Fraction(float(row[column])) for row in rows) / 5) for column in range(40)]
    found = rules.mean(rows)
    largest = np.abs(values.astype(np.float64)).max(axis=0)
    assert np.all(np.abs(found - expected) <= 5 * 2.0**-53 * np.maximum(largest, 2.0**-1000))
    chance.shuffle(rows)  # type: ignore[attr-defined]
    assert rules.mean(rows).tobytes() == found.tobytes()


def test_the_order_would_matter_without_sorting() -> None:
    """The property above is no property of float64: three numbers are enough to see it."""
    a, b, c = _f(1e30), _f(-1e30), _f(1.0)
    naive = [((first.astype(np.float64) + second) + third).tolist() for first, second, third in ((a, b, c), (a, c, b))]
    assert naive == [[1.0], [0.0]]
    assert len({rules.mean(list(order)).tobytes() for order in permutations([a, b, c])}) == 1


def test_order_is_told_by_later_elements_where_the_first_agree() -> None:
    same = np.zeros(40, F32)
    rows = []
    for last in (1e30, -1e30, 1.0):
        row = same.copy()
        row[-1] = last
        rows.append(row)
    results = {rules.mean(list(order)).tobytes() for order in permutations(rows)}
    assert len(results) == 1


def test_normalised_weights() -> None:
    assert rules.normalised([2, 1, 1]) == [0.5, 0.25, 0.25]
    for weights in ([0.0, 0.0], [1.0, -1.0], [math.inf, 1.0], [math.nan, 1.0]):
        with pytest.raises(ValueError, match="sum to"):
            rules.normalised(weights)
    first, second = rules.normalised([0.1, 0.1, 0.1, 1e17]), rules.normalised([1e17, 0.1, 0.1, 0.1])
    assert first == [*second[1:], second[0]]


def test_weighted_mean_by_hand_and_in_any_order() -> None:
    values, weights = [_f(1, 8), _f(3, -8), _f(7, 1e30)], [0.5, 0.25, 0.25]
    found = rules.weighted_mean(values, weights)
    assert found[0] == 3.0
    pairs = list(zip(values, weights, strict=True))
    results = {rules.weighted_mean([v for v, _ in p], [w for _, w in p]).tobytes() for p in permutations(pairs)}
    assert len(results) == 1


def test_equal_weights_give_the_mean() -> None:
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(50).astype(F32) for _ in range(4)]
    assert np.array_equal(rules.weighted_mean(values, [0.25] * 4), rules.mean(values))


def test_fisher_mean_by_hand() -> None:
    values = [_f(1, 2, 5), _f(3, 6, 7)]
    fishers = [_f(3, 1, 0), _f(1, 0, 0)]
    found = rules.fisher_mean(values, fishers, [1.0, 2.0])
    floor = rules.FISHER_FLOOR
    assert found[0] == pytest.approx((3 * 1 + 2 * 1 * 3) / (3 + 2))
    assert found[1] == pytest.approx((1 * 2 + 2 * floor * 6) / (1 + 2 * floor))
    assert found[2] == pytest.approx((5 + 2 * 7) / 3)  # none is known to matter: the weighted mean


def test_fisher_mean_is_drawn_to_the_certain_model() -> None:
    found = rules.fisher_mean([_f(0), _f(1)], [_f(1), _f(1e9)], [0.5, 0.5])
    assert found[0] == pytest.approx(1, abs=1e-8)


def test_task_arithmetic_by_hand() -> None:
    base = _f(1, 1, 1)
    found = rules.task_arithmetic(base, [_f(2, 1, 0), _f(4, 1, 3)], [1.0, 0.5], 0.5)
    assert found.tolist() == [1 + 0.5 * (1 + 0.5 * 3), 1.0, 1 + 0.5 * (-1 + 0.5 * 2)]


def test_trim_keeps_the_share_with_the_largest_magnitudes() -> None:
    magnitudes = _f(5, 1, 4, 2, 3)
    assert rules.trim(magnitudes.copy(), 0.4).keep(magnitudes).tolist() == [True, False, True, False, False]
    assert rules.trim(magnitudes.copy(), 0.59).keep(magnitudes).sum() == 2  # int(2.95)
    assert rules.trim(magnitudes.copy(), 1.0).keep(magnitudes).all()
    assert rules.trim(magnitudes.copy(), 0.01).keep(magnitudes).tolist() == [True, False, False, False, False]


def test_trim_keeps_the_first_of_equals_also_in_pieces() -> None:
    magnitudes = _f(2, 1, 2, 2, 3, 2)
    whole = rules.trim(magnitudes.copy(), 0.5)
    assert whole.keep(magnitudes).tolist() == [True, False, True, False, True, False]
    pieces = rules.trim(magnitudes.copy(), 0.5)
    found = [mask for start in range(0, 6, 2) for mask in pieces.keep(magnitudes[start : start + 2]).tolist()]
    assert found == [True, False, True, False, True, False]
    zeros = np.zeros(4, F32)
    assert rules.trim(zeros.copy(), 0.5).keep(zeros).tolist() == [True, True, False, False]


def test_ties_by_hand() -> None:
    """Columns: agreement; a heavier side; a dropped value that does not count; all dropped; a draw, which is positive."""
    base = _f(10, 10, 10, 10, 10)
    values = [_f(12, 9, 14, 11, 11), _f(14, 13, 6, 11, 9)]
    kept = [np.array([1, 1, 1, 0, 1], bool), np.array([1, 1, 0, 0, 1], bool)]
    found = rules.ties(base, values, kept, [1.0, 1.0], 0.5)
    assert found.tolist() == [10 + 0.5 * 3, 10 + 0.5 * 3, 10 + 0.5 * 4, 10.0, 10 + 0.5 * 1]


def test_ties_weighs_the_election_and_the_mean() -> None:
    every = np.array([True])
    found = rules.ties(_f(0), [_f(1), _f(-2), _f(3)], [every] * 3, [1.0, 3.0, 1.0], 1.0)
    assert found.tolist() == [-2.0]  # 1 - 6 + 3 < 0: only the second agrees, and its own weight divides
    found = rules.ties(_f(0), [_f(1), _f(-2), _f(3)], [every] * 3, [1.0, 1.0, 2.0], 1.0)
    assert found.tolist() == [(1 + 2 * 3) / 3]


def test_dare_by_hand() -> None:
    base = _f(1, 1, 1)
    kept = [np.array([1, 0, 1], bool), np.array([0, 0, 1], bool)]
    found = rules.dare(base, [_f(2, 5, 3), _f(7, 5, 0)], kept, [1.0, 2.0], density=0.5, scaling=0.5)
    assert found.tolist() == [1 + 0.5 * (1 / 0.5), 1.0, 1 + 0.5 * (2 / 0.5 + 2 * (-1) / 0.5)]


def test_dare_that_drops_nothing_is_task_arithmetic() -> None:
    rng = np.random.default_rng(1)
    base, *values = [rng.standard_normal(30).astype(F32) for _ in range(4)]
    kept = [np.ones(30, bool)] * 3
    found = rules.dare(base, values, kept, [1.0, 0.5, 2.0], density=1.0, scaling=0.7)
    assert np.array_equal(found, rules.task_arithmetic(base, values, [1.0, 0.5, 2.0], 0.7))
