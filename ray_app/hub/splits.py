"""Which rows are train, validation and test: pure functions from counts and text ids to row numbers.

Every draw is made by SplitMix64 over the row number and sorted, so the same seed gives the same rows on every platform and
with every version of numpy (NEP 19 promises that for no Generator).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_app.hub.tasks import ROLES, SplitRule

RULES_VERSION = 1
"""Raised whenever this module would give other rows for the same input; part of a cell's identity."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True, kw_only=True)
class SplitPlan:
    """Where the rows of every role come from."""

    sources: dict[str, str]
    """Role -> labelled split it is taken from as it is."""
    cut: tuple[str, ...]
    """Roles cut from train, in the order of cutting."""
    unused: tuple[str, ...]
    """Labelled splits that the rule leaves out."""


def plan_splits(present: Collection[str], *, hidden_test: bool, names_test: bool, rule: SplitRule) -> SplitPlan:
    """What the split rule makes of the labelled splits there are.

    Where the test labels are hidden, a test split of some copy (a mirror may have one) is left out, because the papers did
    not have it either; unless the task itself names one (mnli: the mismatched validation set). Then SITE makes the
    validation split the test set (mnli: leaves matched out, mismatched is the test set) and cuts validation from train;
    PAPER keeps validation and cuts test from train. Whatever is still missing is cut from train under both rules.

    Args:
        present: roles that have labelled rows; train among them.
        hidden_test: the test labels of the task are hidden.
        names_test: the task names a labelled hub split as its test set all the same.
        rule: which of the two rules.

    Raises:
        ValueError: there is no train split to begin with.

    Source: SITE: recovered denominators of the model-recycling site (test = validation; n = 9,832 for mnli is mismatched).
    PAPER: "Where to start?" App. C.
    """
    if "train" not in present:
        raise ValueError("no train split; validation and test may be cut from it, but nothing makes a train split")
    sources = {role: role for role in ROLES if role in present}
    unused = []
    if hidden_test and not names_test and sources.pop("test", ""):
        unused.append("test")
    if hidden_test and rule is SplitRule.SITE and sources.pop("validation", ""):
        if "test" in sources:
            unused.append("validation")
        else:
            sources["test"] = "validation"
    cut = tuple(role for role in ("test", "validation") if role not in sources)
    return SplitPlan(sources=sources, cut=cut, unused=tuple(unused))


def cut_size(n_train: int) -> int:
    """Rows of a validation or test set cut from a train split: 10 %, at most 1,000, at least 1.

    Source: PAPER: "Where to start?" App. C, "1K or 10 % of the training examples, the smaller". SITE: the original's
    development set is the first and last 5 % of train (small) or its first and last 500 rows (large); with "large" taken as
    more than 10,000 rows, which the source does not state, both come to this number.
    """
    return max(1, min(1000, n_train // 10))


def cut_rows(
    text_ids: NDArray[np.int64], *, size: int, seed: int, stream: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut rows off a split so that no text is on both sides.

    Texts (groups of rows with the same id) are drawn in seeded order and taken whole while they fit.

    Args:
        text_ids: (n_rows,) equal for rows with equal texts, numbered from 0 by first appearance.
        size: rows wanted, 1 to n_rows - 1.
        seed: seed of the draw.
        stream: name that separates this draw from others of the same seed.

    Returns:
        (rows cut, rows left), both ascending; fewer than ``size`` are cut only where no text left fits.

    Raises:
        ValueError: size out of range, or no text fits (all rows have one text).

    Source: the original takes the first and the last rows. Differs: drawn at random, since a split may be ordered by class
    and its ends then hold one class each; and equal texts stay together.
    """
    n_rows = len(text_ids)
    if not 1 <= size < n_rows:
        raise ValueError(f"cannot cut {size} rows off {n_rows}; at least one must go and one must stay")
    per_text = np.bincount(text_ids)
    taken = np.zeros(len(per_text), dtype=bool)
    wanted = size
    for text in draw_order(len(per_text), seed=seed, stream=stream):
        if per_text[text] <= wanted:
            taken[text] = True
            wanted -= int(per_text[text])
        if wanted == 0:
            break
    in_cut = taken[text_ids]
    if not in_cut.any():
        raise ValueError(f"cannot cut {size} rows off {n_rows}: every text is repeated more often than that")
    return np.flatnonzero(in_cut), np.flatnonzero(~in_cut)


def cap_rows(n_rows: int, *, cap: int | None, seed: int, stream: str) -> NDArray[np.int64]:
    """Row numbers kept under a cap: all in their order without one, else the first ``cap`` of the seeded draw.

    The rows of a smaller cap are the first rows of a larger one, so a study over data sizes is nested.

    Raises:
        ValueError: the cap is below 1.
    """
    if cap is None:
        return np.arange(n_rows, dtype=np.int64)
    if cap < 1:
        raise ValueError(f"a cap of {cap} rows leaves nothing; give 1 or more")
    return draw_order(n_rows, seed=seed, stream=stream)[:cap]


def draw_order(n: int, *, seed: int, stream: str) -> NDArray[np.int64]:
    """A permutation of 0 .. n-1 that depends on (n, seed, stream) only.

    Position i gets the i-th number of SplitMix64 started from the hash of (seed, stream); positions are sorted by it.
    """
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    numbers = splitmix64(int.from_bytes(digest[:8], "little"), n)
    return np.argsort(numbers, kind="stable").astype(np.int64)


def splitmix64(state: int, n: int) -> NDArray[np.uint64]:
    """The first n numbers, shape (n,), of the SplitMix64 generator started from ``state`` (0 to 2^64 - 1).

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, figure 17.
    """
    with np.errstate(over="ignore"):
        z = np.uint64(state) + np.arange(1, n + 1, dtype=np.uint64) * _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _MIX_1
        z = (z ^ (z >> np.uint64(27))) * _MIX_2
        return z ^ (z >> np.uint64(31))
