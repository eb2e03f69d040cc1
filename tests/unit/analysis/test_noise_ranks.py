"""Rank intervals and tie groups: separated, equal, unknown, and coverage where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.noise import estimate_gains
from analysis.rank_intervals import bootstrap_gains, rank_by_gain, rank_intervals, tie_groups

NAN = np.nan


def test_ranks_by_gain_with_ties_and_gaps() -> None:
    assert rank_by_gain([1.0, NAN, 3.0, 1.0]).tolist() == [2, 0, 1, 3]


def test_bootstrap_has_the_standard_error_of_the_formula(rng: np.random.Generator) -> None:
    pretrained = rng.normal(0.7, 0.02, size=(9, 12))
    scores = rng.normal(0.7, 0.02, size=(3, 9, 2))
    scores[0, :, 1] = NAN
    drawn = bootstrap_gains(scores, pretrained, rng=rng, n_draws=4000, resample_tasks=False)
    assert drawn.std(axis=0) == pytest.approx(estimate_gains(scores, pretrained).se, rel=0.06)
    assert np.abs(drawn.mean(axis=0)).max() < 0.05


def test_bootstrap_of_tasks_alone(rng: np.random.Generator) -> None:
    """No seed noise: the error of a mean of n tasks drawn with replacement is sd (ddof 0) / sqrt(n)."""
    pretrained = np.full((16, 3), 0.5)
    scores = 0.5 + rng.normal(0, 0.1, size=(1, 16))
    drawn = bootstrap_gains(scores, pretrained, rng=rng, n_draws=4000)
    assert drawn.std(axis=0) == pytest.approx(100 * scores.std(axis=1) / 4, rel=0.06)


def test_bootstrap_of_unknown_noise_is_nan(rng: np.random.Generator) -> None:
    scores = np.array([[0.5, 0.6], [NAN, 0.7]])
    pretrained = np.array([[0.5, NAN], [0.6, 0.61]])
    drawn = bootstrap_gains(scores, pretrained, rng=rng, n_draws=20, resample_tasks=False)
    assert np.isnan(drawn[:, 0]).all()
    assert np.isfinite(drawn[:, 1]).all()
    with pytest.raises(ValueError, match="0 bootstrap draws"):
        bootstrap_gains(scores, pretrained, rng=rng, n_draws=0)


def test_clear_cut_ranks(rng: np.random.Generator) -> None:
    gain = np.array([10.0, -10.0, 0.0, 30.0])
    drawn = 0.1 * rng.standard_normal((200, 4))
    low, high = rank_intervals(gain, drawn, rng=rng)
    assert low.tolist() == high.tolist() == [2, 4, 3, 1]
    assert tie_groups(gain, drawn).tolist() == [2, 4, 3, 1]


def test_equal_models_may_take_any_rank(rng: np.random.Generator) -> None:
    gain = np.zeros(10)
    drawn = rng.standard_normal((2000, 10))
    low, high = rank_intervals(gain, drawn, rng=rng)
    assert low.tolist() == [1] * 10
    assert high.tolist() == [10] * 10
    assert tie_groups(gain, drawn).tolist() == [1] * 10


def test_shared_noise_does_not_blur_ranks(rng: np.random.Generator) -> None:
    """The pretrained model's noise moves all gains together."""
    drawn = np.tile(5 * rng.standard_normal((200, 1)), (1, 4)) + 0.01 * rng.standard_normal((200, 4))
    low, high = rank_intervals([4.0, 3.0, 2.0, 1.0], drawn, rng=rng)
    assert low.tolist() == high.tolist() == [1, 2, 3, 4]
    assert tie_groups([4.0, 3.0, 2.0, 1.0], drawn).tolist() == [1, 2, 3, 4]


def test_unknown_noise_gives_the_widest_interval(rng: np.random.Generator) -> None:
    gain = np.array([3.0, 2.0, 1.0, NAN])
    drawn = np.full((50, 4), NAN)
    low, high = rank_intervals(gain, drawn, rng=rng)
    assert low.tolist() == [1, 1, 1, 0]
    assert high.tolist() == [3, 3, 3, 0]
    assert tie_groups(gain, drawn).tolist() == [1, 1, 1, 0]


def test_no_noise_at_all_keeps_the_order(rng: np.random.Generator) -> None:
    assert tie_groups([2.0, 1.0, 2.0], np.zeros((10, 3))).tolist() == [1, 2, 1]


def test_the_best_of_two_by_hand() -> None:
    """Difference 1 with deviations of standard deviation 1: one-sided 95 % quantile 1.64, so they tie; at 2, they do not."""
    step = stats.norm.ppf((np.arange(999) + 0.5) / 999)
    drawn = np.c_[step, np.zeros(999)]
    assert tie_groups([1.0, 0.0], drawn).tolist() == [1, 1]
    assert tie_groups([2.0, 0.0], drawn).tolist() == [1, 2]
    assert tie_groups([1.0, 0.0], drawn, alpha=0.2).tolist() == [1, 2]


def test_coverage_of_true_ranks_and_of_the_best(rng: np.random.Generator) -> None:
    """60 worlds of 20 models, true gains as spread as the noise: intervals hold 95 % of true ranks, group 1 the best.

    The plain bootstrap of ranks, which re-ranks observed gains plus noise, holds fewer.
    """
    held, best_in, plain = [], [], []
    for _ in range(60):
        truth = rng.standard_normal(20)
        gain = truth + rng.standard_normal(20)
        drawn = rng.standard_normal((300, 20))
        ranks = rank_by_gain(truth)
        low, high = rank_intervals(gain, drawn, rng=rng)
        held.append(np.mean((low <= ranks) & (ranks <= high)))
        best_in.append(tie_groups(gain, drawn)[truth.argmax()] == 1)
        again = np.argsort(np.argsort(-(gain + drawn), axis=1), axis=1) + 1
        ends = np.quantile(again, [0.025, 0.975], axis=0)
        plain.append(np.mean((ends[0] <= ranks) & (ranks <= ends[1])))
    assert 0.93 <= np.mean(held) <= 0.99
    assert np.mean(best_in) >= 0.9
    assert np.mean(plain) < np.mean(held)


def test_arguments_are_checked(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match=r"expected \(n_bases,\) and \(n_draws, n_bases\)"):
        rank_intervals([1.0, 2.0], np.zeros((5, 3)), rng=rng)
    with pytest.raises(ValueError, match=r"a probability of 1\.5"):
        tie_groups([1.0, 2.0], np.zeros((5, 2)), alpha=1.5)
