"""What the result table tells about a base model besides scores: where it came from, its runs, cells that failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from analysis.report.site.content import Failure


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Facts by base model."""

    trained_on: Mapping[str, tuple[str, ...]]
    """Tasks that models made here were finetuned on; a model that is not in it may have been trained on anything."""
    failures: Mapping[str, tuple[Failure, ...]]
    """Cells that have no scored attempt."""
    revisions: Mapping[str, tuple[str, ...]]
    """Revisions of the model that its cells were run on."""
    checkpoints: Mapping[str, str]
    """Folder of models made here, where it was kept."""
    source_runs: Mapping[str, tuple[str, ...]]
    """MLflow runs that made the model."""


def trace_lineage(table: pa.Table, *, pretrained: str) -> Lineage:
    """Read the lineage of base models off the cells.

    A model made here has the key of the cell that made it as its revision: that cell's task is one it was trained on, and that
    cell's own base model is asked in turn, down to the pretrained model. Names tell nothing.

    Args:
        table: the whole result table, failed and source cells included.
        pretrained: name of the pretrained model, which was finetuned on no task.
    """
    columns = ("key", "base_model", "base_revision", "task", "checkpoint", "run_id", "state")
    sources = table.filter(pc.fill_null(pc.equal(table["role"], "source"), False)).select(columns).to_pylist()
    made_by = {row["key"]: row for row in sources if row["state"] != "failed"}
    pairs = zip(table["base_model"].to_pylist(), table["base_revision"].to_pylist(), strict=True)
    revisions: dict[str, dict[str, None]] = {}
    for name, revision in dict.fromkeys(pairs):
        if revision is not None:
            revisions.setdefault(name, {})[revision] = None
    trained: dict[str, tuple[str, ...]] = {}
    checkpoints: dict[str, str] = {}
    runs: dict[str, tuple[str, ...]] = {}
    for name, known in revisions.items():
        makers = [made_by[revision] for revision in known if revision in made_by]
        if not makers or len(makers) < len(known):
            continue
        tasks = [_ancestry(maker, made_by, pretrained=pretrained) for maker in makers]
        if all(tasks):
            trained[name] = tuple(sorted({task for group in tasks for task in group}))
        if makers[-1]["checkpoint"]:
            checkpoints[name] = makers[-1]["checkpoint"]
        runs[name] = tuple(maker["run_id"] for maker in makers)
    return Lineage(
        trained_on=trained,
        failures=_failures(table),
        revisions={name: tuple(known) for name, known in revisions.items()},
        checkpoints=checkpoints,
        source_runs=runs,
    )


def _ancestry(maker: Mapping[str, str], made_by: Mapping[str, Mapping[str, str]], *, pretrained: str) -> list[str]:
    """Tasks of a source cell and of the source cells before it; none where they do not lead to the pretrained model."""
    tasks: list[str] = []
    seen: set[str] = set()
    step: Mapping[str, str] | None = maker
    root = ""
    while step is not None and step["key"] not in seen:
        seen.add(step["key"])
        tasks.append(step["task"])
        root = step["base_model"]
        step = made_by.get(step["base_revision"])
    return tasks if root == pretrained else []


def _failures(table: pa.Table) -> dict[str, tuple[Failure, ...]]:
    failed = pc.equal(table["state"], "failed")
    scored = set(table.filter(pc.invert(failed))["key"].to_pylist())
    last: dict[str, dict[str, object]] = {}
    rows = table.filter(failed).sort_by([("end_time_ms", "ascending"), ("run_id", "ascending")])
    wanted = ["key", "base_model", "task", "seed", "failed_stage", "reason", "run_id", "role"]
    for row in rows.select(wanted).to_pylist():
        if row["key"] not in scored and row["role"] != "source":
            last[row["key"]] = row
    found: dict[str, list[Failure]] = {}
    for row in last.values():
        seed = row["seed"]
        failure = Failure(
            task=str(row["task"]),
            seed=seed if isinstance(seed, int) else None,
            stage=str(row["failed_stage"] or ""),
            reason=str(row["reason"] or ""),
            run=str(row["run_id"]),
        )
        found.setdefault(str(row["base_model"]), []).append(failure)
    return {name: tuple(sorted(cells, key=lambda cell: (cell.task, cell.seed or 0))) for name, cells in found.items()}
