"""The winner's curse: closed forms, hand arithmetic, and a world where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.winners_curse import expected_best_of_noise, shrink_gains, winner_bias


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, 0.0), (2, 1 / math.sqrt(math.pi)), (3, 1.5 / math.sqrt(math.pi)), (10, 1.53875), (100, 2.50759)],
)
def test_expected_largest_of_standard_normals(count: int, expected: float) -> None:
    """Closed forms for 2 and 3; 10 and 100 from Harter's table."""
    assert expected_best_of_noise(np.ones(count)) == pytest.approx(expected, abs=1e-5)
    assert expected_best_of_noise(np.full(count, 0.3)) == pytest.approx(0.3 * expected, abs=1e-5)


def test_expected_largest_of_two_unequal_normals() -> None:
    """E max(a, b) = sqrt(va + vb) / sqrt(2 pi) (Clark 1961) for independent a, b of mean 0."""
    assert expected_best_of_noise(np.array([1.0, 2.0])) == pytest.approx(math.sqrt(5 / (2 * math.pi)), abs=1e-6)


def test_noise_that_is_unknown_or_none_is_left_out() -> None:
    assert expected_best_of_noise(np.array([1.0, math.nan, 0.0, 1.0])) == pytest.approx(
        1 / math.sqrt(math.pi), abs=1e-6
    )
    assert math.isnan(expected_best_of_noise(np.array([math.nan, 0.0])))


def test_shrinkage_by_hand() -> None:
    """Gains 0, 2, 4, errors 1: mean 2, Q = 8, w^2 = (8 - 2) / (3 - 1) = 3, B = 3/4; sd^2 = 3/4 + (1/4)^2 (4/3)."""
    result = shrink_gains([0.0, 2.0, 4.0], [1.0, 1.0, 1.0])
    assert result.center == pytest.approx(2.0)
    assert result.spread == pytest.approx(math.sqrt(3))
    assert result.gain == pytest.approx([0.5, 2.0, 3.5])
    assert result.sd == pytest.approx([math.sqrt(0.75 + 1 / 12)] * 3)


def test_all_spread_is_noise() -> None:
    result = shrink_gains([0.9, 1.0, 1.1, math.nan], [1.0, 1.0, 1.0, 1.0])
    assert result.spread == 0.0
    assert result.gain[:3] == pytest.approx([1.0, 1.0, 1.0])
    assert math.isnan(result.gain[3])


def test_two_models_cannot_be_shrunk() -> None:
    result = shrink_gains([1.0, 2.0], [0.5, 0.5])
    assert np.isnan(result.gain).all()
    assert result.reason == "2 base models have a gain with a standard error; shrinkage needs 3"


def test_bias_by_hand() -> None:
    """Draw 1: first wins, moved 0; draw 2: second wins (0 + 1.5 > 1 - 1), moved 1.5; draw 3: first, moved 0.3."""
    deviations = np.array([[0.0, 0.0], [-1.0, 1.5], [0.3, -0.2]])
    assert winner_bias([1.0, 0.0], deviations) == pytest.approx((0.0 + 1.5 + 0.3) / 3)
    assert math.isnan(winner_bias([math.nan, math.nan], deviations))


def test_both_corrections_come_nearer_the_truth(rng: np.random.Generator) -> None:
    """200 worlds of 40 models, true spread 0.5, noise 0.5: the naive winner is too high by much, the corrected by less."""
    naive, shrunken, bootstrap = [], [], []
    for _ in range(200):
        truth = 0.5 * rng.standard_normal(40)
        seen = truth + 0.5 * rng.standard_normal(40)
        best = int(seen.argmax())
        naive.append(seen[best] - truth[best])
        shrunken.append(shrink_gains(seen, np.full(40, 0.5)).gain[best] - truth[best])
        bias = winner_bias(seen, 0.5 * rng.standard_normal((200, 40)))
        bootstrap.append(seen[best] - bias - truth[best])
    assert np.mean(naive) > 0.5
    assert abs(np.mean(shrunken)) < 0.1
    assert 0.0 < np.mean(bootstrap) < 0.75 * np.mean(naive)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="expected one per base model"):
        shrink_gains([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match=r"expected \(n_bases,\) and \(n_draws, n_bases\)"):
        winner_bias([1.0, 2.0], np.zeros((5, 3)))
