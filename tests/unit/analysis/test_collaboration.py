"""Maths of collaborative descent against hand arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.collaboration import (
    ProbeMean,
    harms,
    mean_probe,
    probe_weights,
    repeated_gain,
    stale_mixture,
    staleness_weight,
)


def test_mean_probe_and_its_binomial_error() -> None:
    found = mean_probe([0.5, 0.9], [98, 98])
    # (n p + 1) / (n + 2): 50 / 100 and 89.2 / 100; variances 0.25 / 98 and 0.892 x 0.108 / 98; divided by T = 2
    assert found.score == pytest.approx(0.7)
    assert found.se == pytest.approx(math.sqrt((0.25 + 0.892 * 0.108) / 98) / 2)


def test_perfect_scores_are_not_free_of_noise() -> None:
    assert mean_probe([1.0], [10]).se > 0 and mean_probe([0.0], [10]).se == pytest.approx(mean_probe([1.0], [10]).se)


@pytest.mark.parametrize(("scores", "rows"), [([], []), ([0.5], [0]), ([0.5, 0.5], [3])])
def test_probes_that_cannot_be_averaged(scores: list[float], rows: list[float]) -> None:
    with pytest.raises(ValueError, match="row"):
        mean_probe(scores, rows)


def test_harm_begins_beyond_the_noise_of_the_difference() -> None:
    before = ProbeMean(score=0.80, se=0.03)
    assert not harms(before, ProbeMean(score=0.751, se=0.04), z=1.0)  # sqrt(9 + 16) = 5 points
    assert harms(before, ProbeMean(score=0.749, se=0.04), z=1.0)
    assert not harms(before, ProbeMean(score=0.749, se=0.04), z=2.0)
    assert not harms(before, ProbeMean(score=0.95, se=0.0), z=0.0)


def test_staleness_weighs_by_the_polynomial() -> None:
    assert staleness_weight(0, exponent=0.5) == 1.0
    assert staleness_weight(3, exponent=0.5) == pytest.approx(0.5)
    assert staleness_weight(7, exponent=0.0) == 1.0
    with pytest.raises(ValueError, match="expected 0 or more"):
        staleness_weight(-1, exponent=0.5)


def test_fresh_contributions_give_their_plain_mean_and_stale_ones_leave_the_base_its_share() -> None:
    shares, base = stale_mixture([0, 0], exponent=0.5)
    assert shares.tolist() == [0.5, 0.5] and base == 0.0
    shares, base = stale_mixture([0, 3], exponent=0.5)
    assert shares.tolist() == [0.5, 0.25] and base == pytest.approx(0.25)
    with pytest.raises(ValueError, match="at least one"):
        stale_mixture([], exponent=0.5)


def test_probe_weights_are_a_softmax() -> None:
    weights = probe_weights([0.60, 0.65], temperature=0.05)
    assert weights[1] / weights[0] == pytest.approx(math.e) and weights.sum() == pytest.approx(1.0)
    assert probe_weights([0.3, 0.3, 0.3], temperature=0.01) == pytest.approx([1 / 3] * 3)
    assert probe_weights([0.1, 0.9], temperature=1e6) == pytest.approx([0.5, 0.5], abs=1e-6)
    with pytest.raises(ValueError, match="temperature"):
        probe_weights([0.5], temperature=0.0)
    with pytest.raises(ValueError, match="finite"):
        probe_weights([0.5, math.nan], temperature=0.1)


def test_repeated_gain_by_hand() -> None:
    found = repeated_gain([[1.0, 3.0], [2.0, 6.0]])
    # means of seeds 1.5 and 4.5: variance 4.5, halved 2.25; within tasks variances 2 and 8: 10 / (2 x 4) = 1.25
    assert found.mean == pytest.approx(3.0) and found.se == pytest.approx(1.5)
    assert (found.low, found.high, found.n_tasks, found.n_seeds) == (1.5, 4.5, 2, 2)


def test_the_larger_of_the_two_errors_is_taken() -> None:
    opposed = repeated_gain([[1.0, 3.0], [3.0, 1.0]])  # seeds agree by chance on the mean, tasks do not
    assert opposed.se == pytest.approx(math.sqrt((2 + 2) / (2 * 4)))


def test_one_seed_tells_no_error() -> None:
    assert math.isnan(repeated_gain([[1.0], [2.0]]).se)
    with pytest.raises(ValueError, match="finite"):
        repeated_gain(np.array([[math.nan]]))
