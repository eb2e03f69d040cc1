"""The page of result columns, made from the schema: ``python -m tracking.results_page`` rewrites it in docs/results.md."""

from __future__ import annotations

from pathlib import Path

from tracking.schema import CELL_COLUMNS, SCHEMA_VERSION

PAGE = Path(__file__).resolve().parent.parent / "docs" / "results.md"
BEGIN, END = "<!-- columns: begin -->", "<!-- columns: end -->"


def column_table() -> str:
    """Markdown table of the columns of the result table."""
    lines = ["| column | type | unit | better | source | what |", "|---|---|---|---|---|---|"]
    lines += [
        f"| `{column.name}` | {column.type} | {column.unit} | {column.direction} | {column.source} | {column.text} |"
        for column in CELL_COLUMNS
    ]
    return f"Schema version {SCHEMA_VERSION}.\n\n" + "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """The page with the table between its marks replaced."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{column_table()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
