"""Cells as they were recorded, before the gate, by base model and task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tracking.schema import Method
from tracking.table import scored_cells


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What stands in the result table for the base models under test."""

    names: frozenset[str]
    """All of them, also those with failed cells or a probe only."""
    scores: Mapping[tuple[str, str], Sequence[float]]
    """(base model, task) -> fractions, in the order of their end."""
    runs: Mapping[tuple[str, str], Sequence[str]]
    """(base model, task) -> MLflow runs of these scores."""
    all_runs: Mapping[str, Sequence[str]]
    """Base model -> every MLflow run of its scores and probes, each once."""
    probe: Mapping[str, float]
    """Base model -> linear-probe score on MNLI, a fraction; of several the one that ended last."""


def read_recorded(table: pa.Table, *, settings: str) -> Recorded:
    """Gather the cells of one settings hash; the baseline and cells that only serve to make base models are left out.

    Args:
        table: the whole result table of an architecture.
        settings: hash of the settings that are compared.
    """
    own = table.filter(_under_test(table))
    cells = scored_cells(own)
    finetuned = pc.and_(pc.equal(cells["method"], str(Method.FINETUNE)), pc.equal(cells["settings"], settings))
    probed = pc.and_(pc.equal(cells["method"], str(Method.PROBE)), pc.equal(cells["task"], "mnli"))
    scores, runs = defaultdict(list), defaultdict(list)
    all_runs: dict[str, dict[str, None]] = defaultdict(dict)
    for name, task, score, run in _rows(cells.filter(finetuned), "base_model", "task", "score", "run_id"):
        scores[name, task].append(score)
        runs[name, task].append(run)
        all_runs[name][run] = None
    probe = {}
    for name, score, run in _rows(cells.filter(probed), "base_model", "score", "run_id"):
        probe[name] = score
        all_runs[name][run] = None
    return Recorded(
        names=frozenset(own["base_model"].to_pylist()),
        scores=scores,
        runs=runs,
        all_runs={name: tuple(ids) for name, ids in all_runs.items()},
        probe=probe,
    )


def _under_test(table: pa.Table) -> pa.ChunkedArray:
    baseline = pc.fill_null(pc.equal(table["baseline"], "true"), False)
    other = pc.is_in(table["role"], pa.array(["source", "held_out"]))  # makes a base model, or decided what became of one
    return pc.invert(pc.or_(baseline, other))


def _rows(table: pa.Table, *columns: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(table[name].to_pylist() for name in columns), strict=True)
