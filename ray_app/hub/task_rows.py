"""One role's rows as one table: the text columns as strings, or the images, then 'label', whatever the files called them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ray_app.hub.task_labels import read_labels
from ray_app.hub.tasks import TaskConfig
from tracking.errors import TaskDataError

IMAGE = pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])
"""An image as ``datasets`` stores it: the bytes of its file, and a name to tell it by."""
LABEL = "label"
"""Name of the label column once read."""

RawSplit: TypeAlias = Path | pa.Table | Sequence[Path]
"""One hub split: a Parquet file, several of them, or a table."""


@dataclass(frozen=True, kw_only=True)
class RoleRows:
    """Labelled rows of one role, before any cutting, and what reading them did."""

    table: pa.Table
    """Text columns (string, no nulls) or the image column (`IMAGE`, no nulls), then 'label' (int64 class ids, or float64)."""
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
            f"{where}: its files differ in their columns; expected the same in all of them", task=config.name
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


def row_ids(tables: Mapping[str, pa.Table]) -> dict[str, NDArray[np.int64]]:
    """Per split, (n_rows,) numbers that are equal for rows whose text fields (or image files) are equal, within and between
    splits."""
    joined = []
    for table in tables.values():
        texts = [_as_text(column) for column in table.drop_columns([LABEL]).columns]
        joined += pc.binary_join_element_wise(*texts, pa.scalar("\x1f", pa.large_string())).chunks
    ids = (
        pa.chunked_array(joined, pa.large_string())
        .combine_chunks()
        .dictionary_encode()
        .indices.to_numpy()
        .astype(np.int64)
    )
    ends = np.cumsum([table.num_rows for table in tables.values()])
    return dict(zip(tables, np.split(ids, ends[:-1]), strict=True))


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as text to compare rows by: itself, or the digests of its images' bytes."""
    if column.type != IMAGE:
        return column.cast(pa.large_string())
    digests = [hashlib.sha256(image.as_buffer()).hexdigest() for image in pc.struct_field(column, "bytes")]
    return pa.chunked_array([pa.array(digests, pa.large_string())])


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
    """The columns to be read: those of the first choice that is there, and the label column."""
    choices = config.column_choices
    inputs = next((names for names in choices if set(names) <= set(present)), None)
    label = label_column(config, present)
    if inputs is not None and label in present:
        return [*inputs, label]
    missing = [name for name in [*(inputs or choices[0]), label] if name not in present]
    raise TaskDataError(
        f"{where}: no column {', '.join(map(repr, missing))}; the columns are {', '.join(map(repr, present))}; "
        f"set {'image_columns' if config.is_image else 'text_columns'} and label_column in conf/task/{config.name}.yaml, or "
        "repair the data",
        task=config.name,
        missing=missing,
    )


def label_column(config: TaskConfig, present: Collection[str]) -> str:
    """The column of the labels; its fallback where only that is there."""
    fallback = config.label_column_fallback
    if fallback is not None and fallback in present and config.label_column not in present:
        return fallback
    return config.label_column


def _read_part(config: TaskConfig, table: pa.Table, where: str) -> RoleRows:
    *texts, label = _check_columns(config, table.column_names, where)
    labels = read_labels(table.select([label]), config=replace(config, label_column=label), where=where)
    kept = pa.array(labels.labelled)
    read = _image if config.is_image else _text
    columns = [read(table.column(name).filter(kept), name, where, config) for name in texts]
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


def _image(column: pa.ChunkedArray, name: str, where: str, config: TaskConfig) -> tuple[pa.ChunkedArray, int]:
    """The column as `IMAGE`, whether it holds bytes or the struct of ``datasets``; a row without bytes is an error."""
    kind = column.type
    content, names = column, None
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        content = pc.struct_field(column, "bytes")
        names = pc.struct_field(column, "path") if kind.get_field_index("path") >= 0 else None
    if not (pa.types.is_binary(content.type) or pa.types.is_large_binary(content.type)):
        raise TaskDataError(
            f"{where}: column {name!r} has type {kind}; expected encoded images, as bytes or as datasets' struct of bytes and "
            "path; check image_columns, or write the files' bytes into the column",
            task=config.name,
        )
    if content.null_count:
        row = int(pc.index(pc.is_null(content), True).as_py())
        path = names[row].as_py() if names is not None else None
        raise TaskDataError(
            f"{where}: {content.null_count} of {len(content)} images have no bytes (the first is labelled row {row}"
            f"{f', which has only the path {path!r}' if path else ''}); write the files' bytes into the column",
            task=config.name,
        )
    paths = names.chunks if names is not None else [pa.nulls(len(chunk)) for chunk in content.chunks]
    chunks = [
        pa.StructArray.from_arrays([held.cast(pa.large_binary()), path.cast(pa.string())], fields=list(IMAGE))
        for held, path in zip(content.chunks, paths, strict=True)
    ]
    return pa.chunked_array(chunks, IMAGE), 0


def _is_plain(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating)
    return any(test(kind) for test in (*tests, pa.types.is_boolean, pa.types.is_null))
