"""Texts of others on the terminal and in CSV files: shown, and nothing more."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console

from ray_app.commands import console as module
from ray_app.commands.console import print_table, write_csv

TOKEN = "hf_" + "aB3" * 11 + "z"
NAMES = [
    "[/red]",
    "[link=https://evil]x[/link]",
    "a\x1b]0;evil\x07\x1b[31mb",
    ":smile:",
    "a\u202eb",
    "=cmd|' /C calc'!A0",
    TOKEN,
]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What the console of the commands shows on a terminal."""
    buffer = io.StringIO()
    own = type(module.console)(file=buffer, force_terminal=True, width=400, soft_wrap=True, highlight=False)
    monkeypatch.setattr(module, "console", own)
    assert isinstance(own, Console)
    return buffer


def test_names_are_shown_as_they_are(shown: io.StringIO) -> None:
    for name in NAMES:
        module.console.print(f"note: {name}")
    print_table(NAMES[0], [NAMES[1]], [[name] for name in NAMES], left=1)
    text = shown.getvalue()
    assert text.count("note: [/red]") == 1 and "[link=https://evil]x[/link]" in text and ":smile:" in text
    assert "\x07" not in text and "\x1b[31m" not in text and "\x1b]" not in text and "\u202e" not in text
    assert "a\\u001b]0;evil\\u0007\\u001b[31mb" in text
    assert TOKEN not in text.split("\n", maxsplit=len(NAMES))[len(NAMES) - 1]


def test_lines_stay_lines(shown: io.StringIO) -> None:
    module.console.print("a\nb")
    assert shown.getvalue() == "a\nb\n"


def test_a_spreadsheet_runs_no_cell(tmp_path: Path) -> None:
    cells = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "a\r=1", "＝1", "plain", -1.5, None]
    path = write_csv(tmp_path / "x.csv", ["=name", *map(str, range(len(cells) - 1))], [cells])
    header, row = csv.reader(io.StringIO(path.read_bytes().decode(), newline=""))
    assert header[0] == "'=name"
    assert row == [
        "'=1+1",
        "'+1",
        "'-1",
        "'@SUM(A1)",
        "'\t=1",
        "'\\r=1",
        "'\n=1",
        "a\\r=1",
        "'＝1",
        "plain",
        "-1.5",
        "",
    ]


def test_a_csv_file_holds_no_token(tmp_path: Path) -> None:
    assert TOKEN not in write_csv(tmp_path / "x.csv", ["a"], [[f"org/{TOKEN}"]]).read_text()
