"""Do similar source and target tasks go together: average gain by group (Table 2) and analysis of variance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt
from scipy import stats

from analysis.association import FloatArray, is_constant
from analysis.gain_matrix import BoolArray, IntArray, check_gain

MIN_MODELS = 3


class Unit(Enum):
    """What counts as one observation in the analysis of variance."""

    CELL = "cell"
    """Every (source, target) gain: the paper's p values, as far as it says; cells of one model are not independent."""
    MEAN = "mean"
    """The mean of a base model over the target group (or of a target over the source group): the careful choice."""


@dataclass(frozen=True, kw_only=True)
class Anova:
    """One-way analysis of variance; ``f`` and ``p`` are NaN exactly when ``reason`` names the failed requirement."""

    within: str
    """The target group (or source group) whose cells are compared."""
    n: int
    """Observations."""
    df_between: int = 0
    df_within: int = 0
    f: float = math.nan
    p: float = math.nan
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class GroupTable:
    """Average gain of each source group (rows) on each target group (columns)."""

    source_groups: tuple[str, ...]
    """Row labels, sorted."""
    target_groups: tuple[str, ...]
    """Column labels, sorted."""
    mean_gain: FloatArray
    """(n_source_groups, n_target_groups), points; NaN where no cell is left."""
    n_cells: IntArray
    by_target: tuple[Anova, ...]
    """For each target group: do source groups differ in gain on it?"""
    by_source: tuple[Anova, ...]
    """For each source group: does its gain differ between target groups?"""
    reason: str = ""
    """Set when there are fewer than 3 base models or no gain at all; then no number is given."""


def self_pairs(source_tasks: Sequence[str], target_tasks: Sequence[str]) -> BoolArray:
    """(n_bases, n_tasks) mask of cells whose base model was finetuned on the target task itself."""
    return np.asarray(source_tasks, dtype=str)[:, None] == np.asarray(target_tasks, dtype=str)[None, :]


def tabulate_groups(
    gain: npt.ArrayLike,
    source_groups: Sequence[str],
    target_groups: Sequence[str],
    *,
    exclude: npt.ArrayLike | None = None,
    unit: Unit = Unit.CELL,
) -> GroupTable:
    """Average gain by source group and target group, each group compared by one-way analysis of variance.

    F = (between-group sum of squares / (k - 1)) / (within-group sum of squares / (n - k)).

    Args:
        gain: (n_bases, n_tasks), points, NaN = missing (left out).
        source_groups: n_bases group names, one per base model (a task in two groups is counted in one of them:
            the paper takes the overlap of NLI and General out of General).
        target_groups: n_tasks group names.
        exclude: (n_bases, n_tasks) mask of cells to leave out, for example ``self_pairs``. The paper does not say
            that it leaves them out.
        unit: what counts as one observation of the analysis of variance.

    Returns:
        GroupTable. A comparison with fewer than 2 groups, no group of 2 observations, or no variation within the
        groups is NaN with its reason.

    Raises:
        ValueError: lengths or shapes that do not match.

    Source: "Where to start?", section 5, Table 2.
    """
    array = check_gain(gain)
    if (len(source_groups), len(target_groups)) != array.shape:
        raise ValueError(
            f"got {len(source_groups)} source groups and {len(target_groups)} target groups for a matrix of shape"
            f" {array.shape}; expected one name per row and per column"
        )
    rows, row_labels = _label(source_groups)
    columns, column_labels = _label(target_groups)
    used = array if exclude is None else _blank(array, np.asarray(exclude))
    reason = _unusable(used)
    if reason:
        used = np.full(used.shape, math.nan)
    shape = (len(row_labels), len(column_labels))
    blocks = [[used[np.ix_(rows == s, columns == t)] for t in range(shape[1])] for s in range(shape[0])]
    n_cells = np.array([[int((~np.isnan(block)).sum()) for block in line] for line in blocks], dtype=np.int64)
    total = np.array([[np.nansum(block) for block in line] for line in blocks])
    by_target = (
        _compare(label, [line[t] for line in blocks], unit, mean_axis=1) for t, label in enumerate(column_labels)
    )
    by_source = (_compare(label, blocks[s], unit, mean_axis=0) for s, label in enumerate(row_labels))
    return GroupTable(
        source_groups=row_labels,
        target_groups=column_labels,
        mean_gain=np.where(n_cells > 0, total / np.maximum(n_cells, 1), math.nan),
        n_cells=n_cells,
        by_target=tuple(by_target),
        by_source=tuple(by_source),
        reason=reason,
    )


def compare_groups(samples: Sequence[npt.ArrayLike], *, within: str = "") -> Anova:
    """One-way analysis of variance of several samples; NaN values are left out, empty samples too.

    Source: Fisher (1925); p from the F distribution with (k - 1, n - k) degrees of freedom.
    """
    present = [_present(sample) for sample in samples]
    present = [sample for sample in present if sample.size]
    n, k = sum(sample.size for sample in present), len(present)
    if k < 2:
        return Anova(within=within, n=n, reason=f"{k} groups with observations: needs at least 2")
    if n <= k:
        return Anova(within=within, n=n, reason="one observation per group: needs a group of at least 2")
    if all(is_constant(sample) for sample in present):
        return Anova(within=within, n=n, reason="no variation within the groups: F is not defined")
    grand = np.concatenate(present).mean()
    between = sum(sample.size * (sample.mean() - grand) ** 2 for sample in present) / (k - 1)
    inside = sum(float(((sample - sample.mean()) ** 2).sum()) for sample in present) / (n - k)
    f = float(between / inside)
    return Anova(within=within, n=n, df_between=k - 1, df_within=n - k, f=f, p=float(stats.f.sf(f, k - 1, n - k)))


def _present(sample: npt.ArrayLike) -> FloatArray:
    values = np.asarray(sample, dtype=np.float64).ravel()
    return values[~np.isnan(values)]


def _label(names: Sequence[str]) -> tuple[IntArray, tuple[str, ...]]:
    labels, codes = np.unique(np.asarray(names, dtype=str), return_inverse=True)
    return codes, tuple(str(label) for label in labels)


def _blank(gain: FloatArray, exclude: npt.NDArray[np.generic]) -> FloatArray:
    if exclude.dtype != np.bool_ or exclude.shape != gain.shape:
        raise ValueError(f"got an exclusion of shape {exclude.shape}; expected a boolean mask of shape {gain.shape}")
    return np.where(exclude, math.nan, gain)


def _unusable(gain: FloatArray) -> str:
    if gain.shape[0] < MIN_MODELS:
        return f"only {gain.shape[0]} base models: needs at least {MIN_MODELS}"
    if np.isnan(gain).all():
        return "no gain is present: is the pretrained model's row missing?"
    return ""


def _compare(label: str, blocks: Sequence[FloatArray], unit: Unit, *, mean_axis: int) -> Anova:
    """Compare the blocks of one column (mean_axis 1: a model's mean) or row (mean_axis 0: a target's mean)."""
    if unit is Unit.CELL:
        return compare_groups(blocks, within=label)
    means = []
    for block in blocks:
        n = (~np.isnan(block)).sum(axis=mean_axis)
        means.append(np.where(n > 0, np.nansum(block, axis=mean_axis) / np.maximum(n, 1), math.nan))
    return compare_groups(means, within=label)
