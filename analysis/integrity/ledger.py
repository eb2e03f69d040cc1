"""The book in which the checks of the integrity gate write their verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.integrity.counts import Bools, Floats, TestSizes

OK, REPAIRED, QUARANTINED = "ok", "repaired", "quarantined"
LOST, MISSING = "lost", "missing"


@dataclass(frozen=True, kw_only=True)
class RowAudit:
    """Verdict per row and per cell; rows are base models in the order given, columns tasks."""

    names: tuple[str, ...]
    """Base model of each row."""
    tasks: tuple[str, ...]
    """Task of each column."""
    status: tuple[str, ...]
    """'ok', 'repaired' (values put back under their names, some tasks lost) or 'quarantined' (set aside)."""
    kind: tuple[str, ...]
    """Cause in one word: intact, untested, shifted, exchanged, other_split, counts, level, out_of_range, percent,
    duplicate, conflict, identical, recipe, collapsed, partial or unnamed."""
    reason: tuple[str, ...]
    """One sentence; empty for an intact row."""
    evidence: tuple[str, ...]
    """What the verdict rests on, and further doubts about the same row."""
    lost_tasks: tuple[tuple[str, ...], ...]
    """Tasks of a tested row whose score is overwritten, missing or doubtful; empty where the whole row is set aside."""
    scores: Floats
    """(n_rows, n_tasks) trusted scores under their right names; NaN where lost, missing or quarantined."""
    cell_status: NDArray[np.str_]
    """(n_rows, n_tasks) 'ok', 'repaired' (moved here), 'quarantined', 'lost' (overwritten) or 'missing' (never there)."""
    collapsed: Bools
    """(n_rows, n_tasks) the score is that of a constant prediction; a remark, not a verdict, on a single cell."""
    probe_status: tuple[str, ...]
    """'ok', 'missing' or 'quarantined' (0 or outside [0, 1]) for the probe score of each row."""

    @property
    def coverage(self) -> Floats:
        """(n_rows,) share of tasks with a trusted score, in [0, 1]."""
        return np.isfinite(self.scores).mean(axis=1)

    def usable(self, *, min_coverage: float = 1.0) -> Bools:
        """(n_rows,) rows that may enter a ranking: not quarantined, tested, and covering enough tasks."""
        kept = np.array([status != QUARANTINED for status in self.status], dtype=bool)
        covered = self.coverage
        return kept & (covered > 0) & (covered >= min_coverage)


class Ledger:
    """Verdicts in the making; the first verdict on a row stands, later ones are added to its evidence."""

    def __init__(self, names: Sequence[str], scores: Floats, test_sizes: TestSizes) -> None:
        self.names = tuple(str(name) for name in names)
        self.raw = scores
        self.sizes = test_sizes
        self.tested: Bools = np.asarray(~np.isnan(scores).all(axis=1))
        self.scores = scores.copy()
        self.cells = np.where(np.isnan(scores), MISSING, OK).astype("<U11")
        self.collapsed = np.zeros(scores.shape, dtype=bool)
        n_rows = len(self.names)
        self.whole = np.zeros(n_rows, dtype=bool)
        self.status, self.kind = [OK] * n_rows, ["intact"] * n_rows
        self.reason: list[str] = [""] * n_rows
        self.evidence: list[list[str]] = [[] for _ in range(n_rows)]

    def rule(self, row: int, *, kind: str, reason: str, evidence: str = "", status: str = QUARANTINED) -> None:
        """Write a verdict on a row."""
        if self.kind[row] == "intact":
            self.status[row], self.kind[row], self.reason[row] = status, kind, reason
        else:
            self.evidence[row].append(f"also: {reason}")
            if status == QUARANTINED:
                self.status[row] = QUARANTINED
        if evidence:
            self.evidence[row].append(evidence)

    def set_aside(self, row: int, columns: Bools | None = None) -> None:
        """Quarantine the cells of a row (all that hold a value, or those given)."""
        held = np.isin(self.cells[row], (OK, REPAIRED))
        chosen = held if columns is None else held & columns
        self.whole[row] |= columns is None
        self.cells[row, chosen] = QUARANTINED
        self.scores[row, chosen] = np.nan

    def open_rows(self) -> Bools:
        """(n_rows,) tested rows without a verdict so far."""
        return self.tested & np.array([kind == "intact" for kind in self.kind], dtype=bool)

    def close(self, probe_status: Sequence[str]) -> RowAudit:
        """The verdicts as they are handed out."""
        tasks = self.sizes.tasks
        lost = [self._lost(row) for row in range(len(self.names))]
        return RowAudit(
            names=self.names,
            tasks=tasks,
            status=tuple(self.status),
            kind=tuple(self.kind),
            reason=tuple(self.reason),
            evidence=tuple("; ".join(lines) for lines in self.evidence),
            lost_tasks=tuple(lost),
            scores=self.scores,
            cell_status=self.cells,
            collapsed=self.collapsed,
            probe_status=tuple(probe_status),
        )

    def _lost(self, row: int) -> tuple[str, ...]:
        if not self.tested[row]:
            return ()
        gone = (LOST, MISSING) if self.whole[row] else (LOST, MISSING, QUARANTINED)
        return tuple(task for task, cell in zip(self.sizes.tasks, self.cells[row], strict=True) if cell in gone)
