"""From one MLflow run to rows of the result table, every value of its column's type."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa

from tracking.cells import digest
from tracking.schema import CELL_COLUMNS, SCORED_STATES, Column, Kind, Method, Metric, Param, State, Tag

_END = next(column for column in CELL_COLUMNS if column.name == "end_time_ms")
_SCORE = next(column for column in CELL_COLUMNS if column.name == "score")
_LARGEST = 2**62
"""Beyond any count, time or seed; within 64 bits."""


def cells_of_run(run: Any, faults: list[str]) -> list[dict[str, Any]]:
    """Table rows of one MLflow run: one for a cell, one a task for a published model, none for summaries.

    Args:
        run: in the shape of MLflow's own.
        faults: a run that cannot be a row is left out and named here.
    """
    tags = run.data.tags
    if tags.get(Tag.COMPLETE) != "true" or run.info.end_time is None:
        return []
    kind = tags.get(Tag.KIND)
    try:
        if kind == Kind.CELL:
            return _checked([_own_row(run)], run, faults)
        if kind == Kind.PUBLISHED:
            return _checked(_published_rows(run), run, faults)
    except ValueError as error:
        faults.append(f"run {run.info.run_id} left out: {error}")
    return []


def _checked(rows: list[dict[str, Any]], run: Any, faults: list[str]) -> list[dict[str, Any]]:
    good = []
    for row in rows:
        missing = [column.name for column in CELL_COLUMNS if column.required and row.get(column.name) is None]
        if row.get("score") is None and row.get("state") in SCORED_STATES:
            missing.append("score")
        if missing:
            faults.append(f"run {run.info.run_id} left out: it lacks {', '.join(missing)}")
        else:
            good.append(row)
    return good


def _own_row(run: Any) -> dict[str, Any]:
    sources = {"param": run.data.params, "metric": run.data.metrics, "tag": run.data.tags}
    row: dict[str, Any] = {"run_id": run.info.run_id, "end_time_ms": _typed(run.info.end_time, _END)}
    for column in CELL_COLUMNS:
        place, _, name = column.source.partition(" ")
        if place in sources:
            row[column.name] = _typed(sources[place].get(name), column)
    return row


def _typed(value: Any, column: Column) -> Any:
    """The value as its column has it.

    Raises:
        ValueError: it cannot be.
    """
    if value in (None, "", "None"):
        return None
    if not pa.types.is_integer(column.type) and not pa.types.is_floating(column.type):
        return str(value)
    number = _number(value, column.name)
    if math.isnan(number):
        return None
    if math.isinf(number):
        raise ValueError(f"its {column.name} is {number}, expected a finite number")
    if not pa.types.is_integer(column.type):
        return number
    if not -_LARGEST <= number <= _LARGEST or number != int(number):
        raise ValueError(f"its {column.name} is {str(value)[:40]!r}, expected a whole number")
    return int(number)


def _number(value: Any, name: str) -> float:
    """A double, also where MLflow holds a text."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"its {name} is {str(value)[:40]!r}, expected a number") from error


def _published_rows(run: Any) -> list[dict[str, Any]]:
    shared = _own_row(run)
    shared |= {
        "kind": str(Kind.PUBLISHED),
        "state": str(State.COMPLETE),
        "role": "target",
        "attempt": run.info.run_id[:8],
    }
    # only repetitions of the pretrained model have seeds
    shared["baseline"] = None if shared.get(Param.SEED) is None else "true"
    rows = []
    for name, value in run.data.metrics.items():
        if name.startswith(Metric.TASK_SCORE):
            task, method = name.removeprefix(Metric.TASK_SCORE), Method.FINETUNE
        elif name == Metric.PROBE_MNLI:
            task, method = "mnli", Method.PROBE
        else:
            continue
        identity = [
            shared.get(Param.ARCH),
            shared.get(Param.BASE_MODEL),
            task,
            str(method),
            shared.get(Tag.KEY),
            run.info.run_id,
        ]
        rows.append(
            {
                **shared,
                Param.TASK: task,
                Param.METHOD: str(method),
                "score": _typed(value, _SCORE),
                "key": digest(identity),
                Param.METRIC: "spearman" if task == "stsb" else "accuracy",
                Param.SETTINGS: digest(["published", str(method)]),
            }
        )
    return rows
