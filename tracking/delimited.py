"""Reading delimited text files of others: every fault of the file as a whole is one clear sentence, none is guessed away."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tracking.errors import TableError

MISSING = frozenset({"", "nan", "NaN", "NAN", "NA", "N/A", "<NA>", "null", "NULL", "None"})
"""Cell texts that mean 'no value'."""
_DELIMITERS = {",": "a comma", "\t": "a tab", ";": "a semicolon", "|": "a bar"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


@dataclass(frozen=True, kw_only=True)
class DelimitedFile:
    """The text of a delimited file, cell by cell."""

    path: Path
    sha256: str
    """Hex digest of its bytes."""
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """Data rows, each as long as the header."""
    lines: tuple[int, ...]
    """Line of the file on which each row begins; the header is line 1."""

    def column(self, name: str) -> list[str]:
        """Cells of one column, by its name."""
        place = self.header.index(name)
        return [row[place] for row in self.rows]

    def numbers(self, name: str) -> list[float]:
        """Cells of one column as doubles, NaN where there is no value.

        Raises:
            TableError: a cell is neither a finite number nor empty; its line and column are named.
        """
        return [self._number(text, name, line) for text, line in zip(self.column(name), self.lines, strict=True)]

    def _number(self, text: str, column: str, line: int) -> float:
        text = text.strip()
        if text in MISSING:
            return float("nan")
        value = float(text) if _NUMBER.fullmatch(text) else float("inf")
        if value in (float("inf"), float("-inf")):
            raise TableError(
                f"{self.path.name} line {line}: column {column} holds {text[:40]!r}, expected a finite number or an empty "
                "cell; correct or empty that cell",
                path=str(self.path),
                line=line,
                column=column,
            )
        return value


def read_delimited(path: Path, *, delimiter: str, required: Sequence[str]) -> DelimitedFile:
    """Read a UTF-8 text file with a header and one delimiter.

    Args:
        path: the file; a byte order mark and Windows line ends are accepted.
        delimiter: the one character between cells.
        required: columns that must be there.

    Raises:
        TableError: absent, unreadable, empty, not UTF-8 (the byte offset is named), another delimiter, a required column
            missing, a column twice, a row shorter or longer than the header, or broken quoting.
    """
    data = _read_bytes(path)
    text = _decode(path, data)
    records = _records(path, text, delimiter)
    if not records:
        raise TableError(f"{path} is empty; expected a header line with {', '.join(required)}", path=str(path))
    header = tuple(cell.strip() for cell in records[0][1])
    _check_header(path, text, header, delimiter=delimiter, required=required)
    for line, cells in records[1:]:
        if len(cells) != len(header):
            raise TableError(
                f"{path.name} line {line} has {len(cells)} cells, its header has {len(header)}; "
                "look for a missing or an unquoted delimiter on that line",
                path=str(path),
                line=line,
            )
    return DelimitedFile(
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        header=header,
        rows=tuple(tuple(cells) for _, cells in records[1:]),
        lines=tuple(line for line, _ in records[1:]),
    )


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TableError(
            f"{path} cannot be read ({error.strerror or error}); check FROM=<folder>", path=str(path)
        ) from error


def _decode(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TableError(
            f"{path.name} is not UTF-8: byte 0x{data[error.start]:02x} at byte offset {error.start} (line {line}); "
            "save the file as UTF-8",
            path=str(path),
            offset=error.start,
            line=line,
        ) from error


def _records(path: Path, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """Non-blank records, each with the line on which it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records: list[tuple[int, list[str]]] = []
    begin = 1
    try:
        for cells in reader:
            if cells:
                records.append((begin, cells))
            begin = reader.line_num + 1
    except csv.Error as error:
        raise TableError(
            f"{path.name}: the record that begins on line {begin} cannot be read ({error}); check its quotes",
            path=str(path),
            line=begin,
        ) from error
    return records


def _check_header(path: Path, text: str, header: Sequence[str], *, delimiter: str, required: Sequence[str]) -> None:
    missing = [name for name in required if name not in header]
    first_line = text.lstrip("\r\n").splitlines()[0]
    for other, name in _DELIMITERS.items():
        if missing and other != delimiter and set(required) <= {cell.strip() for cell in first_line.split(other)}:
            raise TableError(
                f"{path.name} is separated by {name}, expected {_DELIMITERS.get(delimiter, repr(delimiter))}; "
                "save it with that delimiter",
                path=str(path),
            )
    if missing:
        columns = "column" if len(missing) == 1 else "columns"
        raise TableError(
            f"{path.name} has no {columns} {', '.join(missing)}; its header is {', '.join(header)[:200]}",
            path=str(path),
            missing=missing,
        )
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise TableError(
            f"{path.name} has the column {twice[0]!r} more than once; name each column once", path=str(path)
        )


def spreadsheet_safe(text: str) -> str:
    """A text cell for a CSV of ours: one that a spreadsheet would run as a formula gets a leading apostrophe.

    A formula begins with '=', '+', '-', '@' (or their wide forms), a tab or a line end. Only for texts: a negative number is no
    formula. A carriage return, which Python's writer leaves unquoted, would begin a row of its own and is shown as its code.
    """
    return (f"'{text}" if text.startswith(_FORMULA) else text).replace("\r", "\\r")
