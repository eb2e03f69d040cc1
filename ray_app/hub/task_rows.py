"""One role's rows as one table: the text columns as strings, then 'label', whatever the files called and typed them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_app.hub.task_labels import read_labels
from ray_app.hub.tasks import TaskConfig
from tracking.errors import TaskDataError

LABEL = "label"
"""Name of the label column once read."""

RawSplit: TypeAlias = Path | pa.Table | Sequence[Path]
"""One hub split: a Parquet file, several of them, or a table."""


@dataclass(frozen=True, kw_only=True)
class RoleRows:
    """Labelled rows of one role, before any cutting, and what reading them did."""

    table: pa.Table
    """Text columns (string, no nulls), then 'label' (int64 class ids, or float64 numbers)."""
    rows_read: int
    """Rows in the files."""
    rows_unlabelled: int
    """Rows dropped because they have no label."""
    null_texts: int
    """Text fields that were null and are empty now, among the rows kept."""


def read_role(config: TaskConfig, role: str, parts: Sequence[RawSplit]) -> RoleRows:
    """The labelled rows of a role, joined from its hub splits; each part's labels are mapped by that part's own names.

    Raises:
        TaskDataError: unreadable file, missing column, no rows at all, or as ``read_labels``.
    """
    where = f"task {config.name}, split {role}"
    read = [_read_part(config, table, where) for part in parts for table in _tables(config, part, where)]
    if len({tuple(rows.table.column_names) for rows in read}) > 1:
        raise TaskDataError(
            f"{where}: its files differ in their text columns; expected the same in all of them", task=config.name
        )
    rows_read = sum(rows.rows_read for rows in read)
    if rows_read == 0:
        raise TaskDataError(
            f"{where}: it has no rows; expected at least one; repair the file, or leave the split out so that the split "
            "rule makes it",
            task=config.name,
        )
    return RoleRows(
        table=pa.concat_tables([rows.table for rows in read]),
        rows_read=rows_read,
        rows_unlabelled=sum(rows.rows_unlabelled for rows in read),
        null_texts=sum(rows.null_texts for rows in read),
    )


def unreadable(config: TaskConfig, path: Path, error: Exception) -> TaskDataError:
    """The error for a file that cannot be read as Parquet."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return TaskDataError(
        f"task {config.name}: {path} cannot be read as Parquet ({reason}); fetch or write the file again",
        task=config.name,
        path=str(path),
    )


def _tables(config: TaskConfig, part: RawSplit, where: str) -> list[pa.Table]:
    """The tables of one hub split, with the needed columns at least."""
    if isinstance(part, pa.Table):
        _check_columns(config, part.column_names, where)
        return [part]
    paths = [part] if isinstance(part, Path) else list(part)
    return [_read_file(config, path, where) for path in paths]


def _read_file(config: TaskConfig, path: Path, where: str) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            needed = _check_columns(config, file.schema_arrow.names, where)
            return file.read(columns=needed)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(config, path, error) from error


def _check_columns(config: TaskConfig, present: Sequence[str], where: str) -> list[str]:
    """The columns to be read: the text columns, or all of the fallback ones, and the label column."""
    options = [config.text_columns, config.text_columns_fallback]
    texts = next((names for names in options if names and set(names) <= set(present)), None)
    if texts is not None and config.label_column in present:
        return [*texts, config.label_column]
    missing = [name for name in [*config.text_columns, config.label_column] if name not in present]
    raise TaskDataError(
        f"{where}: no column {', '.join(map(repr, missing))}; the columns are {', '.join(map(repr, present))}; "
        f"set text_columns and label_column in conf/task/{config.name}.yaml, or repair the data",
        task=config.name,
        missing=missing,
    )


def _read_part(config: TaskConfig, table: pa.Table, where: str) -> RoleRows:
    *texts, label = _check_columns(config, table.column_names, where)
    labels = read_labels(table.select([label]), config=config, where=where)
    kept = pa.array(labels.labelled)
    columns = [_text(table.column(name).filter(kept), name, where, config) for name in texts]
    values = pa.array(labels.values[labels.labelled])
    return RoleRows(
        table=pa.table([*(column for column, _ in columns), values], names=[*texts, LABEL]),
        rows_read=table.num_rows,
        rows_unlabelled=table.num_rows - len(values),
        null_texts=sum(n_null for _, n_null in columns),
    )


def _text(column: pa.ChunkedArray, name: str, where: str, config: TaskConfig) -> tuple[pa.ChunkedArray, int]:
    """The column as strings without nulls, and how many were null."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        joined = [
            None if texts is None else " ".join(str(text) for text in texts if text is not None)
            for texts in column.to_pylist()
        ]
        column = pa.chunked_array([pa.array(joined, pa.string())])
    elif not _is_plain(kind):
        raise TaskDataError(
            f"{where}: column {name!r} has type {kind}; expected text, numbers or lists of them; check text_columns",
            task=config.name,
        )
    return pc.fill_null(column.cast(pa.string()), ""), column.null_count


def _is_plain(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating)
    return any(test(kind) for test in (*tests, pa.types.is_boolean, pa.types.is_null))
