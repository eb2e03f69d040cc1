"""Maths of collaborative descent: how much a contribution weighs, whether an update harms, what a repeated gain is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ProbeMean:
    """Mean score of one model over held-out probes, and the sampling noise of their test sets."""

    score: float
    """Fraction."""
    se: float
    """Standard error, fraction."""


def mean_probe(scores: npt.ArrayLike, n_eval: npt.ArrayLike) -> ProbeMean:
    """Mean of T probe scores with the binomial standard error sqrt(sum_t p_t (1 - p_t) / n_t) / T.

    A score on n rows is taken as (n p + 1) / (n + 2) in the error alone, so that 0 and 1 are not free of noise.

    Args:
        scores: (T,) test scores, fractions; a rank correlation is clipped to [0, 1] in the error.
        n_eval: (T,) test rows.

    Raises:
        ValueError: no probe, shapes that differ, or fewer than one row.
    """
    p, n = np.asarray(scores, float), np.asarray(n_eval, float)
    if p.ndim != 1 or p.shape != n.shape or not p.size or not (n >= 1).all():
        raise ValueError(
            f"{p.shape} probe scores and {n.shape} row counts came, expected as many of both, each of 1 row or more"
        )
    smoothed = (n * np.clip(p, 0.0, 1.0) + 1) / (n + 2)
    return ProbeMean(score=float(p.mean()), se=float(np.sqrt((smoothed * (1 - smoothed) / n).sum()) / len(p)))


def harms(before: ProbeMean, after: ProbeMean, *, z: float) -> bool:
    """Whether a model is worse than another by more than z standard errors of their difference.

    after - before < -z sqrt(se_before^2 + se_after^2). Both were tested on the same rows, so their scores go together and the
    true error of the difference is smaller: an update is refused rather too seldom than too often.
    """
    return after.score - before.score < -z * math.hypot(before.se, after.se)


def staleness_weight(staleness: int, *, exponent: float) -> float:
    """Weight (1 + s)^-a of a contribution that began s fusions ago; 1 for a fresh one.

    Source: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", 2019, section 5.1 (polynomial).

    Raises:
        ValueError: a negative staleness or exponent.
    """
    if staleness < 0 or exponent < 0:
        raise ValueError(f"staleness {staleness} and exponent {exponent} came, expected 0 or more of both")
    return float((1 + staleness) ** -exponent)


def stale_mixture(staleness: npt.ArrayLike, *, exponent: float) -> tuple[FloatArray, float]:
    """Shares of k contributions and of the present base model in the next one, summing to 1.

    w_i = (1 + s_i)^-a / k and w_base = 1 - sum_i w_i: only fresh ones give their plain mean; what staleness takes from a
    contribution the base model keeps.

    Source: ours, from the mixing rule of Xie et al. 2019 with the buffer of k of Nguyen et al. 2022 (FedBuff).

    Raises:
        ValueError: no contribution, or a negative staleness.
    """
    ages = np.atleast_1d(np.asarray(staleness, int))
    if not ages.size:
        raise ValueError("no contribution to mix, expected at least one")
    shares = np.array([staleness_weight(int(age), exponent=exponent) for age in ages]) / len(ages)
    return shares, max(0.0, 1.0 - float(shares.sum()))


def probe_weights(scores: npt.ArrayLike, *, temperature: float) -> FloatArray:
    """Weights exp(s_i / T) / sum_j exp(s_j / T) of contributions from their probe scores, summing to 1.

    Args:
        scores: (k,) probe scores, fractions.
        temperature: T, fraction; the larger, the nearer to plain averaging.

    Raises:
        ValueError: no score, one that is not finite, or a temperature that is not above 0.
    """
    s = np.asarray(scores, float)
    if s.ndim != 1 or not s.size or not np.isfinite(s).all() or not temperature > 0:
        raise ValueError(
            f"scores {s} and temperature {temperature} came, expected finite scores and a temperature above 0"
        )
    raised = np.exp((s - s.max()) / temperature)
    return np.asarray(raised / raised.sum())


@dataclass(frozen=True, kw_only=True)
class RepeatedGain:
    """A mean difference over tasks and seeds; points when the input was."""

    mean: float
    se: float
    """Standard error from seeds, tasks taken as fixed; NaN with one seed."""
    low: float
    """Smallest mean of one seed."""
    high: float
    """Largest mean of one seed."""
    n_tasks: int
    n_seeds: int


def repeated_gain(differences: npt.ArrayLike) -> RepeatedGain:
    """Mean of differences to a reference, task by task and seed by seed, with the error that the seeds show.

    With D_s the mean over tasks of seed s of S, and d_ts the differences: se^2 is the larger of var_s(D_s) / S, which holds
    what all tasks of one run share, and sum_t var_s(d_ts) / (S T^2), which holds independent noise with more degrees of
    freedom. Of two estimates of one noise the larger is taken, for with two seeds the first is often small by chance.

    Args:
        differences: (n_tasks, n_seeds), no NaN.

    Raises:
        ValueError: nothing to average, or a value that is not finite.
    """
    d = np.asarray(differences, float)
    if d.ndim != 2 or not d.size or not np.isfinite(d).all():
        raise ValueError(f"differences of shape {d.shape} came, expected finite numbers by task and seed")
    n_tasks, n_seeds = d.shape
    by_seed = d.mean(axis=0)
    se = math.nan
    if n_seeds > 1:
        shared = by_seed.var(ddof=1) / n_seeds
        independent = d.var(axis=1, ddof=1).sum() / (n_seeds * n_tasks**2)
        se = math.sqrt(max(shared, independent))
    return RepeatedGain(
        mean=float(by_seed.mean()),
        se=se,
        low=float(by_seed.min()),
        high=float(by_seed.max()),
        n_tasks=n_tasks,
        n_seeds=n_seeds,
    )
