"""The tables behind the pages, to download: CSV for spreadsheets and Parquet for programs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.report.site.content import ArchReport, ModelReport
from tracking.delimited import spreadsheet_safe


def csv_bytes(table: pa.Table) -> bytes:
    """A table as UTF-8 CSV; texts that a spreadsheet would run as a formula get a leading apostrophe, null is empty."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([spreadsheet_safe(name) for name in table.column_names])
    columns = (table[name].to_pylist() for name in table.column_names)
    writer.writerows([_cell(value) for value in row] for row in zip(*columns, strict=True))
    return buffer.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, str):
        return spreadsheet_safe(value)
    return "" if value is None else value


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as Parquet; texts as they are."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_statistics=False, use_dictionary=False)
    return sink.getvalue()


def architectures_table(reports: Iterable[ArchReport]) -> pa.Table:
    """An architecture a row."""
    rows = []
    for report in reports:
        best = report.ranked[0] if report.ranked else None
        rows.append(
            {
                "architecture": report.name,
                "pretrained": report.pretrained,
                "pretrained_avg": report.avg_score,
                "n_tasks": len(report.tasks),
                "n_models": len(report.models),
                "n_ranked": len(report.ranked),
                "n_quarantined": report.count("quarantined"),
                "best_model": best.name if best else None,
                "best_avg_gain": best.avg_gain if best else None,
                "best_gain_low": best.low if best else None,
                "best_gain_high": best.high if best else None,
                "verdict": report.verdict.value,
                "sentence": report.sentence,
            }
        )
    return _nan_to_null(pa.Table.from_pylist(rows))


def ranking_download(report: ArchReport) -> pa.Table:
    """A base model a row, as the ranking page has them, with a column a task."""
    models = report.models
    columns: dict[str, list[object]] = {
        "base_model": [m.name for m in models],
        "rank": [m.rank for m in models],
        "avg_gain": [m.avg_gain for m in models],
        "avg_gain_se": [m.noise for m in models],
        "gain_low": [m.low for m in models],
        "gain_high": [m.high for m in models],
        "avg_score": [m.avg_score for m in models],
        "gain_shrunken": [m.gain_shrunken for m in models],
        "rank_low": [m.rank_low for m in models],
        "rank_high": [m.rank_high for m in models],
        "tie_group": [m.tie_group for m in models],
        "p_adjusted": [m.p_adjusted for m in models],
        "n_tasks": [m.n_tasks for m in models],
        "integrity": [m.standing.value for m in models],
        "probe_mnli": [m.probe for m in models],
        "trained_on": [None if m.trained_on is None else " ".join(m.trained_on) for m in models],
    }
    for place, task in enumerate(report.tasks):
        columns[f"score.{task}"] = [m.cells[place].score if m.cells else math.nan for m in models]
    text, whole = ("base_model", "integrity", "trained_on"), ("rank", "rank_low", "rank_high", "tie_group", "n_tasks")
    return _nan_to_null(
        pa.table(
            {
                name: pa.array(values, pa.string() if name in text else pa.int64() if name in whole else pa.float64())
                for name, values in columns.items()
            }
        )
    )


def integrity_download(report: ArchReport) -> pa.Table:
    """A finding of the integrity gate a row."""
    pairs = [(model, finding) for model in report.models for finding in model.findings]
    columns = {
        "base_model": [model.name for model, _ in pairs],
        "row": [finding.row for _, finding in pairs],
        "status": [finding.status for _, finding in pairs],
        "kind": [finding.kind for _, finding in pairs],
        "reason": [finding.reason for _, finding in pairs],
        "lost_tasks": [" ".join(finding.lost_tasks) for _, finding in pairs],
        "evidence": [finding.evidence for _, finding in pairs],
    }
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def baseline_download(report: ArchReport) -> pa.Table:
    """A task a row: the pretrained model's mean, deviation and seeds."""
    tasks = report.baseline
    return _nan_to_null(
        pa.table(
            {
                "task": pa.array([t.task for t in tasks], pa.string()),
                "mean": [t.mean for t in tasks],
                "std": [t.sd for t in tasks],
                "n_seeds": [t.n_seeds for t in tasks],
                "pooled_std": [t.pooled_sd for t in tasks],
                "pooled_df": [t.pooled_df for t in tasks],
                "test_size": pa.array([t.test_size or None for t in tasks], pa.int64()),
            }
        )
    )


def gains_download(report: ArchReport) -> pa.Table:
    """A base model with trusted scores a row: its gain on every task."""
    models = [model for model in report.models if model.n_tasks]
    columns = {
        "base_model": pa.array([m.name for m in models], pa.string()),
        "avg_gain": pa.array([m.avg_gain for m in models], pa.float64()),
    }
    columns |= {
        f"gain.{task}": pa.array([m.cells[place].gain for m in models], pa.float64())
        for place, task in enumerate(report.tasks)
    }
    return _nan_to_null(pa.table(columns))


def probe_download(report: ArchReport) -> pa.Table:
    """A base model with a probe score a row."""
    models = [model for model in report.models if not math.isnan(model.probe)]
    return _nan_to_null(
        pa.table(
            {
                "base_model": pa.array([m.name for m in models], pa.string()),
                "probe_mnli": pa.array([m.probe for m in models], pa.float64()),
                "avg_gain": pa.array([m.avg_gain for m in models], pa.float64()),
                "n_tasks": pa.array([m.n_tasks for m in models], pa.int64()),
            }
        )
    )


def model_download(report: ArchReport, model: ModelReport) -> pa.Table:
    """A task a row: score, gain and noise of one base model."""
    cells = model.cells
    return _nan_to_null(
        pa.table(
            {
                "task": pa.array([c.task for c in cells], pa.string()),
                "score": [c.score for c in cells],
                "gain": [c.gain for c in cells],
                "gain_se": [c.noise for c in cells],
                "pretrained": [t.mean for t in report.baseline],
                "n_seeds": [c.n_seeds for c in cells],
                "status": [c.status for c in cells],
                "recorded": [c.recorded for c in cells],
                "runs": [" ".join(c.runs) for c in cells],
            }
        )
    )


def _nan_to_null(table: pa.Table) -> pa.Table:
    """The same with null for NaN."""
    columns = {}
    for field in table.schema:
        column = table[field.name]
        if pa.types.is_floating(field.type):
            column = pa.array(column.to_numpy(zero_copy_only=False), from_pandas=True)
        columns[field.name] = column
    return pa.table(columns)
