"""Markdown pipe tables, laid out as the published pages have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_HEADER_PADDING = 2
_ENTITIES = str.maketrans({sign: f"&#{ord(sign)};" for sign in "&<>|[]{}*`~\\$\"'"})


@dataclass(frozen=True, kw_only=True)
class PipeColumn:
    """A column of finished texts."""

    header: str
    cells: Sequence[str]
    numeric: bool = False
    """Align on the decimal point and to the right; else to the left."""


def pipe_table(columns: Sequence[PipeColumn]) -> str:
    """Lay out a Markdown table: every column as wide as its widest text, and two wider than its header for a narrow one.

    Args:
        columns: at least one, all with equally many cells; texts are taken as they are (see ``escape_markdown``).

    Returns:
        Header, rule and one line a row, without a line end at the end.

    Raises:
        ValueError: no column, or columns of different length.

    Source: layout of tabulate 0.9 for ``tablefmt="pipe"``, which pandas' ``to_markdown`` calls and the published pages use.
    """
    lengths = {len(column.cells) for column in columns}
    if len(lengths) != 1:
        raise ValueError(f"columns have {sorted(lengths)} cells, expected one length")
    laid = [_lay_out(column) for column in columns]
    rules = [("-" * (width + 1) + ":") if column.numeric else (":" + "-" * (width + 1)) for column, width, _ in laid]
    heads = [_pad(column.header, width, right=column.numeric) for column, width, _ in laid]
    body = zip(*(cells for _, _, cells in laid), strict=True)
    lines = ["| " + " | ".join(row) + " |" for row in (heads, *body)]
    return "\n".join([lines[0], "|" + "|".join(rules) + "|", *lines[1:]])


def _lay_out(column: PipeColumn) -> tuple[PipeColumn, int, list[str]]:
    """The column, its width and its padded cells."""
    cells = _align_points(column.cells) if column.numeric else list(column.cells)
    width = max([len(column.header) + _HEADER_PADDING, *map(len, cells)])
    return column, width, [_pad(cell, width, right=column.numeric) for cell in cells]


def _align_points(cells: Sequence[str]) -> list[str]:
    """Pad numbers at their right, so that their decimal points stand under each other."""
    digits = [len(cell) - cell.rfind(".") - 1 if "." in cell else -1 for cell in cells]
    most = max(digits, default=-1)
    return [cell + " " * (most - held) for cell, held in zip(cells, digits, strict=True)]


def _pad(text: str, width: int, *, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)


def escape_markdown(text: str) -> str:
    """An untrusted text (a model name) that Markdown, HTML and page templates show but do not run.

    Characters with a meaning there, and control characters, become numeric entities; names as the hub allows them (letters,
    digits, '.', '_', '-', '/') stay as they are.
    """
    shown = text.translate(_ENTITIES)
    return "".join(sign if sign.isprintable() else f"&#{ord(sign)};" for sign in shown)
