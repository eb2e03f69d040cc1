"""`make rank`: who is better than the pretrained model, by how much, and how sure that is."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.matrix import choose_settings, score_matrix, superseded_cells
from analysis.ranking import Ranking, rank_bases
from ray_app.commands.console import console, points, print_table, write_results
from ray_app.config import AppConfig
from tracking.cells import digest
from tracking.errors import StoreError, TableError
from tracking.schema import Kind, Method, Metric, Param, Tag, file_name, metric_name
from tracking.store import TrackingStore, exclusive_writer
from tracking.table import scored_cells, sync_table

SHOWN = 25
"""Rows printed; the files hold all."""


def run(config: AppConfig) -> int:
    """Bring the result table up to date, rank, print, write files and MLflow's base runs; returns the exit code."""
    table, report = sync_table(config.tracking_uri, config.arch.name, snapshot_path(config), rebuild=config.rebuild)
    for fault in report.faults:
        console.print(f"note: {fault}")
    return rank_table(config, table)


def snapshot_path(config: AppConfig) -> Path:
    """Where the result table of an architecture is kept."""
    return config.out / "table" / f"{file_name(config.arch.name)}.parquet"


def rank_table(config: AppConfig, table: pa.Table, *, settings: str | None = None) -> int:
    """Rank the cells of a result table.

    Raises:
        TableError: nothing to rank.
    """
    cells = scored_cells(table)
    cells = cells.filter(pc.equal(cells["method"], str(Method.FINETUNE)))
    if not cells.num_rows:
        raise TableError(
            f"no scored cell for {config.arch.name} yet; run `make sweep ARCH={config.arch.name}` first",
            arch=config.arch.name,
        )
    try:
        chosen, notes = choose_settings(cells, pretrained=config.arch.pretrained.id, wanted=settings or config.settings)
        matrix = score_matrix(cells, pretrained=config.arch.pretrained.id, settings=chosen)
        ranking = rank_bases(matrix)
    except ValueError as error:
        raise TableError(str(error), arch=config.arch.name) from error
    notes += superseded_cells(cells, settings=chosen)
    files = write_results(config.out / "rank" / file_name(config.arch.name), ranking_table(ranking))
    _print(config, ranking, notes)
    n_written = _write_base_runs(config, ranking, chosen)
    console.print(
        f"written: {files[0]}, {files[1]}" + (f"; {n_written} base runs in MLflow" if n_written is not None else "")
    )
    return 0


def rank_table_if_possible(config: AppConfig, table: pa.Table, *, settings: str | None) -> None:
    """Rank at the end of a sweep; where there is nothing to rank yet, say why."""
    try:
        rank_table(config, table, settings=settings)
    except TableError as error:
        console.print(f"no ranking yet: {error.message}")


def ranking_table(ranking: Ranking) -> pa.Table:
    """The ranking as published in files: points, x100; rank is null where a task is missing."""
    ranks = [int(rank) or None for rank in ranking.rank]
    columns = {
        "base_model": pa.array(ranking.bases),
        "rank": pa.array(ranks, pa.int64()),
        "n_tasks": pa.array(ranking.n_tasks),
        "n_cells": pa.array(ranking.n_cells),
        "avg_score": pa.array(ranking.avg_score, from_pandas=True),
        "avg_gain": pa.array(ranking.avg_gain, from_pandas=True),
        "avg_gain_se": pa.array(ranking.avg_gain_se, from_pandas=True),
    }
    return pa.table(columns)


def _print(config: AppConfig, ranking: Ranking, notes: list[str]) -> None:
    rows = []
    for index, name in enumerate(ranking.bases[:SHOWN]):
        is_pretrained = name == config.arch.pretrained.id
        rows.append(
            [
                str(ranking.rank[index] or "-"),
                f"{name} (pretrained)" if is_pretrained else name,
                str(ranking.n_tasks[index]),
                str(ranking.n_cells[index]),
                points(ranking.avg_score[index]),
                "baseline" if is_pretrained else points(ranking.avg_gain[index], signed=True),
                "" if is_pretrained else points(ranking.avg_gain_se[index]),
            ]
        )
    title = f"{config.arch.name}: {len(ranking.bases)} base models, {len(ranking.tasks)} tasks"
    print_table(title, ["rank", "base model", "tasks", "cells", "average", "gain", "± se"], rows, left=2)
    if len(ranking.bases) > SHOWN:
        console.print(f"... and {len(ranking.bases) - SHOWN} more in the files")
    for note in ([ranking.reason] if ranking.reason else []) + notes:
        console.print(f"note: {note}")


def _write_base_runs(config: AppConfig, ranking: Ranking, settings: str) -> int | None:
    """One MLflow run per base model, for the compare view; only what changed is written. None when a sweep is writing."""
    try:
        with exclusive_writer(config.out):
            return write_base_runs(
                TrackingStore(config.tracking_uri, config.arch.name, artifact_root=config.artifact_root),
                ranking,
                settings,
            )
    except StoreError as error:
        console.print(f"note: base runs not written to MLflow: {error.message}")
        return None


def write_base_runs(store: TrackingStore, ranking: Ranking, settings: str) -> int:
    """Write the ranking as ``base`` runs; returns how many were new or changed."""
    now = int(time.time() * 1000)
    wanted: dict[str, tuple[str, dict[str, float]]] = {}
    for index, name in enumerate(ranking.bases):
        metrics = _base_metrics(ranking, index)
        wanted[name] = (digest([settings, name, sorted(metrics.items())]), metrics)
    present = store.summary_keys(Kind.BASE)
    keys = {key for key, _ in wanted.values()}
    for key, run_id in present.items():
        if key not in keys:
            store.client.delete_run(run_id)
    new = {name: item for name, item in wanted.items() if item[0] not in present}
    for name, (key, metrics) in new.items():
        store.write_run(
            name=name,
            tags={Tag.KIND: Kind.BASE, Tag.KEY: key},
            params={Param.ARCH: store.arch, Param.BASE_MODEL: name, Param.SETTINGS: settings},
            history=[(metric, value, 0, now) for metric, value in metrics.items()],
        )
    return len(new)


def _base_metrics(ranking: Ranking, index: int) -> dict[str, float]:
    values = {
        Metric.AVG_SCORE: ranking.avg_score[index] / 100,
        Metric.AVG_GAIN: ranking.avg_gain[index],
        Metric.AVG_GAIN_SE: ranking.avg_gain_se[index],
        Metric.RANK: float(ranking.rank[index]) or math.nan,
        Metric.N_TASKS: float(ranking.n_tasks[index]),
        Metric.N_CELLS: float(ranking.n_cells[index]),
    }
    for column, task in enumerate(ranking.tasks):
        values[metric_name(Metric.TASK_SCORE, task)] = ranking.task_score[index, column] / 100
        values[metric_name(Metric.TASK_GAIN, task)] = ranking.gain[index, column]
    return {name: float(value) for name, value in values.items() if np.isfinite(value)}
