"""Cells gathered to the rows that the integrity gate judges, and what cells tell about tasks and probes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """What one audited row was made of."""

    base_model: str
    seed: int | None
    """Seed of an own row; None for a published one, which does not tell."""
    source_row: int | None
    """Line of the published file; None for own runs."""
    run_ids: tuple[str, ...]
    """MLflow runs behind it."""


@dataclass(frozen=True, kw_only=True)
class CellRows:
    """Cells gathered to rows; arrays are (n_rows, n_tasks), NaN where there is no cell."""

    names: list[str]
    """Base model of each row."""
    rows: list[SourceRow]
    """What each row was made of."""
    scores: FloatArray
    """Fractions."""
    n_correct: FloatArray
    """Right answers, where logged."""
    n_eval: FloatArray
    """Test rows, where logged."""

    @property
    def labels(self) -> list[str]:
        """Names for the gate: two seeds of one base model are no duplicates."""
        seeds = [row.seed for row in self.rows]
        return [name if seed is None else f"{name} (seed {seed})" for name, seed in zip(self.names, seeds, strict=True)]

    def probe(self, score_of: dict[str, float]) -> FloatArray:
        """(n_rows,) probe score of each row's run, else of its base model; NaN where there is none."""
        pairs = zip(self.names, self.rows, strict=True)
        return np.array([score_of.get(row.run_ids[0], score_of.get(name, np.nan)) for name, row in pairs])


def gather_rows(cells: pa.Table, tasks: Sequence[str]) -> CellRows:
    """One row per published run, or per (base model, seed) of own cells; of several cells the one that ended last counts."""
    column = {task: index for index, task in enumerate(tasks)}
    wanted = ("kind", "run_id", "base_model", "seed", "source_row", "task", "score", "n_correct", "n_eval")
    row_of: dict[tuple[Any, ...], int] = {}
    facts: list[tuple[str, int | None, int | None]] = []
    runs: list[list[str]] = []
    values: list[tuple[int, int, float, float, float]] = []
    for kind, run, base, seed, line, task, score, right, total in zip(
        *(cells[n].to_pylist() for n in wanted), strict=True
    ):
        key = (run,) if kind == "published" else (base, seed)
        if key not in row_of:
            row_of[key] = len(row_of)
            facts.append((base, seed, line))
            runs.append([])
        row = row_of[key]
        runs[row].append(run)
        values.append((row, column[task], score, _number(right), _number(total)))
    arrays = [np.full((len(facts), len(tasks)), np.nan) for _ in range(3)]
    for row, place, *numbers in values:
        for array, number in zip(arrays, numbers, strict=True):
            array[row, place] = number
    rows = [
        SourceRow(base_model=base, seed=seed, source_row=line, run_ids=tuple(dict.fromkeys(ids)))
        for (base, seed, line), ids in zip(facts, runs, strict=True)
    ]
    return CellRows(names=[f[0] for f in facts], rows=rows, scores=arrays[0], n_correct=arrays[1], n_eval=arrays[2])


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def stated_sizes(cells: pa.Table) -> dict[str, int]:
    """Test sizes that own runs logged, accuracy tasks only."""
    logged = cells.filter(pc.and_(pc.is_valid(cells["n_eval"]), pc.is_valid(cells["n_correct"])))
    return {task: int(n) for task, n in zip(logged["task"].to_pylist(), logged["n_eval"].to_pylist(), strict=True)}


def class_counts(cells: pa.Table) -> dict[str, list[int]] | None:
    """True class counts of the test sets that own runs logged."""
    logged = cells.filter(pc.is_valid(cells["class_counts"]))
    found: dict[str, list[int]] = {}
    for task, text in zip(logged["task"].to_pylist(), logged["class_counts"].to_pylist(), strict=True):
        if task not in found:
            counts = [int(triple[0]) for triple in json.loads(text).values()]
            if counts:
                found[task] = counts
    return found or None


def probe_scores(probes: pa.Table | None) -> dict[str, float]:
    """Probe score by run id, and by base model the mean over its seeds (own probe runs are runs of their own)."""
    if probes is None:
        return {}
    columns = [probes[name].to_pylist() for name in ("run_id", "base_model", "score")]
    found: dict[str, list[float]] = {}
    for run, base, score in zip(*columns, strict=True):
        found.setdefault(base, []).append(score)
        found.setdefault(run, []).append(score)
    return {key: float(np.mean(scores)) for key, scores in found.items()}
