"""`make report`: the leaderboard site of every architecture with results; with FAITHFUL=1 the published pages instead."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from analysis.report.faithful import write_faithful_pages
from analysis.report.site import ArchReport, Standing, Unranked, arch_report, write_site
from analysis.report.site.names import file_stems
from ray_app.commands.console import console, points, print_table
from ray_app.commands.rank import assess_table
from ray_app.config import CONF, AppConfig
from ray_app.hub.task_yaml import read_task_configs
from tracking.errors import ConfigError, InputError, TableError
from tracking.experiments import known_architectures, run_address_prefix
from tracking.published import read_published
from tracking.table import sync_table


def run(config: AppConfig) -> int:
    """Write the site, or the published pages; returns the exit code.

    Raises:
        InputError: there is no result at all.
        ConfigError: FAITHFUL=1 without FROM.
        StoreError: the tracking store cannot be read.
        StorageError: the folder cannot be written.
    """
    if config.faithful:
        return _write_faithful(config)
    started = time.perf_counter()
    require_store(config)
    names = known_architectures(config.tracking_uri)
    if not names:
        raise InputError(
            "no architecture has results yet; run `make sweep` or `make import-published FROM=<folder>` first"
        )
    reports, unranked = read_reports(config, names)
    summary = write_site(reports, config.out / "report", unranked=unranked, version=startline_version())
    _print(reports, unranked)
    wall_s = time.perf_counter() - started
    console.print(
        f"written: {summary.index} ({summary.n_files} files, {summary.n_bytes / 1e6:.1f} MB) in {wall_s:.1f} s"
    )
    return 0


def require_store(config: AppConfig) -> None:
    """Refuse to read a SQLite store that is not there (opening it would make an empty one).

    Raises:
        InputError: it is not there.
    """
    uri = config.tracking_uri
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise InputError(
            f"no results at {uri} yet; run `make sweep` or `make import-published FROM=<folder>` first, "
            "or name the folder that has them with OUT=dir",
            uri=uri,
        )


def read_reports(config: AppConfig, names: Sequence[str]) -> tuple[list[ArchReport], list[Unranked]]:
    """Bring the result table of each architecture up to date and assess it; those that cannot be ranked come with the reason."""
    stems, groups = file_stems(names), task_groups()
    reports, unranked = [], []
    for name in names:
        try:
            reports.append(assess_report(config, name, read_cells(config, name), groups=groups, stem=stems[name]))
        except TableError as error:
            unranked.append(Unranked(name=name, reason=error.message))
    return reports, unranked


def read_cells(config: AppConfig, name: str) -> pa.Table:
    """The result table of an architecture, brought up to date; what is wrong with single runs is printed."""
    own = for_architecture(config, name)
    table, synced = sync_table(config.tracking_uri, name, own.table_path, rebuild=config.rebuild)
    for fault in synced.faults:
        console.print(f"note: {name}: {fault}")
    return table


def assess_report(
    config: AppConfig,
    name: str,
    table: pa.Table,
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    stem: str | None = None,
) -> ArchReport:
    """Gate, rank and describe the cells of a result table.

    Raises:
        TableError: nothing to rank, or no pretrained model to rank against.
    """
    return arch_report(
        assess_table(for_architecture(config, name), table),
        table,
        name=name,
        groups=groups,
        stem=stem,
        run_prefix=run_address_prefix(config.tracking_uri),
    )


def for_architecture(config: AppConfig, name: str) -> AppConfig:
    """The same configuration for another architecture, for reading its results."""
    return dataclasses.replace(config, arch=dataclasses.replace(config.arch, name=name))


def task_groups(folder: Path = CONF / "task") -> dict[str, list[str]]:
    """Tasks by the group that their YAML names, groups by name."""
    groups: dict[str, list[str]] = {}
    for task in read_task_configs(folder).values():
        for group in task.groups:
            groups.setdefault(group, []).append(task.name)
    return dict(sorted(groups.items()))


def startline_version() -> str:
    """Version of this checkout or installation."""
    project = CONF.parent / "pyproject.toml"
    if project.is_file():
        return str(tomllib.loads(project.read_text())["project"]["version"])
    return importlib.metadata.version("startline")


def _write_faithful(config: AppConfig) -> int:
    if config.source is None:
        raise ConfigError(
            "FROM: not given; FAITHFUL=1 makes the published pages from the folder of published files, FROM=<folder>"
        )
    results = read_published(config.source)
    written = write_faithful_pages(results, config.out / "faithful")
    for fault in results.faults[:5]:
        console.print(f"note: {fault.message}")
    if len(results.faults) > 5:
        console.print(f"note: ... and {len(results.faults) - 5} more; `make import-published` lists all of them")
    console.print(f"written: {config.out / 'faithful' / 'index.md'} and {len(written) - 1} more files")
    return 0


def _print(reports: Sequence[ArchReport], unranked: Sequence[Unranked]) -> None:
    rows = []
    for report in reports:
        best = report.ranked[0] if report.ranked else None
        rows.append(
            [
                report.name,
                best.name if best else "-",
                points(best.avg_gain, signed=True) if best else "-",
                str(len(report.ranked)),
                str(report.count(Standing.QUARANTINED)),
                str(len(report.models)),
                report.verdict.value.replace("_", " "),
            ]
        )
    if rows:
        columns = ["architecture", "best base model", "gain", "ranked", "set aside", "base models", "verdict"]
        print_table("Leaderboards", columns, rows, left=2)
    for item in unranked:
        console.print(f"note: {item.name} has no ranking: {item.reason}")
