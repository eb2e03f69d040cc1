"""Faithful mode against the published site: every published file again, byte for byte."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from analysis.report.faithful import write_faithful_pages
from analysis.report.faithful_card import card_section
from analysis.report.faithful_numbers import faithful_ranking
from analysis.report.faithful_pages import IndexRow, index_page, index_row
from tracking.published import FaultKind, PublishedResults, read_published

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
FOLDER = SHARED / "published" / "model-recycling"
EXPECTED = FOLDER / "expected"
CARD = SHARED / "seeds" / "cold-fusion-model-card.md"
OLD_INDEX = SHARED / "seeds" / "model-recycling-site.md"
DAY = date(2022, 12, 21)

pytestmark = pytest.mark.skipif(not EXPECTED.is_dir(), reason="the published results are not beside this repository")

PER_ARCHITECTURE = sorted(path.name for path in EXPECTED.glob("*") if path.name != "index.md")
ELSEWHERE = ("bert-base-uncased", "microsoft/deberta-v3-base")
"""Architectures on the published index whose raw results were not handed over."""


@pytest.fixture(scope="module")
def results() -> PublishedResults:
    return read_published(FOLDER)


@pytest.fixture(scope="module")
def pages(results: PublishedResults, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("faithful")
    write_faithful_pages(results, out, as_of=DAY)
    return out


def test_every_kind_of_page_is_among_the_expected() -> None:
    assert len(PER_ARCHITECTURE) == 4 * 3


@pytest.mark.parametrize("name", PER_ARCHITECTURE)
def test_pages_and_tables_byte_for_byte(pages: Path, name: str) -> None:
    assert (pages / name).read_bytes() == (EXPECTED / name).read_bytes()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def published_rows() -> dict[str, IndexRow]:
    """Rows of the published index by architecture."""
    rows = {}
    for line in (EXPECTED / "index.md").read_text().splitlines():
        if line.startswith("| ["):
            pretrained, best, avg, pretrained_avg, ranking = cells(line)
            name = re.match(r"\[(.*?)\]", pretrained)
            assert name is not None
            rows[name[1]] = IndexRow(
                pretrained=pretrained,
                best=best,
                avg=float(avg),
                pretrained_avg=float(pretrained_avg),
                ranking=ranking,
            )
    return rows


def test_index_byte_for_byte_given_what_the_raw_files_lack(results: PublishedResults) -> None:
    published = published_rows()
    own = {arch.name: index_row(faithful_ranking(arch)) for arch in results.architectures}
    assert set(published) == {*own, *ELSEWHERE}
    rows = [own[name] if name in own else published[name] for name in published]
    assert index_page(rows, n_ranked=2685).encode() == (EXPECTED / "index.md").read_bytes()


def squeezed(line: str) -> str:
    """A line without the padding that the widest row of a table sets."""
    return re.sub(r"-{2,}", "-", re.sub(r" +", " ", line)) if line.startswith("|") else line


def test_index_differs_in_the_explained_lines_only(pages: Path) -> None:
    ours = [squeezed(line) for line in (pages / "index.md").read_text().splitlines()]
    theirs = [squeezed(line) for line in (EXPECTED / "index.md").read_text().splitlines()]
    assert [line for line in ours if line not in theirs] == ["Tested so far: 2021 (and counting)"]
    only_theirs = [line for line in theirs if line not in ours]
    assert only_theirs[0] == "Tested so far: 2685 (and counting)"
    assert [line.split("]")[0] for line in only_theirs[1:]] == [f"| [{name}" for name in ELSEWHERE]
    kept = [line for line in theirs if line not in only_theirs]
    assert kept == [line for line in ours if not line.startswith("Tested so far")]


@pytest.mark.skipif(not CARD.exists(), reason="the published model card is not beside this repository")
def test_model_card_section_line_by_line(results: PublishedResults) -> None:
    card = CARD.read_text()
    begin = card.index("\n## Model Recycling")
    end = card.index("See full evaluation results")
    ranking = faithful_ranking(results.architecture("roberta-base"))
    assert card_section(ranking, "ibm/ColD-Fusion", as_of=DAY) == card[begin:end]


@pytest.mark.skipif(not OLD_INDEX.exists(), reason="the older index page is not beside this repository")
def test_models_of_the_older_index_have_the_averages_it_gives(results: PublishedResults) -> None:
    lines = [cells(line) for line in OLD_INDEX.read_text().splitlines() if re.match(r"\| \d", line)]
    assert len(lines) == 5
    ranking = faithful_ranking(results.architecture("roberta-base"))
    ours = {row.model: (f"{row.avg:.2f}", f"{row.probe:.2f}") for row in ranking.rows}
    assert [ours[name] for _, name, *_ in lines] == [(avg, probe) for *_, avg, probe in lines]


def test_faults_of_the_published_files(results: PublishedResults) -> None:
    counts = {kind: sum(fault.kind is kind for fault in results.faults) for kind in FaultKind}
    # counted in the raw files with awk: rows with 1 to 35 scores, names that stand twice, stages without stsb, name = arch
    assert {kind: count for kind, count in counts.items() if count} == {
        FaultKind.PARTIAL_ROW: 1 + 3 + 7 + 5,
        FaultKind.REPEATED_NAME: 7 * 2,
        FaultKind.MISSING_PRETRAINED_SCORE: 4 + 2,
        FaultKind.PRETRAINED_AS_MODEL: 3,
    }
