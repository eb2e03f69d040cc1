"""What commands print with: one console, tables of plain values, and the same values as CSV and Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tracking.delimited import spreadsheet_safe
from tracking.errors import StorageError
from tracking.records import write_atomically
from tracking.table import write_table

PLAIN_WIDTH = 140
"""Columns where there is no terminal (a log, a pipe)."""


def _make_console() -> Console:
    plain = Console(soft_wrap=True, highlight=False)
    return plain if plain.is_terminal else Console(soft_wrap=True, highlight=False, width=PLAIN_WIDTH)


console = _make_console()


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Print a table; the first ``left`` columns are text, the others numbers."""
    table = Table(title=escape(title), title_justify="left", header_style="bold")
    for index, name in enumerate(columns):
        table.add_column(escape(name), justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    """Write a CSV file, whole or not at all."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_csv_cell(value) for value in row] for row in rows)
    write_atomically(path, buffer.getvalue().encode())
    return path


def _csv_cell(value: object) -> object:
    if isinstance(value, str):
        return spreadsheet_safe(value)
    return "" if value is None else value


def write_results(stem: Path, table: pa.Table) -> tuple[Path, Path]:
    """Write ``stem``.csv and ``stem``.parquet."""
    rows = [list(row.values()) for row in table.to_pylist()]
    path = write_csv(stem.with_name(stem.name + ".csv"), table.column_names, rows)
    parquet = stem.with_name(stem.name + ".parquet")
    try:
        write_table(table, parquet)
    except OSError as error:
        raise StorageError(
            f"cannot write {parquet} ({error}); free space or choose OUT=dir", path=str(parquet)
        ) from error
    return path, parquet


def points(value: float, *, signed: bool = False) -> str:
    """Points with two decimals; '-' for none."""
    if value != value:
        return "-"
    return f"{value:+.2f}" if signed else f"{value:.2f}"
