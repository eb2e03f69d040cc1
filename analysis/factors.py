"""What makes a source good or a target sensitive: sizes, seeds, training conditions, architectures (section 6)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from analysis.association import Association, FloatArray, associate, paired
from analysis.gain_matrix import POINTS, average_gain, check_gain
from analysis.sensitivity import measure_sensitivity


@dataclass(frozen=True, kw_only=True)
class SizeCorrelation:
    """Training size against average gain, on the raw scale (the paper's) and on the logarithm."""

    raw: Association
    log: Association
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class SmallestTargets:
    """Are the targets with the least training data those on which base models differ most?"""

    count: int
    """How many targets are taken from each end."""
    n_shared: int = 0
    """Targets in both lists."""
    p: float = math.nan
    """Chance of at least so many when the two orders are unrelated (hypergeometric)."""
    smallest: tuple[int, ...] = ()
    """Columns with the least training data, ascending in size."""
    widest: tuple[int, ...] = ()
    """Columns with the largest gain range, descending."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class SeedSpread:
    """Base models of one source task and many seeds: does the source score foretell the target average?"""

    association: Association
    source_range: float
    """Largest minus smallest source score, points; NaN when none is present."""
    target_range: float
    """Largest minus smallest target average, points; NaN when none is present."""
    target_sd: float
    """Standard deviation of target averages over source seeds, points; NaN below two."""
    excess_p: float = math.nan
    """Of "target averages vary by finetuning noise alone"; NaN when the noise is not given."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Difference of two means with its interval and p; NaN exactly when ``reason`` names the failed requirement."""

    n_a: int
    n_b: int
    mean_a: float
    mean_b: float
    difference: float = math.nan
    """mean of a minus mean of b (over the pairs when paired)."""
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    """Two-sided."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class ArchitecturePair:
    """What carries over from one architecture to another, over the tasks (and sources) that both have."""

    first: str
    second: str
    sensitivity: Association
    """Max-gain of each target in one architecture against the other."""
    source_average: Association
    """Average gain of each source in one against the other."""
    target_average: Association
    """Average gain of each target in one against the other."""


def correlate_size(train_size: npt.ArrayLike, average: npt.ArrayLike) -> SizeCorrelation:
    """Correlation of training size and average gain, over sources or over targets.

    Args:
        train_size: (n,) examples, above 0, NaN = unknown.
        average: (n,) average gain, points, NaN = missing.

    Returns:
        SizeCorrelation; the paper's number is ``raw.pearson`` (0.75 over in-house sources). A few huge data sets rule
        the raw scale, so the logarithm stands beside it.

    Raises:
        ValueError: lengths differ or a size is not positive.

    Source: "Where to start?", section 6.1.
    """
    size = np.asarray(train_size, dtype=np.float64)
    if (size <= 0).any():
        raise ValueError("got a training size of 0 or less; expected numbers of examples, NaN for unknown")
    raw = associate(size, average)
    return SizeCorrelation(raw=raw, log=associate(np.log10(size), average), reason=raw.reason)


def compare_smallest_targets(
    train_size: npt.ArrayLike, gain_range: npt.ArrayLike, *, count: int = 5
) -> SmallestTargets:
    """Overlap of the targets with the least training data and those with the largest gain range.

    p = P(X >= shared), X hypergeometric: ``count`` drawn from n targets of which ``count`` are marked.

    Args:
        train_size: (n_tasks,) examples; NaN = unknown, and the target is left out.
        gain_range: (n_tasks,) best minus worst gain over sources, points; NaN likewise.
        count: how many from each end, at least 1.

    Returns:
        SmallestTargets; not more than ``count`` targets, or a tie at the cut of either list, give the reason.

    Raises:
        ValueError: lengths differ or ``count`` below 1.

    Source: "Where to start?", section 6.1 (5 of 5 in-house: CB, CoPA, WSC, WNLI, RTE).
    """
    if count < 1:
        raise ValueError(f"got count {count}; expected at least 1")
    size, spread, _ = paired(train_size, gain_range)
    places = np.flatnonzero(
        ~np.isnan(np.asarray(train_size, dtype=np.float64) + np.asarray(gain_range, dtype=np.float64))
    )
    if size.size <= count:
        return SmallestTargets(count=count, reason=f"only {size.size} targets: needs more than {count}")
    by_size, by_spread = np.argsort(size, kind="stable"), np.argsort(-spread, kind="stable")
    for values, order, name in ((size, by_size, "training size"), (spread, by_spread, "gain range")):
        if values[order[count - 1]] == values[order[count]]:
            return SmallestTargets(count=count, reason=f"a tie in {name} at place {count}: the list is not determined")
    smallest, widest = places[by_size[:count]], places[by_spread[:count]]
    shared = int(np.isin(smallest, widest).sum())
    return SmallestTargets(
        count=count,
        n_shared=shared,
        p=float(stats.hypergeom.sf(shared - 1, size.size, count, count)),
        smallest=tuple(int(column) for column in smallest),
        widest=tuple(int(column) for column in widest),
    )


def compare_seeds(
    source_score: npt.ArrayLike, target_average: npt.ArrayLike, *, noise_sd: float | None = None
) -> SeedSpread:
    """Same source score, different gain: source score against target average over source seeds.

    excess_p is the upper tail of (n - 1) * var(target averages) / noise_sd^2 under chi-square with n - 1 degrees of
    freedom: whether source seeds differ by more than finetuning noise.

    Args:
        source_score: (n_models,) fractions, test score on the source task, NaN = missing.
        target_average: (n_models,) fractions, average score over the target group, NaN = missing.
        noise_sd: standard deviation, in points, of one such average over finetuning seeds of the same base model.

    Returns:
        SeedSpread; fewer than 3 models with both, or a constant column, give the reason.

    Raises:
        ValueError: lengths differ, or ``noise_sd`` not above 0.

    Source: "Where to start?", section 6.2 and appendix I, Fig. 11 (20 seeds of MNLI). excess_p is ours.
    """
    if noise_sd is not None and not noise_sd > 0:
        raise ValueError(f"got noise_sd {noise_sd}; expected points above 0, or None when unknown")
    source, target, _ = paired(source_score, target_average)
    association = associate(source_score, target_average)
    n = target.size
    sd = POINTS * float(target.std(ddof=1)) if n > 1 else math.nan
    excess = math.nan
    if noise_sd is not None and n > 1:
        excess = float(stats.chi2.sf((n - 1) * sd**2 / noise_sd**2, n - 1))
    return SeedSpread(
        association=association,
        source_range=POINTS * float(np.ptp(source)) if n else math.nan,
        target_range=POINTS * float(np.ptp(target)) if n else math.nan,
        target_sd=sd,
        excess_p=excess,
        reason=association.reason,
    )


def compare_conditions(a: npt.ArrayLike, b: npt.ArrayLike, *, pair: bool, level: float = 0.95) -> Contrast:
    """Difference of the mean gain under two conditions.

    Unpaired: Welch's t (good against bad basins: 12 models each). Paired: t of the differences (one source with and
    without weight decay or distance regularisation, over the same targets or seeds).

    Args:
        a, b: one-dimensional, points, NaN = missing; of one length and order when paired.
        pair: whether a[i] and b[i] belong together.
        level: probability of the interval.

    Returns:
        Contrast. Fewer than 2 values on a side (or pairs), or no variation at all, give the means with the reason.

    Raises:
        ValueError: paired columns of different length, infinite values, or a level outside (0, 1).

    Source: "Where to start?", section 6.2 (3.65 against 2.16) and appendix I.1.
    """
    if not 0 < level < 1:
        raise ValueError(f"got level {level}; expected a probability between 0 and 1, for example 0.95")
    if pair:
        x, y, _ = paired(a, b)
    else:
        x, y = (paired(each, each)[0] for each in (a, b))
    means = tuple(float(each.mean()) if each.size else math.nan for each in (x, y))
    reason = _no_contrast(x, y, pair)
    if reason:
        return Contrast(n_a=x.size, n_b=y.size, mean_a=means[0], mean_b=means[1], reason=reason)
    test = stats.ttest_rel(x, y) if pair else stats.ttest_ind(x, y, equal_var=False)
    interval = test.confidence_interval(level)
    return Contrast(
        n_a=x.size,
        n_b=y.size,
        mean_a=means[0],
        mean_b=means[1],
        difference=means[0] - means[1],
        low=float(interval.low),
        high=float(interval.high),
        p=float(test.pvalue),
    )


def compare_architectures(gains: Mapping[str, npt.ArrayLike]) -> tuple[ArchitecturePair, ...]:
    """For each pair of architectures: what of targets and sources carries over.

    Args:
        gains: architecture name -> (n_sources, n_tasks), points, NaN = missing; the same sources and tasks in the
            same order for all.

    Returns:
        One ArchitecturePair per pair, names in sorted order; each association states its own failed requirement
        (fewer than 3 tasks or sources, constant column). Averages with a missing part are NaN and left out.

    Raises:
        ValueError: fewer than 2 architectures, or shapes that differ.

    Source: "Where to start?", section 6.3 (max-gain correlates, pairwise Pearson 0.6 to 0.94; averages do not).
    """
    matrices = {name: check_gain(gain) for name, gain in sorted(gains.items())}
    shapes = {name: matrix.shape for name, matrix in matrices.items()}
    if len(matrices) < 2 or len(set(shapes.values())) != 1:
        raise ValueError(f"got {shapes}; expected at least 2 architectures with the same sources and tasks")
    return tuple(
        ArchitecturePair(
            first=first,
            second=second,
            sensitivity=associate(_max_gain(matrices[first]), _max_gain(matrices[second])),
            source_average=associate(average_gain(matrices[first]), average_gain(matrices[second])),
            target_average=associate(average_gain(matrices[first].T), average_gain(matrices[second].T)),
        )
        for first, second in itertools.combinations(matrices, 2)
    )


def _max_gain(gain: FloatArray) -> FloatArray:
    return measure_sensitivity(gain).max_gain


def _no_contrast(x: FloatArray, y: FloatArray, pair: bool) -> str:
    if min(x.size, y.size) < 2:
        return (
            f"{x.size} and {y.size} values: needs at least 2 on each side" if not pair else f"{x.size} pairs: needs 2"
        )
    spread = np.ptp(x - y) if pair else max(np.ptp(x), np.ptp(y))
    if spread <= 1e-12 * max(float(np.abs(x).max()), float(np.abs(y).max())):
        return (
            "no variation: a test needs values that differ within a side"
            if not pair
            else "all pairs differ by the same"
        )
    return ""
