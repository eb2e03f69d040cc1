"""`make import-published FROM=<folder>`: published results into MLflow, from where they work like own runs."""

from __future__ import annotations

from collections import Counter

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ray_app.commands.console import console, write_csv
from ray_app.config import AppConfig
from ray_app.sweeps.session import check_folder
from tracking.errors import ConfigError
from tracking.published import PublishedResults, read_published
from tracking.published_import import import_published
from tracking.store import exclusive_writer

SHOWN = 5
"""Faults printed; the file holds all."""


def run(config: AppConfig) -> int:
    """Import every architecture of the folder; returns the exit code.

    Raises:
        ConfigError: FROM is not given.
        TableError: a file of the folder cannot be read.
    """
    if config.source is None:
        raise ConfigError("FROM: not given; name the folder with models_tested.csv and models_results_*_pretrain.csv")
    results = read_published(config.source)
    check_folder(config.out, min_free_bytes=200_000_000)
    _report_faults(config, results)
    bar = Progress(
        TextColumn("importing"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with exclusive_writer(config.out), bar:
        task = bar.add_task("import", total=None)
        summary = import_published(
            results,
            store_uri=config.tracking_uri,
            artifact_root=config.artifact_root,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    names = ", ".join(arch.name for arch in results.architectures)
    console.print(
        f"{summary.n_written} runs written, {summary.n_unchanged} there already, {summary.n_deleted} outdated ones deleted "
        f"({summary.n_scores} scores, {summary.wall_s:.1f} s): {names}"
    )
    console.print(
        f"next: make rank ARCH={results.architectures[0].name}" if results.architectures else "nothing to rank"
    )
    return 0


def _report_faults(config: AppConfig, results: PublishedResults) -> None:
    """Say what is wrong with the files: counts and a few lines here, all of it in a file."""
    if not results.faults:
        return
    columns = ["file", "line", "architecture", "model", "kind", "message"]
    rows = [[f.file, f.line, f.arch, f.model, f.kind.value, f.message] for f in results.faults]
    path = write_csv(config.out / "import" / "faults.csv", columns, rows)
    counts = Counter(fault.kind.value for fault in results.faults)
    console.print(
        f"{len(rows)} faults in the files ({', '.join(f'{n} {kind}' for kind, n in counts.most_common())}): {path}"
    )
    for fault in results.faults[:SHOWN]:
        console.print(f"  {fault.message}")
    if len(rows) > SHOWN:
        console.print(f"  ... and {len(rows) - SHOWN} more")
