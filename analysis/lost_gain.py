"""What is lost by trying only the top of a static ranking, and how much of "the best" is chance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.association import FloatArray
from analysis.gain_matrix import BoolArray, check_gain

MIN_MODELS = 3


@dataclass(frozen=True, kw_only=True)
class LostGain:
    """loss_n of every target and its summary (one row of Tables 1 and 6)."""

    top: int
    loss: FloatArray
    """(n_tasks,) points; NaN where a chosen base model has no cell on that target."""
    n_targets: int
    """Targets with a loss."""
    n_unjudged: int
    """Targets without one."""
    n_lower_bound: int
    """Targets with a loss where some base model was not measured: the true best, and so the loss, may be larger."""
    n_unranked: int
    """Base models without an order score (on any target): never chosen, but part of the best."""
    tied: bool
    """Whether equal order scores straddled the cut; then the loss is the mean over all ways to break the tie."""
    threshold: float
    mean: float = math.nan
    max: float = math.nan
    n_over: int = 0
    """Targets that lose more than ``threshold`` points (strictly, as the tables' head says)."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class NoiseFloor:
    """What best-of-n shows when all base models are truly alike; arrays are (n_tasks,), points."""

    max_gain: FloatArray
    """Expected max-gain over all base models by chance alone."""
    max_gain_se: FloatArray
    """Standard error of that number from the finite number of draws."""
    loss: FloatArray
    """Expected lost gain of ``top`` base models chosen without looking."""
    mean_loss: float
    mean_max_loss: float
    """Expected largest loss over the targets."""
    mean_n_over: float
    """Expected number of targets that lose more than the threshold."""
    n_draws: int
    reason: str = ""


def measure_lost_gain(gain: npt.ArrayLike, order_score: npt.ArrayLike, *, top: int, threshold: float = 1.0) -> LostGain:
    """Gain lost on each target by trying only the ``top`` base models of a ranking.

    loss_n(t) = max over all m of gain(m, t) - max over the n first-ranked m of gain(m, t).

    Args:
        gain: (n_bases, n_tasks), points, NaN = missing.
        order_score: (n_bases,), higher is ranked first (probe gain, average gain, ...), or (n_bases, n_tasks) where
            every target has its own order; NaN = unranked, never chosen.
        top: how many base models are tried, at least 1.
        threshold: points; targets that lose more are counted.

    Returns:
        LostGain. Ties at the cut give the expected loss over all ways to break them. Fewer than 3 base models, fewer
        than ``top`` ranked ones, or no target with all chosen cells give NaN with the reason.

    Raises:
        ValueError: shapes that do not match, or ``top`` below 1.

    Source: "Where to start?", section 4.2, Table 1 (order by probe) and appendix F, Table 6 (order by average).
    """
    array = check_gain(gain)
    order = _check_order(order_score, array)
    if top < 1:
        raise ValueError(f"got top {top}; expected at least 1 base model to try")
    n_ranked = int((~np.isnan(order)).sum(axis=0).min())
    n_unranked = int(np.isnan(order).any(axis=1).sum())
    reason = _unusable(array.shape[0], n_ranked, top)
    if reason:
        loss = np.full(array.shape[1], math.nan)
        return _summarise(array, loss, top=top, n_unranked=n_unranked, tied=False, threshold=threshold, reason=reason)
    results = [_column_loss(array[:, t], order[:, t], top) for t in range(array.shape[1])]
    loss = np.array([value for value, _ in results])
    tied = any(flag for _, flag in results)
    return _summarise(array, loss, top=top, n_unranked=n_unranked, tied=tied, threshold=threshold, reason="")


def average_order(
    gain: npt.ArrayLike, *, tasks: npt.ArrayLike | None = None, leave_target_out: bool = False
) -> FloatArray:
    """Order score by average gain over a group of tasks, for measure_lost_gain.

    Args:
        gain: (n_bases, n_tasks), points, NaN = missing.
        tasks: (n_tasks,) boolean mask of the group; default all tasks.
        leave_target_out: rank for each target without its own column. With it, as in Table 6, a target in the group
            helps to choose its own base model, which a new target cannot.

    Returns:
        (n_bases, n_tasks) average gain used for each target, points; NaN where a task of the group is missing, or
        where the group holds nothing but the target itself.

    Raises:
        ValueError: an empty group or a mask that does not match.

    Source: "Where to start?", appendix F.
    """
    array = check_gain(gain)
    group = np.ones(array.shape[1], dtype=bool) if tasks is None else np.asarray(tasks)
    if group.dtype != np.bool_ or group.shape != (array.shape[1],) or not group.any():
        raise ValueError(
            f"got a task group of shape {group.shape}; expected a boolean mask of {array.shape[1]}, not empty"
        )
    orders = np.full(array.shape, math.nan)
    for t in range(array.shape[1]):
        used = group & (np.arange(group.size) != t) if leave_target_out else group
        if used.any():
            orders[:, t] = array[:, used].mean(axis=1)
    return orders


def simulate_noise_floor(
    standard_error: npt.ArrayLike,
    *,
    top: int,
    rng: np.random.Generator,
    threshold: float = 1.0,
    n_draws: int = 2000,
) -> NoiseFloor:
    """Max-gain and lost gain that arise when every base model is exactly as good as the pretrained one.

    Draws gain(m, t) ~ Normal(0, standard_error(m, t)^2) independently; each draw tries ``top`` base models chosen at
    random among those measured on that target. The pretrained model's own error is common to a column: it shifts all
    gains of the column together, cancels in the loss, and has expectation 0 in the maximum, so give the error of the
    base model's average score only.

    Args:
        standard_error: (n_bases, n_tasks), points, not negative; NaN = cell missing.
        top: how many base models are tried, at least 1.
        rng: generator.
        threshold: points; targets that lose more are counted.
        n_draws: simulated experiments.

    Returns:
        NoiseFloor; a target with fewer than ``top`` measured base models is NaN and left out of the means; no target
        left, or fewer than 3 base models, gives the reason.

    Raises:
        ValueError: a negative error, ``top`` or ``n_draws`` too small.

    Cost: O(n_draws * n_bases * n_tasks) normal deviates, one column in memory at a time.
    Source: issue of "Where to start?": the part of Tables 1 and 6 that best-of-n picks up by chance; not in the paper.
    """
    errors = check_gain(standard_error)
    if (errors < 0).any():
        raise ValueError("got a negative standard error; expected points of at least 0, NaN for missing cells")
    if top < 1 or n_draws < 2:
        raise ValueError(f"got top {top} and {n_draws} draws; expected at least 1 and at least 2")
    n_tasks = errors.shape[1]
    best, best_se = np.full(n_tasks, math.nan), np.full(n_tasks, math.nan)
    loss = np.full((n_draws, n_tasks), math.nan)
    for t in range(n_tasks):
        column = errors[~np.isnan(errors[:, t]), t]
        if column.size < max(top, MIN_MODELS):
            continue
        drawn = rng.permuted(np.broadcast_to(column, (n_draws, column.size)), axis=1)
        drawn *= rng.standard_normal(drawn.shape)
        highest = drawn.max(axis=1)
        best[t], best_se[t] = highest.mean(), highest.std(ddof=1) / math.sqrt(n_draws)
        # the columns are already in random order, so the first ones are a choice made without looking
        loss[:, t] = highest - drawn[:, :top].max(axis=1)
    judged = ~np.isnan(best)
    if not judged.any():
        reason = f"no target with at least {max(top, MIN_MODELS)} measured base models"
        none = np.full(n_tasks, math.nan)
        return NoiseFloor(
            max_gain=none, max_gain_se=none, loss=none, mean_loss=math.nan, mean_max_loss=math.nan,
            mean_n_over=math.nan, n_draws=n_draws, reason=reason,
        )  # fmt: skip
    return NoiseFloor(
        max_gain=best,
        max_gain_se=best_se,
        loss=loss.mean(axis=0),
        mean_loss=float(loss[:, judged].mean()),
        mean_max_loss=float(loss[:, judged].max(axis=1).mean()),
        mean_n_over=float((loss[:, judged] > threshold).sum(axis=1).mean()),
        n_draws=n_draws,
    )


def _check_order(order_score: npt.ArrayLike, gain: FloatArray) -> FloatArray:
    order = np.asarray(order_score, dtype=np.float64)
    if order.shape == (gain.shape[0],):
        return np.broadcast_to(order[:, None], gain.shape)
    if order.shape != gain.shape:
        raise ValueError(f"got order scores of shape {order.shape}; expected ({gain.shape[0]},) or {gain.shape}")
    return order


def _unusable(n_bases: int, n_ranked: int, top: int) -> str:
    if n_bases < MIN_MODELS:
        return f"only {n_bases} base models: needs at least {MIN_MODELS}"
    if n_ranked < top:
        return f"only {n_ranked} ranked base models on some target: needs at least the {top} to be tried"
    if n_bases == top:
        return f"all {n_bases} base models are tried: nothing can be lost"
    return ""


def _column_loss(gain: FloatArray, order: FloatArray, top: int) -> tuple[float, bool]:
    """Loss on one target and whether equal order scores straddled the cut."""
    cut = np.sort(order[~np.isnan(order)])[::-1][top - 1]
    sure: BoolArray = order > cut
    tie: BoolArray = order == cut
    slots = top - int(sure.sum())
    tied = slots < int(tie.sum())
    if np.isnan(gain[sure | tie]).any():
        return math.nan, tied
    floor = float(gain[sure].max(initial=-math.inf))
    return float(np.nanmax(gain)) - _expected_best(floor, np.sort(gain[tie]), slots), tied


def _expected_best(floor: float, candidates: FloatArray, slots: int) -> float:
    """Mean of max(floor, best of ``slots`` drawn without replacement) over all draws; candidates ascending.

    The r-th smallest of m is the best of k drawn with probability C(r - 1, k - 1) / C(m, k).
    """
    m = candidates.size
    ways = math.comb(m, slots)
    return sum(math.comb(r, slots - 1) / ways * max(floor, float(candidates[r])) for r in range(slots - 1, m))


def _summarise(
    gain: FloatArray, loss: FloatArray, *, top: int, n_unranked: int, tied: bool, threshold: float, reason: str
) -> LostGain:
    judged = ~np.isnan(loss)
    n = int(judged.sum())
    if n == 0 and not reason:
        reason = "no target has a cell for every chosen base model"
    return LostGain(
        top=top,
        loss=loss,
        n_targets=n,
        n_unjudged=loss.size - n,
        n_lower_bound=int((judged & np.isnan(gain).any(axis=0)).sum()),
        n_unranked=n_unranked,
        tied=tied,
        threshold=threshold,
        mean=float(loss[judged].mean()) if n else math.nan,
        max=float(loss[judged].max()) if n else math.nan,
        n_over=int((loss[judged] > threshold).sum()),
        reason=reason,
    )
