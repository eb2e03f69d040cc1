"""The site as a folder: whole, all links alive, never over something else."""

from __future__ import annotations

import os
import re
from datetime import date
from pathlib import Path

import pytest

from analysis.report.site import ArchReport, Unranked, write_site
from analysis.report.site import writer as writer_module
from analysis.report.site.writer import MARK
from tracking.errors import StorageError

DAY = date(2026, 1, 2)


def write(folder: Path, reports: list[ArchReport], **options: object) -> Path:
    return write_site(reports, folder, version="1", day=DAY, **options).index  # type: ignore[arg-type]


def test_every_link_leads_to_a_file(small: ArchReport, hostile: ArchReport, tmp_path: Path) -> None:
    index = write(tmp_path / "report", [small, hostile], unranked=[Unranked(name="x/y", reason="no baseline")])
    pages = sorted(index.parent.rglob("*.html"))
    assert len(pages) == 1 + 2 * 4 + len(small.models) + len(hostile.models)
    n_links = 0
    for page in pages:
        for address in re.findall(r'(?:href|src)="([^"#]+)"', page.read_text()):
            if ":" not in address:
                n_links += 1
                target = (page.parent / address).resolve()
                assert target.is_file() and target.is_relative_to(index.parent.resolve()), f"{page}: {address}"
    assert n_links > 300
    markdown = (index.parent / "markdown").glob("*.md")
    links = [(page, link) for page in markdown for link in re.findall(r"\]\(([^)]+)\)", page.read_text())]
    assert len(links) > 20 and all((page.parent / link).is_file() for page, link in links)


def test_pages_of_alike_names_do_not_overwrite_each_other(hostile: ArchReport, tmp_path: Path) -> None:
    index = write(tmp_path / "report", [hostile])
    folder = index.parent / "arch" / hostile.stem / "model"
    assert len(list(folder.glob("*.html"))) == len(hostile.models)
    for name in ("a/b", "a_b", "A/b"):
        model = next(m for m in hostile.models if m.name == name)
        assert f"<h1><bdi>{name}</bdi></h1>" in (folder / f"{model.stem}.html").read_text()


def test_nothing_is_written_outside_the_folder(hostile: ArchReport, tmp_path: Path) -> None:
    write(tmp_path / "a" / "report", [hostile])
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and [p.name for p in (tmp_path / "a").iterdir()] == [
        "report"
    ]


def test_a_second_build_leaves_no_page_of_the_first(small: ArchReport, hostile: ArchReport, tmp_path: Path) -> None:
    write(tmp_path / "report", [small])
    index = write(tmp_path / "report", [hostile])
    assert [path.name for path in (index.parent / "arch").iterdir()] == [hostile.stem]
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_the_same_reports_give_the_same_bytes(small: ArchReport, tmp_path: Path) -> None:
    folders = [write(tmp_path / name, [small]).parent for name in ("one", "two")]
    files = [{p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in folders]
    assert files[0] == files[1] and len(files[0]) > 40


def test_a_folder_of_other_things_is_left_alone(small: ArchReport, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(StorageError, match="not a report of Startline; remove it or choose another folder"):
        write(folder, [small])
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_a_build_that_fails_leaves_the_old_site(
    small: ArchReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = write(tmp_path / "report", [small])
    before = index.read_text()

    def full(*args: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer_module, "data_script", full)
    with pytest.raises(StorageError, match="No space left on device"):
        write(tmp_path / "report", [small])
    assert index.read_text() == before and [path.name for path in tmp_path.iterdir()] == ["report"]


def test_leftovers_of_killed_builds_are_removed(small: ArchReport, tmp_path: Path) -> None:
    gone, alive = tmp_path / ".report.999999999.new", tmp_path / f".report.{os.getppid()}.new"
    for folder in (gone, alive):
        (folder / "x").mkdir(parents=True)
    write(tmp_path / "report", [small])
    assert not gone.exists() and alive.exists() and (tmp_path / "report" / MARK).exists()


def test_no_architecture_with_a_ranking_still_gives_a_page(tmp_path: Path) -> None:
    index = write(tmp_path / "report", [], unranked=[Unranked(name="x/y", reason="no cell of the pretrained model")])
    assert "No ranking: no cell of the pretrained model" in index.read_text()
