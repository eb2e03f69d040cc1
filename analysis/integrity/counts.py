"""What an accuracy must be: a whole number of right answers out of the task's test size.

An accuracy is k/n. From a handful of repetitions of one model the denominator n can be read back, and every other value
under the same task name can be held against it. Matrix orientation: rows are repetitions or base models, columns tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

RESOLUTION = 1e-9
"""Half a unit of the last digit that published fractions are trusted to."""
MAX_SIZE = 100_000
"""Largest test size looked for."""
MAX_CHANCE = 0.01
"""Expected number of denominators that would fit by luck, above which a recovered one is not believed."""
TRUSTED_SHARE = 0.95
"""Share of trusted rows that a multiple of the smallest denominator must explain."""


@dataclass(frozen=True, kw_only=True)
class TestSizes:
    """The denominators of a set of tasks."""

    __test__ = False

    tasks: tuple[str, ...]
    """Task names, in column order."""
    n: Ints
    """(n_tasks,) test size; 0 where the score is no accuracy or the evidence does not suffice."""
    evidence: Ints
    """(n_tasks,) number of distinct values, other than 0 and 1, that stand behind ``n``."""
    source: tuple[str, ...]
    """Per task: 'recovered', 'multiple' (widened by rows), 'known' (as stated by the caller) or 'none'."""
    conflicts: tuple[str, ...]
    """One sentence for each stated test size that the repetitions contradict."""
    resolution: float = RESOLUTION
    """Half a unit of the last digit that the scores are trusted to, as a fraction."""

    @property
    def correlations(self) -> Bools:
        """(n_tasks,) tasks whose values fit no denominator although there are three or more of them (stsb)."""
        return (self.n == 0) & (self.evidence >= 3)


def on_lattice(values: Floats, n: Ints | int, *, resolution: float = RESOLUTION) -> Bools:
    """Whether each value is k/n for a whole k.

    Args:
        values: any shape, fractions.
        n: test sizes, broadcast against ``values``; 0 means unknown and never fits.
        resolution: half a unit of the last trusted digit of ``values``.
    Returns:
        boolean array of the broadcast shape; False for NaN and infinities.
    """
    size = np.asarray(n, dtype=float)
    with np.errstate(invalid="ignore"):
        scaled = np.asarray(values, dtype=float) * size
        error = np.abs(scaled - np.round(scaled))
        slack = size * resolution + 4 * np.finfo(float).eps * np.abs(scaled)
        return np.asarray((error <= slack) & (size > 0))


def informative(values: Floats) -> Bools:
    """Values that can tell one denominator from another: finite, strictly between 0 and 1."""
    with np.errstate(invalid="ignore"):
        return np.asarray((values > 0) & (values < 1))


def nearest_fraction(value: float, *, max_size: int = MAX_SIZE) -> Fraction:
    """The fraction of denominator up to ``max_size`` nearest to ``value`` (evidence for a foreign test size)."""
    return Fraction(float(value)).limit_denominator(max_size)


def recover_test_sizes(
    repetitions: Floats,
    tasks: Sequence[str],
    known: Mapping[str, int] | None = None,
    *,
    scores: Floats | None = None,
    resolution: float = RESOLUTION,
    max_size: int = MAX_SIZE,
) -> TestSizes:
    """Test size of every task, read back from repeated accuracies of one model.

    n_t is the smallest n for which every repetition is k/n. It is believed only if the number of denominators up to n
    that would fit d distinct random values, sum_{m<=n} min(1, 2 m r)^d with r the resolution, is below 0.01; otherwise
    (a rank correlation, one lone value) n_t is 0. A few repetitions may share a factor (0.6346 = 66/104 = 33/52), so
    with ``scores`` the smallest multiple is taken that explains 95 % of the rows that fit elsewhere.

    Args:
        repetitions: (n_reps, n_tasks) fractions, NaN where missing. Repetitions of several architectures may be stacked.
        tasks: names of the columns.
        known: test sizes stated elsewhere; used where the repetitions do not contradict them.
        scores: (n_rows, n_tasks) other rows of the same tasks, NaN where missing; doubtful rows are tolerated.
        resolution: half a unit of the last trusted digit.
        max_size: largest test size looked for.
    Raises:
        ValueError: wrong shapes.
    Cost: n_tasks * max_size in the worst case, about 0.1 s for 36 tasks.
    """
    reps = _table(repetitions, len(tasks), "repetitions")
    rows = np.empty((0, len(tasks))) if scores is None else _table(scores, len(tasks), "scores")
    stated = dict(known or {})
    sizes, evidence = np.zeros(len(tasks), dtype=np.int64), np.zeros(len(tasks), dtype=np.int64)
    source, conflicts = ["none"] * len(tasks), []
    for column, task in enumerate(tasks):
        values = np.unique(reps[informative(reps[:, column]), column])
        evidence[column] = len(values)
        if task in stated and on_lattice(values, stated[task], resolution=resolution).all():
            sizes[column], source[column] = stated[task], "known"
            continue
        sizes[column] = _smallest_size(values, resolution=resolution, max_size=max_size)
        source[column] = "recovered" if sizes[column] else "none"
        if task in stated:
            conflicts.append(
                f"{task}: a test size of {stated[task]} was stated, but a repetition scored "
                f"{_first_misfit(values, stated[task], resolution):.6g}, which is no k/{stated[task]}"
            )
    for column in _widen(sizes, rows, source, resolution=resolution, max_size=max_size):
        source[column] = "multiple"
    return TestSizes(
        tasks=tuple(tasks),
        n=sizes,
        evidence=evidence,
        source=tuple(source),
        conflicts=tuple(conflicts),
        resolution=resolution,
    )


def constant_predictions(
    scores: Floats,
    test_sizes: TestSizes,
    *,
    class_counts: Mapping[str, Sequence[int]] | None = None,
) -> Bools:
    """Cells whose score is that of a model that answers every question alike.

    A score of 0 always counts. Where ``class_counts`` tells how often each class stands in the test set, a score equal to
    one of the shares counts. Elsewhere the shares are read from the scores themselves: a count k that is hit far more
    often than its neighbours within 1 % of n and than the median count of the column (Poisson tail below 1e-6, at least
    8 times either: the majority class of wsc or wnli), or that two or more rows share far below the usual level (8 robust
    spreads; tail below 1e-3; at least twice the median count of the other values there).
    A constant prediction is a genuine, if poor, result; a row of them is not (see ``audit_rows``).

    Args:
        scores: (n_rows, n_tasks) fractions, NaN where missing; identical rows are counted once.
        test_sizes: the denominators.
        class_counts: per task the number of test examples of each class.
    Returns:
        (n_rows, n_tasks) boolean.
    """
    resolution = test_sizes.resolution
    table = _table(scores, len(test_sizes.tasks), "scores")
    flagged = table == 0.0
    single = np.unique(np.nan_to_num(table, nan=-1.0), axis=0)
    for column, task in enumerate(test_sizes.tasks):
        size = int(test_sizes.n[column])
        if size == 0:
            continue
        fits = on_lattice(table[:, column], size, resolution=resolution)
        right = np.where(fits, np.round(np.nan_to_num(table[:, column]) * size), -1).astype(np.int64)
        if class_counts is not None and task in class_counts:
            shares = np.asarray(class_counts[task], dtype=np.int64)
        else:
            present = single[:, column][on_lattice(single[:, column], size, resolution=resolution)]
            shares = _spikes(np.round(present[present > 0] * size).astype(np.int64), size)
        flagged[:, column] |= fits & np.isin(right, shares)
    return flagged


def _spikes(right: Ints, size: int) -> Ints:
    """Counts of right answers that repeat too often to be chance."""
    if len(right) == 0:
        return np.empty(0, dtype=np.int64)
    window = max(3, int(np.ceil(0.01 * size)))
    counts, hits = np.unique(right, return_counts=True)
    middle, common = float(np.median(right)), float(np.median(hits))
    spread = max(1.4826 * float(np.median(np.abs(right - middle))), 1.0)
    far = counts < middle - 8 * spread
    found = []
    for k, hit in zip(counts, hits, strict=True):
        near = int(hits[(np.abs(counts - k) <= window) & (counts != k)].sum())
        usual = near / (2 * window)
        strong = stats.poisson.sf(hit - 1, max(usual, 0.5)) < 1e-6 and hit >= 8 * max(usual, common)
        sparse = stats.poisson.sf(hit - 1, (near + 0.5) / (2 * window + 1)) < 1e-3
        others = hits[far & (counts != k)]
        apart = k < middle - 8 * spread and hit >= 2 * (float(np.median(others)) if len(others) else 1.0)
        if strong or (apart and sparse):
            found.append(int(k))
    return np.asarray(found, dtype=np.int64)


def _smallest_size(values: Floats, *, resolution: float, max_size: int) -> int:
    """Smallest believable n for which all values are k/n, else 0."""
    if len(values) == 0:
        return 0
    sizes = np.arange(2, max_size + 1)
    for value in values:
        sizes = sizes[on_lattice(np.full(len(sizes), value), sizes, resolution=resolution)]
        if len(sizes) == 0:
            return 0
    smallest = int(sizes[0])
    luck = np.minimum(1.0, 2 * np.arange(1, smallest + 1) * resolution) ** len(values)
    return smallest if float(luck.sum()) < MAX_CHANCE else 0


def _widen(sizes: Ints, rows: Floats, source: Sequence[str], *, resolution: float, max_size: int) -> list[int]:
    """Replace, in place, denominators that trusted rows show to be a multiple; returns the columns changed."""
    changed: set[int] = set()
    if len(rows) < 4:
        return []
    for _ in range(2):
        misfit = informative(rows) & ~on_lattice(rows, sizes, resolution=resolution) & (sizes > 0)
        filled = np.isfinite(rows).sum(axis=1) >= max(2, rows.shape[1] // 2)
        for column in np.flatnonzero(sizes > 0).tolist():
            if source[column] == "known":
                continue
            others = misfit.sum(axis=1) - misfit[:, column]
            if not filled.any():
                return []
            trusted = filled & (others <= np.quantile(others[filled], 0.25)) & informative(rows[:, column])
            multiple = _multiple(rows[trusted, column], int(sizes[column]), resolution=resolution, max_size=max_size)
            if multiple > 1:
                sizes[column] *= multiple
                changed.add(int(column))
    return sorted(changed)


def _multiple(values: Floats, size: int, *, resolution: float, max_size: int) -> int:
    """Smallest factor m for which 95 % of the values are k/(m size); 1 if none or if too few values say so."""
    if len(values) < 4 or np.mean(on_lattice(values, size, resolution=resolution)) >= TRUSTED_SHARE:
        return 1
    factors = np.arange(2, max_size // size + 1)
    fits = on_lattice(values[:, None], factors * size, resolution=resolution).mean(axis=0)
    good = factors[fits >= TRUSTED_SHARE]
    return int(good[0]) if len(good) else 1


def _first_misfit(values: Floats, size: int, resolution: float) -> float:
    return float(values[~on_lattice(values, size, resolution=resolution)][0])


def _table(values: Floats, n_tasks: int, name: str) -> Floats:
    table = np.asarray(values, dtype=float)
    if table.ndim != 2 or table.shape[1] != n_tasks:
        raise ValueError(
            f"{name} has shape {table.shape}, expected (rows, {n_tasks}): give one column for each of the tasks"
        )
    return table
