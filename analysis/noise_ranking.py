"""The ranking that knows its noise: gains, intervals, ties, significance and the winner's curse in one result."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from analysis.noise import GainEstimate, Significance, assess_gains, estimate_gains
from analysis.rank_intervals import IntArray, bootstrap_gains, rank_by_gain, rank_intervals, tie_groups
from analysis.winners_curse import ShrunkenGains, expected_best_of_noise, shrink_gains, winner_bias


class Verdict(Enum):
    """Whether to look beyond the pretrained model."""

    BETTER = "better"
    """At least one base model is better than the pretrained model, beyond noise and beyond choice among many."""
    GOOD_ENOUGH = "good_enough"
    """None is: the pretrained model is good enough."""
    UNKNOWN = "unknown"
    """The data cannot tell."""


@dataclass(frozen=True, kw_only=True)
class NoiseAwareRanking:
    """A ranking with everything that qualifies it; arrays are (n_bases,) in the order given."""

    estimate: GainEstimate
    """Average gains, standard errors and coverage."""
    significance: Significance
    """One-sided p values against the pretrained model, raw and corrected."""
    rank: IntArray
    """Rank by gain, from 1; 0 where there is no gain."""
    rank_low: IntArray
    """Best rank that the noise of seeds and the choice of tasks allow."""
    rank_high: IntArray
    """Worst rank that they allow."""
    rank_low_seeds: IntArray
    """Best rank that the noise of seeds allows on these very tasks."""
    rank_high_seeds: IntArray
    """Worst rank that it allows."""
    tie_group: IntArray
    """1 for those that the noise of seeds does not tell from the best, 2 for those not told from the best of the rest, ..."""
    shrunken: ShrunkenGains
    """Gains drawn towards their mean (empirical Bayes)."""
    best: int
    """Row of the base model with the largest gain; -1 if there is none."""
    best_gain: float
    """Its observed gain, points."""
    best_gain_unbiased: float
    """Its gain less the bootstrap estimate of the winner's curse, points."""
    best_of_noise: float
    """Largest gain expected if every base model equalled the pretrained one, points."""
    verdict: Verdict
    sentence: str
    """The verdict in words and numbers."""
    reasons: tuple[str, ...]
    """Why some field is NaN or a step was left out; empty if nothing is missing."""


def rank_under_noise(
    scores: npt.ArrayLike,
    pretrained: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    alpha: float = 0.05,
    n_draws: int = 1000,
    resample_tasks: bool = True,
) -> NoiseAwareRanking:
    """Rank base models by average gain and say what the ranking is worth.

    Standard errors, p values, tie groups, the winner's curse and the verdict take the tasks as given and only seeds as noise:
    what holds on these tasks. ``rank_low`` and ``rank_high`` also resample tasks, unless ``resample_tasks`` is off or there
    is only one task: what holds on tasks like these. The verdict is 'better' if a Holm-corrected p value is below ``alpha``. Base models with missing tasks are compared on the tasks
    they have; leave them out, or show their coverage.

    Args:
        scores: (n_bases, n_tasks) or (n_bases, n_tasks, n_seeds) fractions, NaN where missing.
        pretrained: (n_tasks, n_seeds) fractions of the pretrained model, NaN where missing.
        rng: source of chance.
        alpha: error probability of intervals, ties and the verdict, in (0, 1).
        n_draws: bootstrap draws; the curse and the intervals are estimated from as many each.
        resample_tasks: see ``bootstrap_gains``.
    Returns:
        the ranking. Without two seeds on every task the standard errors are NaN, everything that rests on them is left out,
        and ``reasons`` names the tasks; with no gain at all nothing is ranked.
    Raises:
        ValueError: shapes that do not belong together, infinite scores, alpha outside (0, 1).
    Cost: n_draws * n_bases * (n_tasks + n_bases).
    """
    estimate = estimate_gains(scores, pretrained)
    reasons = [estimate.reason] if estimate.reason else []
    several = estimate.coverage.size > 0 and np.asarray(pretrained).shape[0] > 1
    if resample_tasks and not several:
        reasons.append("there is one task: rank intervals rest on seeds alone")
    fixed = bootstrap_gains(scores, pretrained, rng=rng, n_draws=n_draws, resample_tasks=False)
    drawn = bootstrap_gains(scores, pretrained, rng=rng, n_draws=n_draws) if resample_tasks and several else fixed
    low, high = rank_intervals(estimate.gain, drawn, rng=rng, level=1 - alpha)
    low_seeds, high_seeds = rank_intervals(estimate.gain, fixed, rng=rng, level=1 - alpha)
    significance = assess_gains(estimate)
    shrunken = shrink_gains(estimate.gain, estimate.se_own)
    if shrunken.reason:
        reasons.append(shrunken.reason)
    best = int(np.nanargmax(estimate.gain)) if np.isfinite(estimate.gain).any() else -1
    best_gain = float(estimate.gain[best]) if best >= 0 else math.nan
    bias = winner_bias(estimate.gain, fixed)
    noise = expected_best_of_noise(np.where(np.isfinite(estimate.gain), estimate.se_own, np.nan))
    verdict = _judge(significance, alpha=alpha)
    return NoiseAwareRanking(
        estimate=estimate,
        significance=significance,
        rank=rank_by_gain(estimate.gain),
        rank_low=low,
        rank_high=high,
        rank_low_seeds=low_seeds,
        rank_high_seeds=high_seeds,
        tie_group=tie_groups(estimate.gain, fixed, alpha=alpha),
        shrunken=shrunken,
        best=best,
        best_gain=best_gain,
        best_gain_unbiased=best_gain - bias,
        best_of_noise=noise,
        verdict=verdict,
        sentence=_sentence(verdict, significance, alpha=alpha, gain=best_gain, unbiased=best_gain - bias, noise=noise),
        reasons=tuple(reasons),
    )


def _judge(significance: Significance, *, alpha: float) -> Verdict:
    known = np.isfinite(significance.p_holm)
    if not known.any():
        return Verdict.UNKNOWN
    return Verdict.BETTER if (significance.p_holm[known] < alpha).any() else Verdict.GOOD_ENOUGH


def _sentence(
    verdict: Verdict, significance: Significance, *, alpha: float, gain: float, unbiased: float, noise: float
) -> str:
    tested = int(np.isfinite(significance.p_holm).sum())
    if verdict is Verdict.UNKNOWN:
        return "Whether a base model is better than the pretrained one cannot be said: the noise of seeds is unknown."
    if verdict is Verdict.BETTER:
        with np.errstate(invalid="ignore"):
            better = int((significance.p_holm < alpha).sum())
        return (
            f"{better} of {tested} base models are better than the pretrained one (chance of any false claim {alpha:.0%}); "
            f"the best gains {gain:+.2f} points, {unbiased:+.2f} with the winner's curse taken off."
        )
    return (
        f"The pretrained model is good enough: none of {tested} base models is better beyond noise; the best gains "
        f"{gain:+.2f} points where the best of {tested} would gain {noise:+.2f} by chance alone."
    )
