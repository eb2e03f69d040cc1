"""How far a gain can be trusted: the noise of seeds, the standard error of gains, and significance for many models.

Scores are (n_bases, n_tasks, n_seeds) fractions with NaN for a missing seed; the pretrained model's repetitions are
(n_tasks, n_seeds). Gains, standard deviations and standard errors are in points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

FloatArray = npt.NDArray[np.float64]

POINTS = 100.0


@dataclass(frozen=True, kw_only=True)
class SeedNoise:
    """Spread of a score under another seed, per task."""

    sd: FloatArray
    """(n_tasks,) pooled standard deviation within cells, points; NaN where no cell has two seeds."""
    df: FloatArray
    """(n_tasks,) its degrees of freedom."""
    residuals: tuple[FloatArray, ...]
    """Per task, all deviations from their cell's mean, points, widened by sqrt(S / (S - 1)) to the spread of one seed."""
    reason: str = ""
    """Names the tasks without a standard deviation; empty if there is none."""


@dataclass(frozen=True, kw_only=True)
class GainEstimate:
    """Average gain of each base model over the tasks it has, with its uncertainty from seeds (tasks taken as fixed)."""

    gain: FloatArray
    """(n_bases,) points; NaN where no task has both a score and a pretrained score."""
    se: FloatArray
    """(n_bases,) standard error, points, with the pretrained model's part."""
    se_own: FloatArray
    """(n_bases,) standard error without the pretrained model's part, which is the same for all base models."""
    df: FloatArray
    """(n_bases,) effective degrees of freedom of ``se``."""
    coverage: FloatArray
    """(n_bases,) share of tasks averaged over, in [0, 1]."""
    reason: str = ""
    """Why a standard error is missing; empty if none is."""

    def interval(self, *, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """Lower and upper end, points, of Student's t interval: gain -+ t_{(1 + level)/2, df} se."""
        half = stats.t.ppf((1 + level) / 2, self.df) * self.se
        return self.gain - half, self.gain + half


@dataclass(frozen=True, kw_only=True)
class Significance:
    """Which base models are better than the pretrained model."""

    p: FloatArray
    """(n_bases,) one-sided p value of "the gain is not above zero"; NaN where it cannot be tested."""
    p_holm: FloatArray
    """(n_bases,) adjusted so that any false claim at all has probability at most alpha (Holm)."""
    p_bh: FloatArray
    """(n_bases,) adjusted so that at most a share alpha of the claims is false on average (Benjamini and Hochberg)."""


def measure_seed_noise(scores: npt.ArrayLike, pretrained: npt.ArrayLike) -> SeedNoise:
    """Standard deviation of a score under another seed, pooled over all cells of a task.

    s_t^2 = sum_c sum_k (x_tck - mean_tc)^2 / sum_c (S_tc - 1), over the cells c of task t (each base model and the
    pretrained model) with S_tc >= 2 seeds. With one seed per base model this is the pretrained model's own deviation.

    Args:
        scores: (n_bases, n_tasks) or (n_bases, n_tasks, n_seeds) fractions, NaN where missing.
        pretrained: (n_tasks, n_seeds) fractions, NaN where missing.
    Raises:
        ValueError: shapes that do not belong together.
    Source: pooled variance, e.g. Box, Hunter and Hunter, Statistics for Experimenters (2005), section 4.2.
    """
    cells, base = _checked(scores, pretrained)
    every = np.concatenate([_padded(base[None], cells.shape[2]), _padded(cells, base.shape[1])]) * POINTS
    n_seeds = np.isfinite(every).sum(axis=2)
    repeated = n_seeds >= 2
    mean = np.where(np.isfinite(every), every, 0.0).sum(axis=2) / np.maximum(n_seeds, 1)
    deviation = np.where(repeated[:, :, None], every - mean[:, :, None], np.nan)
    squares = np.nansum(deviation**2, axis=(0, 2))
    df = np.where(repeated, n_seeds - 1, 0).sum(axis=0).astype(float)
    widened = deviation * np.sqrt(n_seeds / np.maximum(n_seeds - 1, 1))[:, :, None]
    residuals = tuple(task[np.isfinite(task)] for task in np.swapaxes(widened, 0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        sd = np.sqrt(squares / df)
    bare = np.flatnonzero(df == 0)
    reason = (
        f"no cell of {len(bare)} of {len(df)} tasks (first: column {bare[0]}) has two seeds, so their noise is unknown: "
        "run a second seed, of the pretrained model at least"
        if len(bare)
        else ""
    )
    return SeedNoise(sd=np.asarray(sd), df=df, residuals=residuals, reason=reason)


def estimate_gains(scores: npt.ArrayLike, pretrained: npt.ArrayLike) -> GainEstimate:
    """Average gain over the pretrained model and its standard error.

    gain_i = mean_t (mean_k x_itk - mean_r p_tr), over the m_i tasks t where both are present;
    se_i^2 = (1 / m_i^2) sum_t s_t^2 (1 / S_it + 1 / R_t), S and R the seeds of the cell and of the pretrained model;
    df_i = (sum_t a_t)^2 / sum_t (a_t^2 / df_t) with a_t the terms of that sum (Welch and Satterthwaite).

    A base model with missing tasks is compared with the pretrained model on the tasks it has: mind its coverage.

    Args:
        scores: (n_bases, n_tasks) or (n_bases, n_tasks, n_seeds) fractions, NaN where missing.
        pretrained: (n_tasks, n_seeds) fractions, NaN where missing.
    Raises:
        ValueError: shapes that do not belong together.
    Source: Satterthwaite, Biometrics Bulletin 2 (1946) 110-114, equation 17.
    """
    cells, base = _checked(scores, pretrained)
    noise = measure_seed_noise(cells, base)
    n_cell, n_base = np.isfinite(cells).sum(axis=2), np.isfinite(base).sum(axis=1)
    both = (n_cell > 0) & (n_base > 0)
    count = both.sum(axis=1)
    difference = cell_gains(cells, base)
    variance = noise.sd**2
    own = np.where(both, variance / np.maximum(n_cell, 1), 0.0)
    terms = own + np.where(both, variance / np.maximum(n_base, 1), 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = np.where(both, difference, 0.0).sum(axis=1) / count
        se, se_own = np.sqrt(terms.sum(axis=1)) / count, np.sqrt(own.sum(axis=1)) / count
        df = terms.sum(axis=1) ** 2 / np.where(both, terms**2 / noise.df, 0.0).sum(axis=1)
    reason = noise.reason
    if not np.isfinite(gain).any():
        reason = "no base model shares a task with the pretrained model: there is no gain to estimate"
    return GainEstimate(gain=gain, se=se, se_own=se_own, df=df, coverage=count / max(cells.shape[1], 1), reason=reason)


def cell_gains(scores: npt.ArrayLike, pretrained: npt.ArrayLike) -> FloatArray:
    """(n_bases, n_tasks) mean score over seeds minus the pretrained model's, points; NaN where either is missing."""
    cells, base = _checked(scores, pretrained)
    n_cell, n_base = np.isfinite(cells).sum(axis=2), np.isfinite(base).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(np.isfinite(cells), cells, 0.0).sum(axis=2) / n_cell
        start = np.where(np.isfinite(base), base, 0.0).sum(axis=1) / n_base
    return np.asarray((mean - start) * POINTS)


def assess_gains(estimate: GainEstimate) -> Significance:
    """One-sided tests of gain > 0, corrected for the number of base models.

    p_i = P(T_df >= gain_i / se_i). Holm: p_(k) (n - k + 1), made monotone. Benjamini and Hochberg: p_(k) n / k, made
    monotone; valid here although all gains share the pretrained model's mean, which correlates them positively
    (Benjamini and Yekutieli 2001). Where se = 0 nothing varies and nothing can be tested: NaN.

    Source: Holm, Scand. J. Statist. 6 (1979) 65-70; Benjamini and Hochberg, J. R. Statist. Soc. B 57 (1995) 289-300;
    Benjamini and Yekutieli, Ann. Statist. 29 (2001) 1165-1188.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.where(estimate.se > 0, estimate.gain / estimate.se, np.nan)
    p = np.asarray(stats.t.sf(t, estimate.df))
    holm, bh = np.full_like(p, np.nan), np.full_like(p, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    if len(known):
        order = known[np.argsort(p[known], kind="stable")]
        steps = p[order] * np.arange(len(order), 0, -1)
        holm[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
        bh[known] = stats.false_discovery_control(p[known], method="bh")
    return Significance(p=p, p_holm=holm, p_bh=bh)


def _padded(cells: FloatArray, width: int) -> FloatArray:
    """The same cells with room for at least ``width`` seeds."""
    missing = max(width - cells.shape[2], 0)
    return np.pad(cells, ((0, 0), (0, 0), (0, missing)), constant_values=math.nan)


def _checked(scores: npt.ArrayLike, pretrained: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    cells, base = np.asarray(scores, dtype=float), np.asarray(pretrained, dtype=float)
    if cells.ndim == 2:
        cells = cells[:, :, None]
    if cells.ndim != 3 or base.ndim != 2 or base.shape[0] != cells.shape[1]:
        raise ValueError(
            f"got scores of shape {cells.shape} and pretrained scores of shape {base.shape}; expected "
            "(n_bases, n_tasks, n_seeds) and (n_tasks, n_seeds) with the same tasks; transpose or select columns"
        )
    if np.isinf(cells).any() or np.isinf(base).any():
        raise ValueError("got an infinite score; expected fractions or NaN for missing; mark unusable cells as NaN")
    return cells, base
