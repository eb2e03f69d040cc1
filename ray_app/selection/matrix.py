"""The performance matrix from cells: planned keys looked up in the result table, and as files of the published format."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.selection.performance import PerformanceMatrix
from ray_app.sweeps.plan import PlannedCell
from tracking.table import scored_cells


@dataclass(frozen=True, kw_only=True)
class RecordedCell:
    """A cell that is complete."""

    score: float
    """On the test set, a fraction."""
    curve: tuple[float, ...]
    """Validation scores at stages 1, 2, ..."""
    n_test: int


def recorded_cells(cells: Iterable[PlannedCell], table: pa.Table) -> dict[str, RecordedCell]:
    """Key -> what is recorded, for those of the planned cells that are complete."""
    keys = pa.array([cell.key for cell in cells], pa.string())
    found = scored_cells(table.filter(pc.is_in(table["key"], keys)))
    columns = (found[name].to_pylist() for name in ("key", "score", "curve", "n_eval"))
    return {
        key: RecordedCell(
            score=float(score), curve=tuple(float(value) for _, value in json.loads(curve or "[]")), n_test=n or 0
        )
        for key, score, curve, n in zip(*columns, strict=True)
    }


def matrix_of(cells: Iterable[PlannedCell], table: pa.Table, *, n_stages: int) -> PerformanceMatrix:
    """Matrix of the planned target cells; the mean over seeds where all of them are complete, NaN where one is missing.

    Args:
        cells: a plan; source cells are left aside.
        table: result table.
        n_stages: stages that the cells were planned with; a curve that ended early (a divergence) is NaN from there on.
    """
    targets = [cell for cell in cells if cell.role == "target"]
    recorded = recorded_cells(targets, table)
    by_place: dict[tuple[str, str], list[str]] = defaultdict(list)
    for cell in targets:
        by_place[cell.identity.base_model, cell.identity.task].append(cell.key)
    bases = list(dict.fromkeys(base for base, _ in by_place))
    tasks = list(dict.fromkeys(task for _, task in by_place))
    test = np.full((len(bases), len(tasks)), np.nan)
    validation = np.full((len(bases), len(tasks), n_stages), np.nan)
    for (base, task), keys in by_place.items():
        if all(key in recorded for key in keys):
            place = bases.index(base), tasks.index(task)
            test[place] = np.mean([recorded[key].score for key in keys])
            validation[place] = np.mean([_padded(recorded[key].curve, n_stages) for key in keys], axis=0)
    return PerformanceMatrix(base_models=tuple(bases), tasks=tuple(tasks), test=test, validation=validation)


def _padded(curve: Sequence[float], n_stages: int) -> list[float]:
    return [*curve[:n_stages], *[float("nan")] * (n_stages - len(curve))]


def measured_part(matrix: PerformanceMatrix) -> PerformanceMatrix:
    """Base models and tasks with at least one cell."""
    known = np.isfinite(matrix.test)
    bases = [name for name, row in zip(matrix.base_models, known, strict=True) if row.any()]
    tasks = [name for name, column in zip(matrix.tasks, known.T, strict=True) if column.any()]
    return matrix.select(base_models=bases, tasks=tasks)


def missing_cells(matrix: PerformanceMatrix) -> list[tuple[str, str]]:
    """(base model, task) without a score."""
    gaps = np.argwhere(~np.isfinite(matrix.test))
    return [(matrix.base_models[row], matrix.tasks[column]) for row, column in gaps]
