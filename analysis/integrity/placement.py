"""Rows whose values are no k/n of their own tasks: put back where they belong, or set aside."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from analysis.integrity.alignment import (
    Decoding,
    Evidence,
    decode_exchange,
    decode_shift,
    level_exchange,
    weigh_evidence,
)
from analysis.integrity.counts import Bools, Floats, TestSizes, informative, nearest_fraction, on_lattice
from analysis.integrity.ledger import LOST, OK, QUARANTINED, REPAIRED, Ledger

MARGIN_NATS = 7.0
"""A decoding must be this much more probable than the row as it stands (odds of 1,000 to 1)."""
LEVEL_MARGIN_NATS = 9.0
"""The same for an exchange that only the levels show (odds of 8,000 to 1)."""
CERTAIN = 0.95
"""Posterior probability that a placement needs to be trusted."""
STRAY_CELLS = 2
"""Values of another split up to which the rest of the row is kept."""
FEW_ROWS = 5
"""Intact rows that it takes to say what is usual among them."""


def misfits(scores: Floats, test_sizes: TestSizes) -> Bools:
    """Values that cannot be what their column says.

    Either no k/n of the column's test size, or, under a task that is a rank correlation, exactly a k/n of another task
    (only where that is no coincidence: summed over tasks, 2 n r below 1e-3 with r the resolution).

    Args:
        scores: (n_rows, n_tasks) fractions, NaN where missing.
        test_sizes: denominators of the columns.
    """
    telling = informative(scores)
    wrong = telling & ~on_lattice(scores, test_sizes.n, resolution=test_sizes.resolution) & (test_sizes.n > 0)
    if 2 * test_sizes.resolution * test_sizes.n.sum() < 1e-3:
        for column in np.flatnonzero(test_sizes.correlations).tolist():
            values = scores[:, column]
            foreign = on_lattice(values[:, None], test_sizes.n, resolution=test_sizes.resolution).any(axis=1)
            wrong[:, column] = telling[:, column] & foreign & (values != 0.5)
    return np.asarray(wrong)


def usual_levels(scores: Floats, sound: Bools, repetitions: Floats | None) -> tuple[Floats, Floats]:
    """Median and robust spread (1.4826 MAD) of each task among sound rows and among repetitions.

    Args:
        scores: (n_rows, n_tasks).
        sound: (n_rows,) rows without a misfit.
        repetitions: (n_reps, n_tasks) of the pretrained model, or None.
    Returns:
        centers and spreads, (2, n_tasks) each, NaN where fewer than 5 rows or 2 repetitions hold a value.
    """
    n_tasks = scores.shape[1]
    centers, spreads = np.full((2, n_tasks), np.nan), np.full((2, n_tasks), np.nan)
    pools = [(scores[sound], FEW_ROWS), (np.empty((0, n_tasks)) if repetitions is None else repetitions, 2)]
    for which, (pool, least) in enumerate(pools):
        for column in range(n_tasks):
            values = pool[np.isfinite(pool[:, column]), column]
            if len(values) >= least:
                centers[which, column] = np.median(values)
                spreads[which, column] = 1.4826 * np.median(np.abs(values - centers[which, column]))
    return centers, spreads


def check_placement(ledger: Ledger, repetitions: Floats | None) -> None:
    """Verdicts 'shifted', 'exchanged', 'other_split' and 'level' on the rows that have none yet.

    A row with a misfit is decoded as shifted and as exchanged. The more probable decoding is taken if it is 1,000 times as
    probable as the row as it stands and leaves no misfit; else the row was scored on other splits. A row without misfit
    is doubted only if exchanging two tasks would make it 8,000 times as probable by its levels alone.
    """
    wrong = misfits(ledger.raw, ledger.sizes)
    open_rows = ledger.open_rows()
    if not open_rows.any() or not (ledger.sizes.n > 0).any():
        return
    centers, spreads = usual_levels(ledger.raw, open_rows & ~wrong.any(axis=1), repetitions)
    rows = np.flatnonzero(open_rows)
    evidence = weigh_evidence(
        ledger.raw[rows], ledger.sizes.n, centers=centers, spreads=spreads, resolution=ledger.sizes.resolution
    )
    doubted = np.asarray(wrong[rows].any(axis=1))
    if doubted.any():
        _rule_misfits(ledger, rows[doubted], wrong=wrong, evidence=_of(evidence, doubted))
    if not doubted.all():
        _rule_levels(ledger, rows[~doubted], _of(evidence, ~doubted))


def _of(evidence: Evidence, chosen: Bools) -> Evidence:
    return Evidence(log_p=evidence.log_p[chosen], fits=evidence.fits[chosen], repeats=evidence.repeats[chosen])


def _rule_misfits(ledger: Ledger, rows: NDArray[np.int64], *, wrong: Bools, evidence: Evidence) -> None:
    shift, exchange = decode_shift(evidence), decode_exchange(evidence)
    for i, row in enumerate(rows):
        shift_works = _works(ledger, row, task=shift.task[i], margin=shift.margin_nats[i])
        exchange_works = _works(ledger, row, task=exchange.task[i], margin=exchange.margin_nats[i])
        if shift_works and (not exchange_works or shift.margin_nats[i] >= exchange.margin_nats[i]):
            _put_back(ledger, row, decoding=shift, index=i, wrong=wrong[row])
        elif exchange_works:
            _swap_back(ledger, row, decoding=exchange, index=i, wrong=wrong[row])
        else:
            _other_split(ledger, row, wrong[row])


def _works(ledger: Ledger, row: int, *, task: NDArray[np.int64], margin: float) -> bool:
    """Whether a decoding is probable enough and leaves no value where it cannot be."""
    moved = np.full((len(task), len(task)), np.nan)
    moved[np.arange(len(task)), task] = ledger.raw[row]
    return bool(margin >= MARGIN_NATS) and not misfits(moved, ledger.sizes).any()


def _put_back(ledger: Ledger, row: int, *, decoding: Decoding, index: int, wrong: Bools) -> None:
    """Write the decoded values under their names; the value at its own place wins over a differing copy."""
    task, certainty, raw = decoding.task[index], decoding.certainty[index], ledger.raw[row]
    found: dict[int, list[int]] = {}
    for position in np.flatnonzero(np.isfinite(raw)).tolist():
        found.setdefault(int(task[position]), []).append(int(position))
    placed, cells = np.full(len(task), np.nan), np.full(len(task), LOST, dtype=ledger.cells.dtype)
    twice = agree = 0
    for column, positions in found.items():
        source = column if column in positions else positions[0]
        twice += len(positions) > 1
        agree += len(positions) > 1 and len({raw[p] for p in positions}) == 1
        sure = max(certainty[p] for p in positions if raw[p] == raw[source]) >= CERTAIN
        cells[column] = QUARANTINED if not sure else OK if source == column else REPAIRED
        placed[column] = raw[source] if sure else np.nan
    ledger.scores[row], ledger.cells[row] = placed, cells
    held, layers = int(np.isfinite(raw).sum()), 1 + int(np.sum(np.diff(task) <= 0))
    ledger.rule(
        row,
        kind="shifted",
        status=REPAIRED,
        reason=_shift_reason(ledger, row),
        evidence=f"{held - int(wrong.sum())} of {held} scores can be their own task's as they stand, {held} of {held} "
        f"after moving; written in {layers} layers; {agree} of {twice} scores found twice agree; odds of 10^"
        f"{decoding.margin_nats[index] / np.log(10):.0f} to 1",
    )


def _shift_reason(ledger: Ledger, row: int) -> str:
    names, cells = np.asarray(ledger.sizes.tasks), ledger.cells[row]
    lost, unsure, moved = names[cells == LOST], names[cells == QUARANTINED], int((cells == REPAIRED).sum())
    own = "has no score of its own" if len(lost) == 1 else "have no score of their own"
    what = f"{_listed(lost)} {own}: later scores had moved left"
    what += f"; {moved} scores were put back under their tasks" if moved else "; the other scores stood in place"
    return what + (f"; {_listed(unsure)} left out as not certain" if len(unsure) else "")


def _swap_back(ledger: Ledger, row: int, *, decoding: Decoding, index: int, wrong: Bools) -> None:
    task, certainty, raw = decoding.task[index], decoding.certainty[index], ledger.raw[row].copy()
    moved = np.flatnonzero((task != np.arange(len(task))) & np.isfinite(raw))
    ledger.scores[row, moved], ledger.cells[row, moved] = np.nan, LOST
    for position in moved:
        column = task[position]
        sure = certainty[position] >= CERTAIN
        ledger.cells[row, column] = REPAIRED if sure else QUARANTINED
        ledger.scores[row, column] = raw[position] if sure else np.nan
    ledger.rule(
        row,
        kind="exchanged",
        status=REPAIRED,
        reason=f"the scores of {_listed([ledger.sizes.tasks[column] for column in sorted(task[moved])])} were exchanged",
        evidence=f"{int(wrong.sum())} scores cannot be their own task's as published, none after exchanging; odds of 10^"
        f"{decoding.margin_nats[index] / np.log(10):.0f} to 1",
    )


def _other_split(ledger: Ledger, row: int, wrong: Bools) -> None:
    columns = np.flatnonzero(wrong)
    shown = []
    for column in columns[:3]:
        value, size = ledger.raw[row, column], int(ledger.sizes.n[column])
        nearest = nearest_fraction(value)
        expected = f"k/{size}" if size else "a rank correlation"
        shown.append(
            f"{ledger.sizes.tasks[column]} {value:.6g} = {nearest.numerator}/{nearest.denominator}, not {expected}"
        )
    held = int(np.isfinite(ledger.raw[row]).sum())
    ledger.set_aside(row, wrong if len(columns) <= STRAY_CELLS else None)
    ledger.rule(
        row,
        kind="other_split",
        reason=f"{len(columns)} of {held} scores do not belong to their task's test set "
        f"({_listed([ledger.sizes.tasks[column] for column in columns])}): scored on another split or altered",
        evidence="; ".join(shown) + ("; ..." if len(columns) > len(shown) else ""),
    )


def _rule_levels(ledger: Ledger, rows: NDArray[np.int64], evidence: Evidence) -> None:
    pairs, gains = level_exchange(evidence)
    for row, pair, gain in zip(rows, pairs, gains, strict=True):
        if gain < LEVEL_MARGIN_NATS:
            continue
        first, second = (ledger.sizes.tasks[column] for column in pair)
        columns = np.zeros(len(ledger.sizes.tasks), dtype=bool)
        columns[pair] = True
        values = ledger.raw[row, pair]
        ledger.set_aside(row, columns)
        ledger.rule(
            row,
            kind="level",
            reason=f"{first} and {second} look exchanged: each score is usual for the other task only",
            evidence=f"{first} {values[0]:.4f}, {second} {values[1]:.4f}; both can be either task's, so only the level "
            f"tells; odds of 10^{gain / np.log(10):.0f} to 1",
        )


def _listed(tasks: Iterable[str]) -> str:
    names = [str(task) for task in tasks]
    shown = names if len(names) <= 8 else [*names[:7], f"{len(names) - 7} more"]
    return ", ".join(shown[:-1]) + (" and " if len(shown) > 1 else "") + shown[-1] if shown else "no task"
