"""`make rank`: who is better than the pretrained model, by how much, and how sure that is."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.assessment import Assessment, assess
from ray_app.commands.console import console, points, print_table, write_results
from ray_app.config import AppConfig
from tracking.cells import digest
from tracking.errors import StoreError, TableError
from tracking.names import file_name
from tracking.schema import Kind, Method, Metric, Param, Tag, metric_name
from tracking.store import TrackingStore, exclusive_writer, writer_id
from tracking.table import scored_cells, summary_keys, sync_table

SHOWN = 25
"""Rows printed; the files hold all."""
BOOTSTRAP_SEED = 0
"""Seed of the bootstrap, so that the same table gives the same intervals."""


def run(config: AppConfig) -> int:
    """Bring the result table up to date, rank, print, write files and MLflow's base runs; returns the exit code."""
    table, report = sync_table(config.tracking_uri, config.arch.name, config.table_path, rebuild=config.rebuild)
    for fault in report.faults:
        console.print(f"note: {fault}")
    assessment = rank_table(config, table)
    try:
        if summary_keys(config.tracking_uri, config.arch.name, Kind.BASE).keys() == _base_runs(assessment).keys():
            return 0  # MLflow has them all: importing its client costs more than the ranking
        with exclusive_writer(config.out):
            store = TrackingStore(
                config.tracking_uri, config.arch.name, artifact_root=config.artifact_root, writer=writer_id(config.out)
            )
            write_base_runs(store, assessment)
    except StoreError as error:
        console.print(f"note: base runs not written to MLflow: {error.message}")
    return 0


def assess_table(
    config: AppConfig, table: pa.Table, *, settings: str | None = None, tasks: Sequence[str] | None = None
) -> Assessment:
    """Gate and rank the finetune cells of a result table, over ``tasks`` where given, else over those asked for or common.

    Raises:
        TableError: nothing to rank, or no pretrained model to rank against.
    """
    cells = _comparable(scored_cells(table))
    finetuned = cells.filter(pc.equal(cells["method"], str(Method.FINETUNE)))
    probed = cells.filter(pc.and_(pc.equal(cells["method"], str(Method.PROBE)), pc.equal(cells["task"], "mnli")))
    if not finetuned.num_rows:
        raise TableError(
            f"no scored cell for {config.arch.name} yet; run `make sweep ARCH={config.arch.name}` or "
            "`make import-published FROM=<folder>` first",
            arch=config.arch.name,
        )
    try:
        rng = np.random.default_rng(BOOTSTRAP_SEED)
        wanted = settings or config.settings
        return assess(finetuned, rng=rng, probes=probed, wanted=wanted, tasks=tasks or config.tasks)
    except ValueError as error:
        raise TableError(str(error), arch=config.arch.name) from error


def _comparable(cells: pa.Table) -> pa.Table:
    """Cells without those that only a loop of fusion asked for: contributions to it, and the probes it decided by."""
    role, baseline = pc.fill_null(cells["role"], ""), pc.fill_null(cells["baseline"], "")
    contributed = pc.and_(pc.equal(role, "source"), pc.not_equal(baseline, "true"))
    return cells.filter(pc.invert(pc.or_(contributed, pc.equal(role, "held_out"))))


def rank_table(
    config: AppConfig, table: pa.Table, *, settings: str | None = None, tasks: Sequence[str] | None = None
) -> Assessment:
    """Rank the cells of a result table, print the ranking and write its files."""
    assessment = assess_table(config, table, settings=settings, tasks=tasks)
    name = file_name(config.arch.name)
    files = write_results(config.out / "rank" / name, ranking_table(assessment))
    audit = write_results(config.out / "integrity" / name, integrity_table(assessment))
    _print(config, assessment)
    console.print(f"written: {files[0]}, {files[1]}, {audit[0]}")
    return assessment


def ranking_table(assessment: Assessment) -> pa.Table:
    """The ranking as written to files: points, x100; rank and intervals are null for base models that lack a task."""
    ranking = assessment.ranking

    def ranks(values: np.ndarray) -> pa.Array:
        return pa.array([int(value) or None for value in values], pa.int64())

    def numbers(values: np.ndarray) -> pa.Array:
        return pa.array(np.asarray(values, dtype=np.float64), from_pandas=True)

    pretrained = {
        "base_model": [assessment.pretrained],
        "n_tasks": [len(assessment.tasks)],
        "n_cells": [int(np.isfinite(assessment.baseline).sum())],
        "avg_score": [float(np.mean(assessment.baseline_score))],
        "avg_gain": [0.0],
        "avg_gain_se": [0.0],
        "integrity": ["baseline"],
        "coverage": [1.0],
    }
    columns = {
        "base_model": pa.array(assessment.bases, pa.string()),
        "rank": ranks(assessment.rank),
        "n_tasks": pa.array(assessment.n_tasks, pa.int64()),
        "n_cells": pa.array(assessment.n_cells, pa.int64()),
        "avg_score": numbers(_average(assessment.task_score)),
        "avg_gain": numbers(assessment.estimate.gain),
        "avg_gain_se": numbers(assessment.estimate.se),
        "rank_low": ranks(ranking.rank_low),
        "rank_high": ranks(ranking.rank_high),
        "tie_group": ranks(ranking.tie_group),
        "p_adjusted": numbers(ranking.significance.p_holm),
        "gain_shrunken": numbers(ranking.shrunken.gain),
        "integrity": pa.array(assessment.integrity, pa.string()),
        "coverage": numbers(assessment.estimate.coverage),
        "probe_mnli": numbers(100 * assessment.probe),
    }
    table = pa.table(columns)
    first = pa.table({name: pa.array(pretrained.get(name, [None]), table.schema.field(name).type) for name in columns})
    return pa.concat_tables([first, table])


def _average(values: np.ndarray) -> np.ndarray:
    """Mean over the tasks a base model has; every base model here has at least one."""
    return np.nanmean(values, axis=1) if values.size else np.zeros(len(values))


def integrity_table(assessment: Assessment) -> pa.Table:
    """The gate's verdict on every row."""
    audit = assessment.audit
    return pa.table(
        {
            "base_model": pa.array([row.base_model for row in assessment.rows], pa.string()),
            "row": pa.array([row.source_row for row in assessment.rows], pa.int64()),
            "seed": pa.array([row.seed for row in assessment.rows], pa.int64()),
            "status": pa.array(audit.status, pa.string()),
            "kind": pa.array(audit.kind, pa.string()),
            "reason": pa.array(audit.reason, pa.string()),
            "lost_tasks": pa.array([" ".join(tasks) for tasks in audit.lost_tasks], pa.string()),
            "evidence": pa.array(audit.evidence, pa.string()),
        }
    )


def _print(config: AppConfig, assessment: Assessment) -> None:
    estimate, ranking = assessment.estimate, assessment.ranking
    average = float(np.mean(assessment.baseline_score))
    cells = int(np.isfinite(assessment.baseline).sum())
    rows = [
        [
            "",
            f"{assessment.pretrained} (pretrained)",
            str(len(assessment.tasks)),
            str(cells),
            points(average),
            "",
            "",
            "",
            "",
        ]
    ]
    task_score = _average(assessment.task_score)
    for index, name in enumerate(assessment.bases[:SHOWN]):
        spread = f"{ranking.rank_low[index]}-{ranking.rank_high[index]}" if assessment.complete[index] else "-"
        rows.append(
            [
                str(assessment.rank[index] or "-"),
                name + (" (repaired)" if assessment.integrity[index] == "repaired" else ""),
                str(assessment.n_tasks[index]),
                str(assessment.n_cells[index]),
                points(task_score[index]),
                points(estimate.gain[index], signed=True),
                points(estimate.se[index]),
                spread,
                str(ranking.tie_group[index] or "-"),
            ]
        )
    title = f"{config.arch.name}: {len(assessment.bases)} base models against the pretrained one, {len(assessment.tasks)} tasks"
    columns = ["rank", "base model", "tasks", "cells", "average", "gain", "± se", "rank 95 %", "tie"]
    print_table(title, columns, rows, left=2)
    if len(assessment.bases) > SHOWN:
        console.print(f"... and {len(assessment.bases) - SHOWN} more in the files")
    set_aside = sum(status == "quarantined" for status in assessment.audit.status)
    if set_aside:
        console.print(f"{set_aside} of {len(assessment.rows)} rows set aside by the integrity gate")
    console.print(ranking.sentence)
    for note in assessment.notes:
        console.print(f"note: {note}")


def write_base_runs(store: TrackingStore, assessment: Assessment) -> int:
    """One MLflow run per base model, for the compare view; only what is new or changed is written, what is gone is deleted.

    Returns how many were written.
    """
    now = int(time.time() * 1000)
    wanted = _base_runs(assessment)
    present = store.summary_keys(Kind.BASE)
    for key, run_id in present.items():
        if key not in wanted:
            store.client.delete_run(run_id)
    new = {key: item for key, item in wanted.items() if key not in present}
    for key, (name, metrics) in new.items():
        store.write_run(
            name=name,
            tags={Tag.KIND: Kind.BASE, Tag.KEY: key},
            params={Param.ARCH: store.arch, Param.BASE_MODEL: name, Param.SETTINGS: assessment.settings},
            history=[(metric, value, 0, now) for metric, value in metrics.items()],
        )
    return len(new)


def _base_runs(assessment: Assessment) -> dict[str, tuple[str, dict[str, float]]]:
    """Key -> (base model, metrics) of every base run there should be; the key changes with any number."""
    return {
        digest([assessment.settings, name, sorted(metrics.items())]): (name, metrics)
        for name, metrics in _base_metrics(assessment).items()
    }


def _base_metrics(assessment: Assessment) -> dict[str, dict[str, float]]:
    """Metrics of every ranked base model, and of the pretrained one."""
    estimate, gain, score = assessment.estimate, assessment.gain, assessment.task_score
    average = _average(score)
    found: dict[str, dict[str, float]] = {
        assessment.pretrained: {
            Metric.AVG_SCORE: float(np.mean(assessment.baseline_score)) / 100,
            Metric.AVG_GAIN: 0.0,
            Metric.N_TASKS: float(len(assessment.tasks)),
        }
        | {
            metric_name(Metric.TASK_SCORE, t): v / 100
            for t, v in zip(assessment.tasks, assessment.baseline_score, strict=True)
        }
    }
    for index in np.flatnonzero(assessment.complete):
        values = {
            Metric.AVG_SCORE: average[index] / 100,
            Metric.AVG_GAIN: estimate.gain[index],
            Metric.AVG_GAIN_SE: estimate.se[index],
            Metric.RANK: float(assessment.rank[index]),
            Metric.N_TASKS: float(assessment.n_tasks[index]),
            Metric.N_CELLS: float(assessment.n_cells[index]),
        }
        for column, task in enumerate(assessment.tasks):
            values[metric_name(Metric.TASK_SCORE, task)] = score[index, column] / 100
            values[metric_name(Metric.TASK_GAIN, task)] = gain[index, column]
        found[assessment.bases[index]] = {name: float(value) for name, value in values.items() if np.isfinite(value)}
    return found
