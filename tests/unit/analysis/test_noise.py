"""Standard errors and corrected p values by hand arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.noise import GainEstimate, assess_gains, cell_gains, estimate_gains, measure_seed_noise

NAN = math.nan


def test_one_seed_per_model_takes_the_noise_of_the_pretrained_model() -> None:
    """Task a: 0.50, 0.52, 0.54 -> sd 2 points, mean 0.52; task b: 0.70, 0.72, NaN -> sd sqrt(2), mean 0.71."""
    pretrained = np.array([[0.50, 0.52, 0.54], [0.70, 0.72, NAN]])
    scores = np.array([[0.55, 0.75], [0.52, NAN]])
    noise = measure_seed_noise(scores, pretrained)
    assert noise.sd == pytest.approx([2.0, math.sqrt(2)])
    assert noise.df.tolist() == [2.0, 1.0]
    assert np.sort(noise.residuals[0]) == pytest.approx([-2 * math.sqrt(1.5), 0, 2 * math.sqrt(1.5)])
    assert cell_gains(scores, pretrained) == pytest.approx(np.array([[3.0, 4.0], [0.0, NAN]]), nan_ok=True)
    result = estimate_gains(scores, pretrained)
    assert result.gain == pytest.approx([3.5, 0.0])
    # a: 4 (1 + 1/3) = 16/3, b: 2 (1 + 1/2) = 3; se = sqrt(25/3) / 2
    assert result.se == pytest.approx([math.sqrt(25 / 3) / 2, math.sqrt(16 / 3)])
    assert result.se_own == pytest.approx([math.sqrt(6) / 2, 2.0])
    # (25/3)^2 / ((16/3)^2 / 2 + 3^2 / 1)
    assert result.df == pytest.approx([(25 / 3) ** 2 / ((16 / 3) ** 2 / 2 + 9), 2.0])
    assert result.coverage.tolist() == [1.0, 0.5]
    assert result.reason == ""


def test_several_seeds_are_pooled_by_degrees_of_freedom() -> None:
    """Squares: base model 2 (two seeds 1 point either side of the mean), pretrained 8 (0, +-2): (2 + 8) / (1 + 2)."""
    scores = np.array([[[0.59, 0.61]], [[0.5, NAN]]])
    pretrained = np.array([[0.48, 0.50, 0.52]])
    noise = measure_seed_noise(scores, pretrained)
    assert noise.sd == pytest.approx([math.sqrt(10 / 3)])
    assert noise.df.tolist() == [3.0]
    result = estimate_gains(scores, pretrained)
    assert result.gain == pytest.approx([10.0, 0.0])
    assert result.se == pytest.approx([math.sqrt(10 / 3 * (1 / 2 + 1 / 3)), math.sqrt(10 / 3 * (1 + 1 / 3))])


def test_interval_is_students(rng: np.random.Generator) -> None:
    """One task, one seed against R: the interval is that of a new observation, mean -+ t s sqrt(1 + 1/R)."""
    pretrained = rng.normal(0.8, 0.01, size=(1, 6))
    low, high = estimate_gains(np.array([[0.83]]), pretrained).interval(level=0.9)
    middle, half = 83 - 100 * pretrained.mean(), stats.t.ppf(0.95, 5) * 100 * pretrained.std(ddof=1) * math.sqrt(7 / 6)
    assert (low[0], high[0]) == pytest.approx((middle - half, middle + half))


def test_holm_and_benjamini_hochberg_by_hand() -> None:
    """p = 0.01, 0.04, 0.03. Holm: 0.03, then 0.06, then max(0.06, 0.04). BH: 0.03, 0.04 (of 0.045), 0.04."""
    p = np.array([0.01, 0.04, 0.03])
    many = np.full(3, 1e9)
    estimate = GainEstimate(gain=stats.norm.isf(p), se=np.ones(3), se_own=np.ones(3), df=many, coverage=np.ones(3))
    result = assess_gains(estimate)
    assert result.p == pytest.approx(p, rel=1e-4)
    assert result.p_holm == pytest.approx([0.03, 0.06, 0.06], rel=1e-4)
    assert result.p_bh == pytest.approx([0.03, 0.04, 0.04], rel=1e-4)


def test_what_cannot_be_tested_is_nan_and_does_not_count() -> None:
    estimate = GainEstimate(
        gain=np.array([NAN, 3.0, 1.0]),
        se=np.array([1.0, 0.0, 1.0]),
        se_own=np.ones(3),
        df=np.full(3, 1e9),
        coverage=np.ones(3),
    )
    result = assess_gains(estimate)
    assert np.isnan(result.p[:2]).all()
    assert result.p_holm[2] == pytest.approx(stats.norm.sf(1.0))


def test_one_pretrained_seed_leaves_the_error_unknown() -> None:
    result = estimate_gains(np.array([[0.6, 0.7]]), np.array([[0.5], [0.6]]))
    assert result.gain == pytest.approx([10.0])
    assert np.isnan(result.se).all()
    assert "no cell of 2 of 2 tasks (first: column 0) has two seeds" in result.reason


def test_a_constant_task_adds_no_noise() -> None:
    """wsc: 20 equal repetitions. Its gain counts, its noise is 0."""
    pretrained = np.array([[0.6, 0.6, 0.6], [0.50, 0.52, 0.54]])
    result = estimate_gains(np.array([[0.62, 0.52]]), pretrained)
    assert result.gain == pytest.approx([1.0])
    assert result.se == pytest.approx([math.sqrt(16 / 3) / 2])


def test_no_scores_at_all() -> None:
    result = estimate_gains(np.full((2, 3), NAN), np.full((3, 2), 0.5))
    assert np.isnan(result.gain).all()
    assert result.reason.startswith("no base model shares a task")
    assert np.isnan(assess_gains(result).p).all()


def test_bad_shapes_and_values() -> None:
    with pytest.raises(ValueError, match=r"scores of shape \(2, 3, 1\).*pretrained scores of shape \(4, 2\)"):
        estimate_gains(np.zeros((2, 3)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match="infinite score"):
        estimate_gains(np.array([[np.inf]]), np.zeros((1, 2)))


def test_intervals_cover_what_they_say(rng: np.random.Generator) -> None:
    """1,000 base models equal to the pretrained one, 12 tasks, one seed against six: 95 % intervals cover 0 in 95 %."""
    covered = []
    for _ in range(25):
        noise = np.linspace(0.004, 0.04, 12)
        pretrained = 0.7 + noise[:, None] * rng.standard_normal((12, 6))
        scores = 0.7 + noise * rng.standard_normal((40, 12))
        low, high = estimate_gains(scores, pretrained).interval()
        covered.append(np.mean((low <= 0) & (high >= 0)))
    assert 0.92 <= np.mean(covered) <= 0.99
