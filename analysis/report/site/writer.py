"""Writes the site: into a new folder beside the old one, which it then replaces, so that no half-written site is ever seen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa

from analysis.report.site import downloads
from analysis.report.site.content import ArchReport, Unranked
from analysis.report.site.data_file import data_script
from analysis.report.site.markdown_pages import markdown_files
from analysis.report.site.pages import Pages
from tracking.errors import StorageError

STATIC = Path(__file__).resolve().parent.parent / "static"
MARK = ".startline-site"
"""File that says a folder is a site of ours and may be replaced."""


@dataclass(frozen=True, kw_only=True)
class SiteSummary:
    """What was written."""

    index: Path
    n_files: int
    n_bytes: int


def write_site(
    reports: Sequence[ArchReport],
    folder: Path,
    *,
    unranked: Sequence[Unranked] = (),
    version: str,
    day: date | None = None,
) -> SiteSummary:
    """Write the whole site to ``folder``; what stood there before is replaced once the new site is complete.

    Args:
        reports: one an architecture, with different stems.
        folder: made where absent.
        unranked: architectures without a ranking, named with the reason.
        version: of Startline, for the footer.
        day: for the footer; today where None.

    Raises:
        StorageError: the folder holds something else than a site of ours, cannot be written, or the disk is full.

    Cost: about 3 ms a tested base model; 2,000 base models on 36 tasks take about 6 s and 40 MB.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise StorageError(
            f"{folder} holds files that are not a report of Startline; remove it or choose another folder with OUT=dir",
            path=str(folder),
        )
    pages = Pages(version=version, day=day or date.today())
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    n_files = n_bytes = 0
    try:
        _discard_leftovers(folder)
        made: set[Path] = set()
        for name, data in _files(pages, reports, unranked):
            path = fresh / name
            if path.parent not in made:
                path.parent.mkdir(parents=True, exist_ok=True)
                made.add(path.parent)
            path.write_bytes(data)
            n_files, n_bytes = n_files + 1, n_bytes + len(data)
        _swap(fresh, folder)
    except OSError as error:
        raise StorageError(
            f"cannot write the report {folder} ({error.strerror or error}); free space or choose another folder with OUT=dir",
            path=str(folder),
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return SiteSummary(index=folder / "index.html", n_files=n_files, n_bytes=n_bytes)


def _discard_leftovers(folder: Path) -> None:
    """Remove what builds that were killed left beside the folder."""
    for path in folder.parent.glob(f".{folder.name}.*.*") if folder.parent.exists() else ():
        pid, _, ending = path.name.removeprefix(f".{folder.name}.").partition(".")
        if pid.isdigit() and ending in ("new", "old") and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(path, ignore_errors=True)


def _swap(fresh: Path, folder: Path) -> None:
    """Put the new folder in the place of the old one."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    try:
        fresh.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _files(pages: Pages, reports: Sequence[ArchReport], unranked: Sequence[Unranked]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file."""
    yield MARK, b"This folder is written by Startline and replaced as a whole.\n"
    for path in sorted(STATIC.iterdir()):
        yield f"assets/{path.name}", path.read_bytes()
    yield "index.html", pages.index(reports, unranked)
    if reports:
        yield from _table("download/architectures", downloads.architectures_table(reports))
        for name, text in markdown_files(reports):
            yield f"markdown/{name}", text.encode()
    for report in reports:
        for name, data in _arch_files(pages, report):
            yield f"arch/{report.stem}/{name}", data


def _arch_files(pages: Pages, report: ArchReport) -> Iterator[tuple[str, bytes]]:
    yield "index.html", pages.ranking(report)
    yield "data.js", data_script(report)
    yield "baseline.html", pages.baseline(report)
    yield "heatmap.html", pages.heatmap(report)
    yield "probe.html", pages.probe(report)
    yield from _table("download/ranking", downloads.ranking_download(report))
    yield from _table("download/integrity", downloads.integrity_download(report))
    yield from _table("download/baseline", downloads.baseline_download(report))
    yield from _table("download/gains", downloads.gains_download(report))
    yield from _table("download/probe", downloads.probe_download(report))
    for model in report.models:
        yield f"model/{model.stem}.html", pages.model(report, model)
        if model.cells:
            yield from _table(f"model/{model.stem}", downloads.model_download(report, model))


def _table(stem: str, table: pa.Table) -> Iterator[tuple[str, bytes]]:
    yield f"{stem}.csv", downloads.csv_bytes(table)
    yield f"{stem}.parquet", downloads.parquet_bytes(table)
