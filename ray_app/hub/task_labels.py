"""Labels of a data set as numbers: mapped by name, never by position alone, with every fault named."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ray_app.hub.tasks import TaskConfig
from tracking.errors import TaskDataError

UNLABELLED = -1
"""Class id by which the hub marks a row without a label."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels of one table."""

    values: NDArray[np.int64] | NDArray[np.float64]
    """(n_rows,) class ids in the order of the task's label names, or the numbers; anything where not labelled."""
    labelled: NDArray[np.bool_]
    """(n_rows,) False where the row has no label (null, or -1)."""


def read_labels(table: pa.Table, *, config: TaskConfig, where: str) -> Labels:
    """The task's labels of a table that has its label column.

    The names come from the first of: strings in the column; the ClassLabel that ``datasets`` wrote into the schema's
    metadata; the words False and True for a Boolean column. Where the file says nothing (plain integers, or a ClassLabel
    whose names are just numbers), the order of ``label_names`` is the order of the ids.

    Args:
        table: rows as the file has them, with the schema's metadata.
        config: the task.
        where: the words by which an error names the table ("task cola, split train").

    Raises:
        TaskDataError: a class that is unknown or out of range, a fraction as class, a number that is text, NaN or infinite.
    """
    column = table.column(config.label_column)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if config.is_regression:
        return _read_numbers(column, config=config, where=where)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _from_strings(column, config=config, where=where)
    return _from_ids(column, _names_of_ids(table.schema, column.type, config), config=config, where=where)


def class_label_names(schema: pa.Schema, column: str) -> list[str] | None:
    """Names of a ClassLabel column as ``datasets`` writes them into the schema's metadata; None where it says nothing.

    Source: ``datasets``, arrow_dataset / Features.arrow_schema: key 'huggingface', JSON, info.features.<column>.names.
    """
    stored = (schema.metadata or {}).get(b"huggingface")
    if stored is None:
        return None
    try:
        feature = json.loads(stored)["info"]["features"][column]
        return [str(name) for name in feature["names"]] if feature["_type"] == "ClassLabel" else None
    except (ValueError, KeyError, TypeError):
        return None


def _names_of_ids(schema: pa.Schema, kind: pa.DataType, config: TaskConfig) -> list[str]:
    """Name of each integer id in the file; the task's own names where the file says nothing."""
    ours = config.label_names
    names = class_label_names(schema, config.label_column)
    if names is None and pa.types.is_boolean(kind) and {"False", "True"} <= set(ours):
        names = ["False", "True"]
    if not names or (all(name.isdigit() for name in names) and not set(names) & set(ours)):
        return list(ours)
    return names


def _from_strings(column: pa.ChunkedArray, *, config: TaskConfig, where: str) -> Labels:
    found = pc.index_in(column, value_set=pa.array(config.label_names, pa.string()).cast(column.type))
    labelled = _not_null(column)
    unknown = labelled & ~_not_null(found)
    if unknown.any():
        raise _unknown_name(column.filter(pa.array(unknown))[0].as_py(), int(unknown.sum()), config=config, where=where)
    return Labels(values=_integers(found), labelled=labelled)


def _from_ids(column: pa.ChunkedArray, names: list[str], *, config: TaskConfig, where: str) -> Labels:
    labelled = _not_null(column)
    ids = _integers(_whole(column, config=config, where=where))
    labelled &= ids != UNLABELLED
    outside = labelled & ((ids < 0) | (ids >= len(names)))
    if outside.any():
        raise TaskDataError(
            f"{where}: label {ids[outside][0]} ({_rows(outside)}) is out of range; expected 0 to {len(names) - 1} "
            f"for {_listed(names)}, or {UNLABELLED} for a row without a label; check label_names and label_column",
            task=config.name,
        )
    ours = np.array(
        [config.label_names.index(name) if name in config.label_names else -1 for name in names], dtype=np.int64
    )
    values = np.where(labelled, ours[np.where(labelled, ids, 0)], UNLABELLED)
    unknown = labelled & (values == -1)
    if unknown.any():
        raise _unknown_name(names[ids[unknown][0]], int(unknown.sum()), config=config, where=where)
    return Labels(values=values, labelled=labelled)


def _whole(column: pa.ChunkedArray, *, config: TaskConfig, where: str) -> pa.ChunkedArray:
    """The column as int64; floating point is taken where every number is whole (pandas writes ids beside gaps so)."""
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return column.cast(pa.int64())
    if not pa.types.is_floating(kind):
        raise _wrong_type(column, "class names or class ids", config=config, where=where)
    numbers = _floats(column)
    broken = _not_null(column) & ~(np.isfinite(numbers) & (numbers == np.floor(numbers)))
    if broken.any():
        raise TaskDataError(
            f"{where}: label {numbers[broken][0]} ({_rows(broken)}) in column {config.label_column!r} is no class id; "
            "expected whole numbers; repair the data, or set metric: spearman for a regression task",
            task=config.name,
        )
    return column.cast(pa.int64())


def _read_numbers(column: pa.ChunkedArray, *, config: TaskConfig, where: str) -> Labels:
    kind = column.type
    if pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
        raise _wrong_type(column, "numbers, for this is a regression task", config=config, where=where)
    numbers = _floats(column)
    labelled = _not_null(column)
    broken = labelled & ~np.isfinite(numbers)
    if broken.any():
        raise TaskDataError(
            f"{where}: {_rows(broken)} of column {config.label_column!r} hold {numbers[broken][0]}; "
            "expected finite numbers; repair or remove those rows",
            task=config.name,
        )
    if labelled.any() and bool((numbers[labelled] == UNLABELLED).all()):
        labelled = np.zeros(len(numbers), dtype=bool)
    return Labels(values=numbers, labelled=labelled)


def _unknown_name(name: str, n_rows: int, *, config: TaskConfig, where: str) -> TaskDataError:
    return TaskDataError(
        f"{where}: label {name!r} ({n_rows} {'row' if n_rows == 1 else 'rows'}) is not among the label names "
        f"{_listed(config.label_names)}; add it to label_names of conf/task/{config.name}.yaml, or repair the data",
        task=config.name,
        label=name,
    )


def _wrong_type(column: pa.ChunkedArray, expected: str, *, config: TaskConfig, where: str) -> TaskDataError:
    first = next((value.as_py() for value in column if value.is_valid), None)
    return TaskDataError(
        f"{where}: column {config.label_column!r} has type {column.type} (first value {first!r}); expected {expected}; "
        "check label_column, or convert the column",
        task=config.name,
    )


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.asarray(pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy(), dtype=np.float64)


def _integers(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.asarray(pc.fill_null(column.cast(pa.int64()), UNLABELLED).to_numpy(), dtype=np.int64)


def _not_null(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """(n_rows,) True where there is a value. NaN is a value: it is a fault and not a gap."""
    return np.array(pc.is_valid(column).to_numpy(), dtype=bool)


def _rows(which: NDArray[np.bool_]) -> str:
    n_rows = int(which.sum())
    return f"{n_rows} {'row' if n_rows == 1 else 'rows'}"


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return shown if len(names) <= 8 else f"{shown}, ... ({len(names)} in all)"
