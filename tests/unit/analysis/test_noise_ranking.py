"""The whole ranking: verdicts, stated outcomes for poor data, and invariances."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.noise_ranking import NoiseAwareRanking, Verdict, rank_under_noise

N_TASKS = 12


def world(rng: np.random.Generator, gains: list[float], *, seeds: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Base models with the given true gains (points), noise of one point on every task."""
    level = np.linspace(0.5, 0.9, N_TASKS)
    pretrained = level[:, None] + 0.01 * rng.standard_normal((N_TASKS, seeds))
    scores = level + np.asarray(gains)[:, None] / 100 + 0.01 * rng.standard_normal((len(gains), N_TASKS))
    return scores, pretrained


def run(scores: np.ndarray, pretrained: np.ndarray, **more: object) -> NoiseAwareRanking:
    return rank_under_noise(scores, pretrained, rng=np.random.default_rng(0), n_draws=200, **more)  # type: ignore[arg-type]


def test_a_better_model_is_found(rng: np.random.Generator) -> None:
    result = run(*world(rng, [0, 5, 0, 0, 0, 0]))
    assert result.verdict is Verdict.BETTER
    assert result.best == 1
    assert result.rank[1] == result.rank_low[1] == result.rank_high[1] == 1
    assert result.tie_group[1] == 1
    assert (np.delete(result.tie_group, 1) > 1).all()
    assert result.best_gain_unbiased <= result.best_gain + 0.1
    assert result.sentence.startswith("1 of 6 base models are better than the pretrained one")
    assert result.reasons == ()


def test_pure_noise_leaves_the_pretrained_model_good_enough(rng: np.random.Generator) -> None:
    result = run(*world(rng, [0] * 30))
    assert result.verdict is Verdict.GOOD_ENOUGH
    assert result.sentence.startswith("The pretrained model is good enough: none of 30 base models is better")
    assert result.best_gain_unbiased < result.best_gain
    # one seed, 12 tasks, sd 1 point: 2.04 (expected largest of 30 normals, Harter) / sqrt(12)
    assert result.best_of_noise == pytest.approx(2.0428 / np.sqrt(12), rel=0.15)


def test_false_verdicts_are_as_rare_as_promised(rng: np.random.Generator) -> None:
    wrong = sum(run(*world(rng, [0] * 10), resample_tasks=False).verdict is Verdict.BETTER for _ in range(40))
    assert wrong <= 6  # at most 5 % of 40 expected; 7 or more has probability below 0.005


def test_fewer_than_two_pretrained_seeds(rng: np.random.Generator) -> None:
    result = run(*world(rng, [0, 5, 1], seeds=1))
    assert result.verdict is Verdict.UNKNOWN
    assert result.rank.tolist()[1] == 1
    assert np.isnan(result.estimate.se).all()
    assert result.rank_low.tolist() == [1, 1, 1]
    assert result.rank_high.tolist() == [3, 3, 3]
    assert any("has two seeds" in reason for reason in result.reasons)


def test_one_task_only(rng: np.random.Generator) -> None:
    scores, pretrained = world(rng, [0, 5, 1])
    result = run(scores[:, :1], pretrained[:1])
    assert "there is one task: rank intervals rest on seeds alone" in result.reasons
    assert (result.rank_low == result.rank_low_seeds).all()


def test_nothing_to_rank(rng: np.random.Generator) -> None:
    scores, pretrained = world(rng, [0, 5, 1])
    result = run(np.full_like(scores, np.nan), pretrained)
    assert result.verdict is Verdict.UNKNOWN
    assert result.best == -1
    assert result.rank.tolist() == result.tie_group.tolist() == [0, 0, 0]
    assert any("no base model shares a task" in reason for reason in result.reasons)
    assert run(np.empty((0, N_TASKS)), pretrained).rank.shape == (0,)


def test_two_models(rng: np.random.Generator) -> None:
    result = run(*world(rng, [0, 5]))
    assert result.rank.tolist() == [2, 1]
    assert result.rank_low.tolist() == [1, 1]
    assert any("shrinkage needs 3" in reason for reason in result.reasons)


def test_same_chance_same_result_and_order_does_not_matter(rng: np.random.Generator) -> None:
    scores, pretrained = world(rng, [0, 5, 1, 2])
    first, second = run(scores, pretrained), run(scores, pretrained)
    assert (first.rank_low == second.rank_low).all()
    assert first.best_gain_unbiased == second.best_gain_unbiased
    order = [2, 0, 3, 1]
    mixed = run(scores[order], pretrained)
    assert mixed.rank.tolist() == first.rank[order].tolist()
    assert mixed.significance.p_holm == pytest.approx(first.significance.p_holm[order])
    tasks = np.random.default_rng(1).permutation(N_TASKS)
    assert run(scores[:, tasks], pretrained[tasks]).estimate.gain == pytest.approx(first.estimate.gain)
