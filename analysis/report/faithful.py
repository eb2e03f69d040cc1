"""Faithful mode: the published pages, CSVs and model-card sections, made again from the published raw files."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

from analysis.report.faithful_card import section
from analysis.report.faithful_numbers import FaithfulRanking, faithful_ranking
from analysis.report.faithful_pages import (
    baseline_page,
    index_page,
    index_row,
    page_name,
    ranking_csv,
    ranking_page,
)
from tracking.errors import TableError
from tracking.published import PublishedResults
from tracking.records import write_atomically

N_CARDS = 3
"""Best models of an architecture that get a card section, as published."""
_CARD_NAME_LIMIT = 200


def write_faithful_pages(results: PublishedResults, out: Path, *, as_of: date | None = None) -> list[Path]:
    """Write the published files under their published names.

    Per architecture with a pretrained repetition ``<arch>_table.md``, ``<arch>_table.csv``,
    ``<arch>_pretrain_scores_table.md``; ``index.md``; the downloads the pages link to under ``results/``; card sections of the
    three best under ``cards/<arch>/``.

    Args:
        results: as read by ``read_published``; architectures without baseline are among its faults and get no page.
        out: folder, made where absent.
        as_of: day that the cards name; today where None.

    Returns:
        Paths written, in the order of writing; each file is whole or absent.

    Raises:
        TableError: no architecture has a baseline, or a pretrained file changed since it was read.
        StorageError: disk full or folder unwritable.
    """
    rankings = [faithful_ranking(arch) for arch in results.architectures if len(arch.pretrained)]
    if not rankings:
        names = ", ".join(arch.name for arch in results.architectures)
        raise TableError(
            f"none of the architectures ({names}) has pretrained rows, and gains need them; "
            "add models_results_<architecture>_pretrain.csv to the folder",
            path=str(results.folder),
        )
    written = []
    for name, data in _files(results, rankings, as_of=as_of or date.today()):
        write_atomically(out / name, data)
        written.append(out / name)
    return written


def _files(results: PublishedResults, rankings: list[FaithfulRanking], *, as_of: date) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file."""
    for ranking in rankings:
        name = page_name(ranking.arch)
        table = ranking_csv(ranking).encode()
        yield f"{name}_table.csv", table
        yield f"results/{name}_table.csv", table
        source = results.architecture(ranking.arch).pretrained_file
        yield f"results/{source}", results.source_bytes(source)
        yield f"{name}_pretrain_scores_table.md", baseline_page(ranking).encode()
        yield f"{name}_table.md", ranking_page(ranking).encode()
        for card, text in _cards(ranking, as_of=as_of).items():
            yield f"cards/{name}/{card}", text.encode()
    rows = [index_row(ranking) for ranking in rankings if ranking.shown]
    yield "index.md", index_page(rows, n_ranked=sum(len(ranking.rows) for ranking in rankings)).encode()


def _cards(ranking: FaithfulRanking, *, as_of: date) -> dict[str, str]:
    """File name and section of the best models; the better rank where a name is repeated."""
    cards: dict[str, str] = {}
    for rank, row in enumerate(ranking.shown[:N_CARDS], start=1):
        if row.avg == row.avg:
            cards.setdefault(f"{card_name(row.model)}.md", section(ranking, row, rank=rank, as_of=as_of))
    return cards


def card_name(model: str) -> str:
    """File of a model's card, as published: '/' becomes '#-#-#-'; a character that no hub name has becomes its code."""
    shown = (
        "#-#-#-" if sign == "/" else sign if sign.isalnum() or sign in "._-" else f"#{ord(sign):x}" for sign in model
    )
    return "".join(shown)[:_CARD_NAME_LIMIT]
