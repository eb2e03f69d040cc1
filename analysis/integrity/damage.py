"""How well the gate finds damage that is known, and how often it cries without cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analysis.integrity.counts import Bools, Floats, TestSizes, informative, on_lattice
from analysis.integrity.verdicts import audit_rows

MOST_DROPPED = 5
HARMLESS = ("intact", "untested", "partial")


@dataclass(frozen=True, kw_only=True)
class DamageResult:
    """What became of one kind of damage."""

    damage: str
    """Kind of damage done."""
    damaged: int
    """Rows damaged."""
    found: int
    """Damaged rows that were repaired or quarantined for a doubt other than missing tasks."""
    exact: int
    """Damaged rows whose every trusted score is the true one and whose lost tasks are exactly those destroyed."""
    wrong_cells: int
    """Trusted scores, in all damaged rows, that are not the true score of their task."""
    untouched: int
    """Rows left as they were, in the same table."""
    false_alarms: int
    """Untouched rows that were doubted."""

    @property
    def recall(self) -> float:
        """Share of the damaged rows that were found, in [0, 1]; NaN if none was damaged."""
        return self.found / self.damaged if self.damaged else float("nan")

    @property
    def precision(self) -> float:
        """Share of the rows doubted that were damaged, in [0, 1]; NaN if none was doubted."""
        doubted = self.found + self.false_alarms
        return self.found / doubted if doubted else float("nan")


Damage = Callable[[Floats, TestSizes, np.random.Generator], tuple[Floats, Bools]]
"""From a row, the test sizes and chance to the damaged row and the (n_tasks,) tasks whose true score is gone."""


def damage_study(
    scores: Floats,
    *,
    test_sizes: TestSizes,
    repetitions: Floats | None,
    rng: np.random.Generator,
    share: float = 0.3,
) -> tuple[DamageResult, ...]:
    """Damage a share of intact rows in each known way, audit the table, and count what was found.

    Ways: 1 to 5 tasks dropped and the later scores moved left, the places that fell free at the end keeping what stood
    there, left empty, or filled with the last score; two tasks exchanged; 1 to 5 tasks scored on another split (k/n' with
    n' drawn between n/2 and 2n).

    Args:
        scores: (n_rows, n_tasks) rows known to be intact, all different.
        test_sizes, repetitions: as for ``audit_rows``.
        rng: source of chance.
        share: share of the rows that is damaged, in (0, 1).
    Raises:
        ValueError: fewer than 10 rows, or a row with a missing score.
    Cost: one audit for each way.
    """
    if len(scores) < 10 or not np.isfinite(scores).all():
        raise ValueError(
            f"a damage study needs at least 10 rows without missing scores, got {len(scores)}: give intact rows only"
        )
    ways: dict[str, Damage] = {
        "dropped, end kept": lambda row, sizes, chance: _drop(row, chance, end="kept"),
        "dropped, end empty": lambda row, sizes, chance: _drop(row, chance, end="empty"),
        "dropped, end padded": lambda row, sizes, chance: _drop(row, chance, end="padded"),
        "two tasks exchanged": _exchange,
        "other split": _other_split,
    }
    return tuple(
        _study(name, way, scores, test_sizes=test_sizes, repetitions=repetitions, rng=rng, share=share)
        for name, way in ways.items()
    )


def count_false_alarms(
    repetitions: Floats, *, test_sizes: TestSizes, rng: np.random.Generator, n_rows: int = 200
) -> int:
    """Number of sound rows that the gate doubts, out of the repetitions and ``n_rows`` resampled from them.

    A resampled row takes each task's score from a repetition drawn at random. Missing scores are no doubt.

    Args:
        repetitions: (n_reps, n_tasks) scores of the pretrained model under different seeds.
        test_sizes: denominators.
        rng: source of chance.
        n_rows: resampled rows.
    """
    reps = np.asarray(repetitions, dtype=float)
    drawn = np.take_along_axis(reps, rng.integers(len(reps), size=(n_rows, reps.shape[1])), axis=0)
    table = np.unique(np.concatenate([reps, drawn]), axis=0)
    audit = audit_rows(
        [f"sound-{i}" for i in range(len(table))], table, test_sizes=test_sizes, repetitions=reps, min_coverage=0.0
    )
    return sum(kind not in HARMLESS for kind in audit.kind)


def _study(
    name: str,
    way: Damage,
    scores: Floats,
    *,
    test_sizes: TestSizes,
    repetitions: Floats | None,
    rng: np.random.Generator,
    share: float,
) -> DamageResult:
    table = np.array(scores, dtype=float)
    chosen = rng.permutation(len(table))[: max(1, round(share * len(table)))]
    gone = np.zeros(table.shape, dtype=bool)
    for row in chosen:
        table[row], gone[row] = way(table[row], test_sizes, rng)
    audit = audit_rows(
        [f"row-{i}" for i in range(len(table))], table, test_sizes=test_sizes, repetitions=repetitions, min_coverage=0.0
    )
    doubted = np.array([kind not in HARMLESS for kind in audit.kind])
    trusted = np.isfinite(audit.scores)
    wrong = trusted & (audit.scores != scores)
    exact = (wrong.sum(axis=1) == 0) & (trusted == ~gone).all(axis=1)
    hit = np.zeros(len(table), dtype=bool)
    hit[chosen] = True
    return DamageResult(
        damage=name,
        damaged=len(chosen),
        found=int((doubted & hit).sum()),
        exact=int((exact & hit & doubted).sum()),
        wrong_cells=int(wrong[hit].sum()),
        untouched=int((~hit).sum()),
        false_alarms=int((doubted & ~hit).sum()),
    )


def _drop(row: Floats, rng: np.random.Generator, *, end: str) -> tuple[Floats, Bools]:
    """Drop 1 to 5 tasks (never only the last ones, which moves nothing) and move the later scores left."""
    width = len(row)
    count = int(rng.integers(1, min(MOST_DROPPED, width - 2) + 1))
    dropped = np.zeros(width, dtype=bool)
    dropped[rng.choice(width - 1, size=count, replace=False)] = True
    kept = row[~dropped]
    damaged = row.copy() if end == "kept" else np.full(width, np.nan if end == "empty" else kept[-1])
    damaged[: len(kept)] = kept
    survives = ~dropped
    if end == "kept":
        survives[len(kept) :] = True
    return damaged, ~survives


def _exchange(row: Floats, sizes: TestSizes, rng: np.random.Generator) -> tuple[Floats, Bools]:
    """Exchange the (different) scores of two tasks; nothing is destroyed."""
    damaged = row.copy()
    while True:
        first, second = rng.choice(len(row), size=2, replace=False)
        if row[first] != row[second]:
            damaged[[first, second]] = row[[second, first]]
            return damaged, np.zeros(len(row), dtype=bool)


def _other_split(row: Floats, sizes: TestSizes, rng: np.random.Generator) -> tuple[Floats, Bools]:
    """Score 1 to 5 tasks on a test set of another size, so that the score is no k/n."""
    damaged, gone = row.copy(), np.zeros(len(row), dtype=bool)
    able = np.flatnonzero((sizes.n >= 20) & informative(row))
    for column in rng.choice(able, size=min(len(able), int(rng.integers(1, MOST_DROPPED + 1))), replace=False):
        size = int(sizes.n[column])
        for _ in range(100):
            other = int(rng.integers(size // 2, 2 * size))
            value = round(row[column] * other) / other
            if 0 < value < 1 and not on_lattice(np.array(value), size, resolution=sizes.resolution):
                damaged[column], gone[column] = value, True
                break
    return damaged, gone
