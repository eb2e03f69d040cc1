"""Which ranks the data allow: bootstrap of seeds and tasks, intervals of rank, tie groups."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from analysis.noise import SeedNoise, cell_gains, measure_seed_noise
from analysis.winners_curse import FEWEST, shrink_gains

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

SMALLEST = 1e-9
"""Standard deviation of a difference, in points, below which nothing is taken to vary."""


def bootstrap_gains(
    scores: npt.ArrayLike,
    pretrained: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    n_draws: int = 1000,
    resample_tasks: bool = True,
) -> FloatArray:
    """Deviations of bootstrap average gains from the observed ones.

    In each draw, every cell mean moves by the mean of S_it residuals drawn from its task's pool (see SeedNoise), the
    pretrained model's by R_t of them, and, with ``resample_tasks``, n_tasks tasks are drawn with replacement, the same
    for all base models.

    Args:
        scores: (n_bases, n_tasks) or (n_bases, n_tasks, n_seeds) fractions, NaN where missing.
        pretrained: (n_tasks, n_seeds) fractions, NaN where missing.
        rng: source of chance.
        n_draws: bootstrap draws.
        resample_tasks: whether the tasks stand for others like them (True) or are all that matters (False).
    Returns:
        (n_draws, n_bases) points; NaN for a base model without a gain or with a task whose noise is unknown, and in a
        draw that misses all of a base model's tasks.
    Raises:
        ValueError: shapes that do not belong together, or no draw asked for.
    Cost: n_draws * n_bases * n_tasks * n_seeds.
    Source: Efron and Tibshirani (1993), chapters 6 and 9 (residuals).
    """
    if n_draws < 1:
        raise ValueError(f"got {n_draws} bootstrap draws; expected at least 1")
    cells = np.asarray(scores, dtype=float)
    cells = cells[:, :, None] if cells.ndim == 2 else cells
    base = np.asarray(pretrained, dtype=float)
    gains, noise = cell_gains(cells, base), measure_seed_noise(cells, base)
    n_bases, n_tasks = gains.shape
    weights = (
        rng.multinomial(n_tasks, np.full(n_tasks, 1 / n_tasks), size=n_draws)
        if resample_tasks
        else np.ones((n_draws, n_tasks), dtype=np.int64)
    )
    there = np.isfinite(gains)
    total, count = np.zeros((n_draws, n_bases)), np.zeros((n_draws, n_bases))
    for task in np.flatnonzero(there.any(axis=0)).tolist():
        moved = _noisy_means(noise, task, np.isfinite(cells[:, task]).sum(axis=1), rng=rng, n_draws=n_draws)
        start = _noisy_means(noise, task, np.isfinite(base[task]).sum(keepdims=True), rng=rng, n_draws=n_draws)
        drawn = np.where(there[:, task], gains[:, task] + moved - start, 0.0)
        total += weights[:, task, None] * drawn
        count += weights[:, task, None] * there[:, task]
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = np.where(there, gains, 0.0).sum(axis=1) / there.sum(axis=1)
        return np.asarray(total / count - observed)


def rank_by_gain(gain: npt.ArrayLike) -> IntArray:
    """(n_bases,) rank by gain, 1 the largest, ties in the order given; 0 where the gain is NaN."""
    values = np.asarray(gain, dtype=float)
    rank, ranked = np.zeros(len(values), dtype=np.int64), np.flatnonzero(np.isfinite(values))
    rank[ranked[np.argsort(-values[ranked], kind="stable")]] = np.arange(1, len(ranked) + 1)
    return rank


def rank_intervals(
    gain: npt.ArrayLike, deviations: npt.ArrayLike, *, rng: np.random.Generator, level: float = 0.95
) -> tuple[IntArray, IntArray]:
    """Best and worst rank of each base model that the data allow.

    The plain bootstrap adds noise to gains that hold noise already, and so is too sure about the ends of the list. Here the
    observed gains are first drawn in as in ``shrink_gains``: with e_bi the deviation of draw b less its mean over base
    models, s_i^2 = var_b e_bi, w the spread of the true gains and B_i = w^2 / (w^2 + s_i^2), draw b ranks

        theta_bi = c + B_i (gain_i - c) + sqrt(B_i) e_bi,

    which has the mean and the variance of the true gain given the observed one. The interval holds the central ``level`` of
    the ranks, and the observed rank. It covers a share ``level`` of the true ranks on average over base models, if true gains are spread normally;
    where the spread is all noise (w = 0) every rank is possible for everyone.

    Args:
        gain: (n_bases,) points; NaN is not ranked.
        deviations: (n_draws, n_bases) from ``bootstrap_gains``.
        rng: source of chance (breaks ties).
        level: share of true ranks to be covered, in (0, 1).
    Returns:
        low and high rank; 0 where not ranked; 1 and n where the noise of any ranked base model is unknown, or n is below 3.
    Raises:
        ValueError: lengths differ, or level outside (0, 1).
    Cost: n_draws * n_bases * log n_bases.
    Source: Laird and Louis, J. Educ. Statist. 14 (1989) 29-46; Goldstein and Spiegelhalter, J. R. Statist. Soc. A 159 (1996)
        385-443; Hall and Miller, Ann. Statist. 37 (2009) 3929-3959 (why not the plain bootstrap).
    """
    values, moved = _checked(gain, deviations, level)
    ranked = np.flatnonzero(np.isfinite(values))
    low, high = np.zeros(len(values), dtype=np.int64), np.zeros(len(values), dtype=np.int64)
    low[ranked], high[ranked] = 1, len(ranked)
    known = ranked[np.isfinite(moved[:, ranked]).any(axis=0)]
    kept = moved[:, known]
    kept = kept[np.isfinite(kept).all(axis=1)]
    if len(known) < max(FEWEST, len(ranked)) or len(kept) < 2:
        return low, high
    error = kept - kept.mean(axis=0)
    error -= error.mean(axis=1, keepdims=True)
    s = error.std(axis=0, ddof=1)
    prior = shrink_gains(values[known], np.maximum(s, SMALLEST))
    keep = prior.spread**2 / (prior.spread**2 + np.maximum(s, SMALLEST) ** 2)
    drawn = keep * (values[known] - prior.center) + np.sqrt(keep) * error
    drawn += SMALLEST * rng.standard_normal(drawn.shape)
    ranks = np.argsort(np.argsort(-drawn, axis=1), axis=1) + 1
    ends = np.quantile(ranks, [(1 - level) / 2, (1 + level) / 2], axis=0)
    observed = rank_by_gain(values)[known]
    low[known] = np.minimum(np.floor(ends[0]), observed)
    high[known] = np.maximum(np.ceil(ends[1]), observed)
    return low, high


def tie_groups(gain: npt.ArrayLike, deviations: npt.ArrayLike, *, alpha: float = 0.05) -> IntArray:
    """Groups of base models that cannot be told from the best of their group.

    With d_ij the bootstrap deviation of gain_j - gain_i, s_ij its standard deviation over draws, z_ij =
    (gain_j - gain_i) / s_ij, and k_i the (1 - alpha) quantile over draws of max_j d_ij / s_ij: base model i is in group 1 if
    max_j z_ij <= k_i. The truly best base model is in group 1 with probability at least 1 - alpha, however many there are.
    Group g + 1 is the same rule on what groups 1 to g leave over, with the same k_i (which is cautious).

    Args:
        gain: (n_bases,) points; NaN is not grouped.
        deviations: (n_draws, n_bases) from ``bootstrap_gains``. A base model whose noise is unknown cannot be told from any.
        alpha: probability of leaving out the best, in (0, 1).
    Returns:
        (n_bases,) group number from 1; 0 where the gain is NaN.
    Raises:
        ValueError: lengths differ, or alpha outside (0, 1).
    Cost: n_draws * n_bases^2 (1,000 draws of 300 base models: about 0.1 s, of 1,300: 2 s).
    Source: Hsu, Ann. Statist. 12 (1984) 1136-1144 (comparison with the best); Mogstad, Romano, Shaikh and Wilhelm,
        Rev. Econ. Stud. 91 (2024) 476-518, section 3.3 (by bootstrap, with unequal variances).
    """
    values, moved = _checked(gain, deviations, alpha)
    group, ranked = np.zeros(len(values), dtype=np.int64), np.flatnonzero(np.isfinite(values))
    if len(ranked):
        z, critical = _compare(values[ranked], moved[:, ranked], alpha=alpha)
        left = np.arange(len(ranked))
        while len(left):
            tied = z[np.ix_(left, left)].max(axis=1) <= np.maximum(critical[left], 0.0)
            group[ranked[left[tied]]] = group.max() + 1
            left = left[~tied]
    return group


def _noisy_means(
    noise: SeedNoise, task: int, n_seeds: npt.NDArray[np.int64], *, rng: np.random.Generator, n_draws: int
) -> FloatArray:
    """(n_draws, len(n_seeds)) means of as many residuals as each cell has seeds; NaN where the noise is unknown."""
    pool, total = noise.residuals[task], np.zeros((n_draws, len(n_seeds)))
    if len(pool) == 0:
        return total + np.nan
    for seed in range(int(n_seeds.max(initial=0))):
        total += np.where(n_seeds > seed, pool[rng.integers(len(pool), size=total.shape)], 0.0)
    return np.asarray(total / np.maximum(n_seeds, 1))


def _compare(values: FloatArray, moved: FloatArray, *, alpha: float) -> tuple[FloatArray, FloatArray]:
    """z_ij and the critical values k_i."""
    n_bases = len(values)
    z, critical = np.zeros((n_bases, n_bases)), np.zeros(n_bases)
    comparable = np.flatnonzero(np.isfinite(moved).any(axis=0))
    kept = moved[:, comparable]
    kept = kept[np.isfinite(kept).all(axis=1)]
    if len(comparable) < 2 or len(kept) < 2:
        return z, critical
    centred = kept - kept.mean(axis=0)
    covariance = centred.T @ centred / (len(kept) - 1)
    variance = np.diag(covariance)
    spread = np.sqrt(np.maximum(variance[:, None] + variance[None, :] - 2 * covariance, 0.0))
    draws = centred.astype(np.float32)
    gaps = np.empty_like(draws)
    for here, i in enumerate(comparable):
        varies = spread[here] > SMALLEST
        step = values[comparable] - values[i]
        certain = np.where(step > SMALLEST, np.inf, np.where(step < -SMALLEST, -np.inf, 0.0))
        z[i, comparable] = np.where(varies, step / np.where(varies, spread[here], 1.0), certain)
        scale = np.where(varies, 1 / np.where(varies, spread[here], 1.0), 0.0).astype(np.float32)
        np.subtract(draws, draws[:, [here]], out=gaps)
        np.multiply(gaps, scale, out=gaps)
        critical[i] = np.quantile(gaps.max(axis=1), 1 - alpha)
    return z, critical


def _checked(gain: npt.ArrayLike, deviations: npt.ArrayLike, share: float) -> tuple[FloatArray, FloatArray]:
    values, moved = np.asarray(gain, dtype=float), np.asarray(deviations, dtype=float)
    if moved.ndim != 2 or values.shape != moved.shape[1:]:
        raise ValueError(
            f"got gains of shape {values.shape} and deviations of shape {moved.shape}; "
            "expected (n_bases,) and (n_draws, n_bases)"
        )
    if not 0 < share < 1:
        raise ValueError(f"got a probability of {share}; expected one between 0 and 1, such as 0.05")
    return values, moved
