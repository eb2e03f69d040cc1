"""Which score to trust: scores that rank base models before a finetune, held against the gains measured afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata, weightedtau

from analysis.lost_gain import average_order
from analysis.proxies.ensemble import average_places

FloatArray = npt.NDArray[np.float64]

METRICS = ("kendall", "weighted_kendall", "pearson", "regret_1", "regret_3", "regret_5")
"""Agreement (higher is better) and points lost by finetuning the k first-ranked base models only (lower is better)."""
TOPS = (1, 3, 5)
MIN_BASES = 3
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class PredictorRecord:
    """How one predictor did; arrays are (n_tasks, n_metrics) in the order of ``METRICS``, NaN where it could not be judged."""

    name: str
    values: FloatArray
    low: FloatArray
    """Lower ends of 95 % intervals over other sets of base models."""
    high: FloatArray
    n_bases: npt.NDArray[np.int64]
    """(n_tasks,) base models with both a score and a gain."""
    mean: FloatArray
    """(n_metrics,) mean over the tasks that were judged."""
    mean_low: FloatArray
    """(n_metrics,) lower ends of 95 % intervals over other sets of tasks."""
    mean_high: FloatArray

    @property
    def n_tasks(self) -> int:
        """Tasks on which it was judged."""
        return int(np.isfinite(self.values[:, 0]).sum())


def judge_predictors(
    gain: npt.ArrayLike,
    predictors: Mapping[str, npt.ArrayLike],
    *,
    rng: np.random.Generator,
    n_draws: int = 200,
) -> list[PredictorRecord]:
    """Every predictor against the gains, task by task and on average.

    Kendall's tau-b; Kendall's tau with hyperbolic weights, so that the top counts most (Vigna 2015); Pearson's r; regret@k = the
    largest gain of all base models minus the largest among the k first-ranked, the expectation over ties at the cut. Intervals are
    percentile bootstraps: over base models for a task (regret over the distinct ones drawn), over tasks for the mean.

    Args:
        gain: (n_bases, n_tasks), points, NaN where not measured.
        predictors: by name, (n_bases,) or (n_bases, n_tasks), higher is ranked first, NaN where there is none.
        rng: source of chance of the bootstrap; every predictor gets the same draws.
        n_draws: bootstrap draws.

    Raises:
        ValueError: shapes that do not belong together.
    Source: regret, Kendall: as in Bolya et al., NeurIPS 2021, and "Where to start?", section 4.2 (lost gain); weighted Kendall: You et
        al., ICML 2021, section 5; Vigna, WWW 2015.
    """
    measured = np.asarray(gain, dtype=np.float64)
    if measured.ndim != 2:
        raise ValueError(f"got gains of shape {measured.shape}; expected (n_bases, n_tasks)")
    draws = rng.random((n_draws, len(measured)))
    task_draws = rng.integers(0, measured.shape[1], size=(n_draws, measured.shape[1]))
    return [
        _judge(name, measured, _as_matrix(name, scores, measured), draws, task_draws)
        for name, scores in predictors.items()
    ]


def _as_matrix(name: str, scores: npt.ArrayLike, measured: FloatArray) -> FloatArray:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim == 1:
        values = np.repeat(values[:, None], measured.shape[1], axis=1)
    if values.shape != measured.shape:
        raise ValueError(
            f"got {name} of shape {np.shape(scores)} for gains of shape {measured.shape}; expected one a cell or a row"
        )
    return values


def _judge(
    name: str, gain: FloatArray, scores: FloatArray, draws: FloatArray, task_draws: npt.NDArray[np.int64]
) -> PredictorRecord:
    n_tasks, n_metrics = gain.shape[1], len(METRICS)
    values, low, high = (np.full((n_tasks, n_metrics), np.nan) for _ in range(3))
    n_bases = np.zeros(n_tasks, np.int64)
    for task in range(n_tasks):
        known = np.flatnonzero(np.isfinite(gain[:, task]) & np.isfinite(scores[:, task]))
        n_bases[task] = len(known)
        if len(known) < MIN_BASES:
            continue
        column, order = gain[known, task], scores[known, task]
        values[task] = measure_agreement(column, order)
        picks = np.floor(draws[:, : len(known)] * len(known)).astype(np.int64)
        low[task], high[task] = _interval(np.array([measure_agreement(column, order, picked) for picked in picks]))
    mean = _mean(values)
    mean_low, mean_high = _interval(np.array([_mean(values[picked]) for picked in task_draws]))
    single = np.isfinite(values).sum(axis=0) < 2
    mean_low[single], mean_high[single] = np.nan, np.nan
    return PredictorRecord(
        name=name, values=values, low=low, high=high, n_bases=n_bases, mean=mean, mean_low=mean_low, mean_high=mean_high
    )


def measure_agreement(gain: FloatArray, score: FloatArray, picked: npt.NDArray[np.int64] | None = None) -> FloatArray:
    """(n_metrics,) ``METRICS`` of one task; agreement with a constant column is NaN, regret is what a random choice loses.

    Args:
        gain: (n_bases,) points, finite.
        score: (n_bases,) finite, higher is ranked first.
        picked: base models of a bootstrap draw; None: each once. Regret is over the distinct ones.
    """
    found = np.full(len(METRICS), np.nan)
    every = np.arange(len(gain)) if picked is None else picked
    drawn, order = gain[every], score[every]
    if np.ptp(drawn) > 0 and np.ptp(order) > 0:
        found[0] = _kendall(drawn, order)
        found[1] = float(weightedtau(drawn, order).statistic)
        found[2] = float(np.corrcoef(drawn, order)[0, 1])
    distinct = np.unique(every)
    for place, top in enumerate(TOPS):
        found[3 + place] = expected_regret(gain[distinct], score[distinct], top)
    return found


def _kendall(first: FloatArray, second: FloatArray) -> float:
    """Tau-b over all pairs."""
    a = np.sign(first[:, None] - first[None, :])
    b = np.sign(second[:, None] - second[None, :])
    return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))


def expected_regret(gain: FloatArray, score: FloatArray, top: int) -> float:
    """Largest gain minus the largest among the ``top`` best scores, expected over the ways to break a tie at the cut, points.

    Of the base models tied at the cut, m in number, r are picked at random: the largest of their gains that is picked is the j-th
    largest with probability C(m - j, r - 1) / C(m, r).
    """
    if top >= len(gain):
        return 0.0
    cut = np.sort(score)[::-1][top - 1]
    sure, tied = gain[score > cut], np.sort(gain[score == cut])[::-1]
    picked = top - len(sure)
    floor = sure.max() if len(sure) else -np.inf
    expected, left, m = 0.0, 1.0, len(tied)
    for j in range(m - picked + 1):
        chance = left * picked / (m - j)  # the j-th largest is picked, none larger was
        expected += chance * max(float(tied[j]), float(floor))
        left -= chance
    return float(gain.max() - expected)


def _mean(values: FloatArray) -> FloatArray:
    """Column means over what is there."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, values, 0.0).sum(axis=0) / there.sum(axis=0))


def _interval(sampled: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Percentile interval of every column; NaN where fewer than half of the draws could be measured."""
    low, high = np.full(sampled.shape[1], np.nan), np.full(sampled.shape[1], np.nan)
    for column in range(sampled.shape[1]):
        there = sampled[np.isfinite(sampled[:, column]), column]
        if 2 * len(there) >= len(sampled):
            low[column], high[column] = np.quantile(there, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return low, high


def average_of_other_tasks(gain: npt.ArrayLike) -> FloatArray:
    """(n_bases, n_tasks) mean gain of each base model over the other tasks it has, points; NaN without any.

    What ``average_order`` gives a complete matrix; here a base model with missing tasks is ranked by those it has.
    """
    values = np.asarray(gain, dtype=np.float64)
    if np.isfinite(values).all():
        return average_order(values, leave_target_out=True)
    there = np.isfinite(values)
    filled = np.where(there, values, 0.0)
    with np.errstate(invalid="ignore"):
        return np.asarray((filled.sum(axis=1, keepdims=True) - filled) / (there.sum(axis=1, keepdims=True) - there))


def ensemble_of(predictors: Sequence[npt.ArrayLike]) -> FloatArray:
    """(n_bases, n_tasks) mean place over several predictors of that shape, task by task."""
    stacked = np.stack([np.asarray(scores, dtype=np.float64) for scores in predictors], axis=2)
    return np.column_stack([average_places(stacked[:, task]) for task in range(stacked.shape[1])])


def chosen_on_other_tasks(
    gain: npt.ArrayLike, predictors: Mapping[str, npt.ArrayLike]
) -> tuple[FloatArray, tuple[str, ...]]:
    """For each task the predictor that agreed best with the gains of all other tasks (mean weighted Kendall).

    Args:
        gain: (n_bases, n_tasks), points.
        predictors: by name, (n_bases, n_tasks).

    Returns:
        (n_bases, n_tasks) its scores as places in [0, 1], and its name by task ('' where none could be judged elsewhere).
    """
    measured = np.asarray(gain, dtype=np.float64)
    names = list(predictors)
    agreement = np.full((len(names), measured.shape[1]), np.nan)
    for row, name in enumerate(names):
        scores = _as_matrix(name, predictors[name], measured)
        for task in range(measured.shape[1]):
            known = np.isfinite(measured[:, task]) & np.isfinite(scores[:, task])
            if known.sum() >= MIN_BASES and np.ptp(measured[known, task]) > 0 and np.ptp(scores[known, task]) > 0:
                agreement[row, task] = weightedtau(measured[known, task], scores[known, task]).statistic
    found, chosen = np.full(measured.shape, np.nan), []
    for task in range(measured.shape[1]):
        elsewhere = _mean(np.delete(agreement, task, axis=1).T)
        if not np.isfinite(elsewhere).any():
            chosen.append("")
            continue
        best = names[int(np.nanargmax(elsewhere))]
        chosen.append(best)
        column = _as_matrix(best, predictors[best], measured)[:, task]
        known = np.isfinite(column)
        found[known, task] = (rankdata(column[known]) - 0.5) / max(known.sum(), 1)
    return found, tuple(chosen)
