"""The site's tables as Markdown."""

from __future__ import annotations

from analysis.report.site import ArchReport
from analysis.report.site.markdown_pages import markdown_files


def test_pages_and_their_tables(small: ArchReport) -> None:
    files = dict(markdown_files([small]))
    assert list(files) == ["index.md", "acme_arch_table.md", "acme_arch_pretrain_scores_table.md"]
    table = [line for line in files["acme_arch_table.md"].splitlines() if line.startswith("|")]
    assert len(table) == 2 + 1 + 3
    first = [cell.strip() for cell in table[3].split("|")]
    assert first[1:5] == ["1", "[org/up](../arch/acme_arch/model/org_up.html)", "70.00", "+10.00"]
    assert "|    62.00" in table[3] or "62.00" in first
    baseline = files["acme_arch_pretrain_scores_table.md"]
    assert [cell.strip() for cell in baseline.splitlines()[6].split("|")][1:4] == ["mean", "60.00", "55.00"]
    assert "org/up" in files["index.md"] and small.sentence.split(";")[0] in files["index.md"]


def test_names_cannot_break_out_of_a_table(hostile: ArchReport) -> None:
    for text in dict(markdown_files([hostile])).values():
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in rows}) == 1
        assert "<script" not in text and "<img" not in text and "{{" not in text
