"""What commands print with: one console, tables of plain values, and the same values as CSV and Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracking.delimited import spreadsheet_safe
from tracking.errors import StorageError
from tracking.names import visible, visible_lines
from tracking.records import write_atomically
from tracking.secrets import redact, redact_forms
from tracking.table import write_table

PLAIN_WIDTH = 140
"""Columns where there is no terminal (a log, a pipe)."""


class _PlainConsole(Console):
    """A console that shows texts as they are: no markup, nothing that moves the cursor or colours the terminal, no secret."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; texts are made harmless first, whoever named what is in them."""
        plain = [Text(visible_lines(redact(each))) if isinstance(each, str) else each for each in objects]
        super().print(*plain, **options)


def _make_console() -> Console:
    plain = _PlainConsole(soft_wrap=True, highlight=False)
    return plain if plain.is_terminal else _PlainConsole(soft_wrap=True, highlight=False, width=PLAIN_WIDTH)


console = _make_console()


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Print a table; the first ``left`` columns are text, the others numbers."""
    table = Table(title=Text(visible(title)), title_justify="left", header_style="bold")
    for index, name in enumerate(columns):
        table.add_column(Text(visible(name)), justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    console.print(table)


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    """Write a CSV file, whole or not at all."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_csv_cell(name) for name in columns])
    writer.writerows([_csv_cell(value) for value in row] for row in rows)
    write_atomically(path, buffer.getvalue().encode())
    return path


def _csv_cell(value: object) -> object:
    if isinstance(value, str):
        return spreadsheet_safe(redact_forms(value))
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
