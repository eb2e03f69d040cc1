"""The published pages, their files and their cards, by hand arithmetic."""

from __future__ import annotations

import csv
import io
from datetime import date
from pathlib import Path

import pytest

from analysis.report.faithful import card_name, write_faithful_pages
from analysis.report.faithful_card import card_section, ordinal
from analysis.report.faithful_numbers import (
    FaithfulRanking,
    faithful_ranking,
)
from analysis.report.faithful_pages import (
    baseline_page,
    gain_chart_url,
    index_page,
    index_row,
    ranking_csv,
    ranking_page,
)
from tests.published_folder import TASKS, model_line, write_folder, write_models, write_pretrained
from tracking.errors import TableError
from tracking.published import read_published

DAY = date(2022, 12, 21)


def ranking_of(folder: Path, lines: list[dict]) -> FaithfulRanking:
    write_models(folder, lines)
    write_pretrained(folder, [0.5, 0.5625, 0.625])
    return faithful_ranking(read_published(folder).architectures[0])


def test_gain_chart_address(tmp_path: Path) -> None:
    ranking = ranking_of(tmp_path, [model_line("a b/c&d", 0.25, 0.75), model_line("e", 0.25, None)])
    first, second = (gain_chart_url(ranking, row) for row in ranking.rows)
    assert first.startswith("model_gain_chart?avg=18.75&mnli_lp=nan&20_newsgroup=18.75&ag_news=18.75&")
    assert first.endswith("&yahoo_answers=18.75&model_name=a+b%2Fc%26d&base_name=acme%2Ftiny-1")
    assert first.count("=18.75") == 37
    assert second.count("=nan") == 38


def test_csv_keeps_every_row_and_every_bit(tmp_path: Path) -> None:
    ranking = ranking_of(
        tmp_path,
        [model_line("=cmd()", 0.1, 0.7), model_line("ibm/ColD-Fusion-itr3", 0.3, None), model_line("a,b", 0.2, None)],
    )
    text = ranking_csv(ranking)
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["", "model_name", "avg", "mnli_lp", *sorted(TASKS)]
    assert rows[1] == ["0", "acme/tiny-1", "56.25", "", *["56.25"] * 36]
    assert rows[2][:2] == ["1", "=cmd()"]
    assert rows[2][3:] == ["10.0", *["70.0"] * 36]
    assert rows[3] == ["2", "ibm/ColD-Fusion-itr3", "", "30.0", *[""] * 36]
    assert text.splitlines()[4] == '3,"a,b",,20.0' + "," * 36


def test_ranking_page(tmp_path: Path) -> None:
    lines = [model_line(f"m/{number:02}", 0.25, 0.5 + number / 64) for number in range(12)]
    lines.append(model_line("m/no-metadata", 0.25, 0.25, size=""))
    page = ranking_page(ranking_of(tmp_path, lines))
    assert page.startswith("---\nlayout: default\ntitle: acme_tiny-1\nparent: Rankings\n")
    assert "all 13 ranked acme_tiny-1 models" in page
    assert "The top 12 models were fully tested" in page
    assert "ColD Fusion" not in page
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 1 + 10
    assert {len(line) for line in table} == {len(table[0])}
    cells = [cell.strip() for cell in table[2].split("|")[1:5]]
    assert cells == ["*baseline*", "*[acme/tiny-1](acme/tiny-1_pretrain_scores_table)*", "*56.25*", "*nan*"]
    assert table[3].startswith("| 1          | [m/11](model_gain_chart?avg=10.94&")
    assert table[12].startswith("| 10         | [m/02](model_gain_chart?avg=-3.12&")


def test_hidden_names_are_noted_and_not_shown(tmp_path: Path) -> None:
    page = ranking_page(
        ranking_of(tmp_path, [model_line("x/ibm/ColD-Fusion-itr9", 0.1, 0.9), model_line("m", 0.1, 0.7)])
    )
    assert "variations were removed to avoid cluttering the table" in page
    assert "itr9" not in page
    assert "all 2 ranked" in page


def test_baseline_page(tmp_path: Path) -> None:
    page = baseline_page(ranking_of(tmp_path, [model_line("m", 0.1, 0.7)]))
    assert "aggregated over runs of 3 random initializations." in page
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert table[0].startswith("|      |   avg |   20_newsgroup |   ag_news |")
    assert table[1].startswith("|:-----|------:|---------------:|----------:|")
    assert table[2].startswith("| mean | 56.25 |          56.25 |     56.25 |")
    assert table[3].startswith("| std  |  6.25 |           6.25 |      6.25 |")
    assert "[csv](./results/models_results_acme_tiny_1_pretrain.csv)" in page


def test_index(tmp_path: Path) -> None:
    ranking = ranking_of(tmp_path, [model_line("m/best", 0.1, 0.75), model_line("m/other", 0.1, 0.7)])
    page = index_page([index_row(ranking)], n_ranked=2)
    assert "Tested so far: 2 (and counting)" in page
    cells = [cell.strip() for cell in page[page.index("| Pretrained") :].splitlines()[2].split("|")[1:-1]]
    assert cells[0] == "[acme/tiny-1](acme_tiny-1_pretrain_scores_table)"
    assert cells[1].startswith("[m/best](model_gain_chart?avg=18.75&")
    assert cells[2:] == ["75.00", "56.25", "[link](acme_tiny-1_table)"]


def test_index_row_needs_a_model(tmp_path: Path) -> None:
    ranking = ranking_of(tmp_path, [model_line("m", 0.1, {"cola": 0.5})])
    with pytest.raises(ValueError, match="acme/tiny-1 has no model to show"):
        index_row(ranking)


@pytest.mark.parametrize(
    ("rank", "text"),
    [
        (1, "1st"),
        (2, "2nd"),
        (3, "3rd"),
        (4, "4th"),
        (11, "11th"),
        (12, "12th"),
        (13, "13th"),
        (21, "21st"),
        (112, "112th"),
    ],
)
def test_ordinal(rank: int, text: str) -> None:
    assert ordinal(rank) == text


def test_ordinal_starts_at_one() -> None:
    with pytest.raises(ValueError, match="rank is 0"):
        ordinal(0)


def test_card_section(tmp_path: Path) -> None:
    scores = {task: 0.5 for task in TASKS} | {"ag_news": 0.8833333333333333, "copa": 0.72}
    ranking = ranking_of(
        tmp_path, [model_line("m/first", 0.1, 0.75), model_line("m/second", 0.1, scores), model_line("m/p", 0.1, None)]
    )
    lines = card_section(ranking, "m/second", as_of=DAY).splitlines()
    # (34 * 50 + 88.3333 + 72) / 36 = 51.676
    assert lines[:2] == ["", "## Model Recycling"]
    assert lines[3].endswith(
        ") using m/second as a base model yields average score of 51.68 in comparison to 56.25 by acme/tiny-1."
    )
    assert lines[5:7] == [
        "The model is ranked 2nd among all tested models for the acme/tiny-1 architecture as of 21/12/2022",
        "Results:",
    ]
    heads, values = ([cell.strip() for cell in lines[at].split("|")[1:-1]] for at in (8, 10))
    assert heads == sorted(TASKS)
    assert dict(zip(heads, values, strict=True)) == {task: "50" for task in TASKS} | {
        "ag_news": "88.3333",
        "copa": "72",
    }
    with pytest.raises(ValueError, match="'m/p' has no task scores"):
        card_section(ranking, "m/p", as_of=DAY)
    with pytest.raises(ValueError, match="'x' is not among the 3 models shown for acme/tiny-1"):
        card_section(ranking, "x", as_of=DAY)


def test_files_written(tmp_path: Path) -> None:
    results = read_published(write_folder(tmp_path))
    out = tmp_path / "out"
    written = write_faithful_pages(results, out, as_of=DAY)
    assert sorted(path.relative_to(out).as_posix() for path in written) == [
        "acme_tiny-1_pretrain_scores_table.md",
        "acme_tiny-1_table.csv",
        "acme_tiny-1_table.md",
        "cards/acme_tiny-1/ann#-#-#-one.md",
        "cards/acme_tiny-1/cat#-#-#-three.md",
        "index.md",
        "results/acme_tiny-1_table.csv",
        "results/models_results_acme_tiny_1_pretrain.csv",
    ]
    assert sorted(path for path in out.rglob("*") if path.is_file()) == sorted(written)
    copied = out / "results" / "models_results_acme_tiny_1_pretrain.csv"
    assert copied.read_bytes() == (tmp_path / copied.name).read_bytes()
    before = {path: path.read_bytes() for path in written}
    write_faithful_pages(results, out, as_of=DAY)
    assert {path: path.read_bytes() for path in written} == before


def test_hostile_names_run_nowhere(tmp_path: Path) -> None:
    names = ["<script>alert(1)</script>", "=cmd()|x", "{{ site.token }}", "a](javascript:x)"]
    write_models(tmp_path, [model_line(name, 0.25, 0.75) for name in names])
    write_pretrained(tmp_path, [0.5, 0.5])
    out = tmp_path / "out"
    for path in write_faithful_pages(read_published(tmp_path), out, as_of=DAY):
        assert path.resolve().is_relative_to(out.resolve())
        text = path.read_text()
        if path.suffix == ".md":
            assert not any(part in text for part in ("<script", "{{", "[a](javascript", "cmd()|x"))
    assert "=cmd()|x" in (out / "acme_tiny-1_table.csv").read_text()


def test_card_file_names() -> None:
    assert card_name("ibm/ColD-Fusion") == "ibm#-#-#-ColD-Fusion"
    assert card_name("../a b\x00") == "..#-#-#-a#20b#0"
    assert len(card_name("x" * 1000)) == 200


def test_the_better_rank_of_a_repeated_name_gets_the_card(tmp_path: Path) -> None:
    write_models(
        tmp_path, [model_line("m/twice", 0.1, 0.5), model_line("m/twice", 0.1, 0.75), model_line("n", 0.1, 0.6)]
    )
    write_pretrained(tmp_path, [0.5, 0.5])
    out = tmp_path / "out"
    write_faithful_pages(read_published(tmp_path), out, as_of=DAY)
    assert "ranked 1st among" in (out / "cards" / "acme_tiny-1" / "m#-#-#-twice.md").read_text()
    assert len(list((out / "cards" / "acme_tiny-1").iterdir())) == 2


def test_architectures_without_baseline_get_no_page(tmp_path: Path) -> None:
    write_models(tmp_path, [model_line("m/0", 0.2, 0.5, arch="with"), model_line("m/1", 0.2, 0.5, arch="without")])
    write_pretrained(tmp_path, [0.5, 0.5], arch="with")
    out = tmp_path / "out"
    names = [path.name for path in write_faithful_pages(read_published(tmp_path), out, as_of=DAY)]
    assert "with_table.md" in names
    assert "without_table.md" not in names
    (tmp_path / "models_results_with_pretrain.csv").unlink()
    with pytest.raises(TableError, match=r"none of the architectures \(with, without\) has pretrained rows"):
        write_faithful_pages(read_published(tmp_path), out, as_of=DAY)
