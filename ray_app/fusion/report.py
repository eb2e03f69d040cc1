"""What an experiment leaves under <out>/cold-fusion/<name>: tables, curves, the list of its base models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from analysis.report.fusion_figures import Curve, Panel, draw_curves
from analysis.report.pipe_table import PipeColumn, pipe_table
from ray_app.commands.console import points, write_csv, write_results
from ray_app.config import AppConfig
from ray_app.fusion.evaluation import Evaluation, How
from ray_app.fusion.experiment import Experiment
from ray_app.fusion.results import BEST_SINGLE, PRETRAINED, SINGLE, ResultRow, best_single_task
from tracking.errors import StorageError
from tracking.records import write_atomically

_HOW = {How.FINETUNED: "finetuned", How.FROZEN: "frozen (probe)", How.FEW_SHOT: "few rows"}
_CONTRIBUTION = (
    "task",
    "part",
    "seed",
    "key",
    "began",
    "role",
    "reason",
    "weight",
    "score",
    "probe",
    "train_s",
    "examples_seen",
)
_ITERATION = (
    "name", "variant", "seed", "iteration", "accepted", "reason", "n_used", "n_contributions", "revision", "probe_before",
    "probe_after", "probe_se", "waited_s", "fuse_s", "folder",
)  # fmt: skip


def results_folder(config: AppConfig) -> Path:
    """Where the files of an experiment are."""
    return config.out / "cold-fusion" / config.cold_fusion.name


def write_iterations(experiment: Experiment) -> list[Path]:
    """iterations.csv and contributions.csv: what every base model was made of, and what was left out and why."""
    folder = results_folder(experiment.config)
    iterations, contributions = [], []
    for loop in experiment.loops:
        for one in loop.iterations:
            where = str(loop.folder / one.folder) if one.folder else ""
            values = asdict(one) | {
                "name": loop.base_name(one.number), "variant": loop.label, "seed": loop.seed, "iteration": one.number,
                "n_used": len(one.used), "n_contributions": len(one.contributions), "folder": where,
            }  # fmt: skip
            iterations.append([values[name] for name in _ITERATION])
            for part in one.contributions:
                plain = asdict(part) | {"role": part.role.value}
                contributions.append([loop.label, loop.seed, one.number, *(plain[name] for name in _CONTRIBUTION)])
    columns = ["variant", "run_seed", "iteration", *_CONTRIBUTION]
    return [
        write_csv(folder / "iterations.csv", _ITERATION, iterations),
        write_csv(folder / "contributions.csv", columns, contributions),
    ]


def write_candidates(evaluation: Evaluation) -> Path:
    """candidates.yaml: every base model of the experiment as a candidate of sweeps, probes, cards and searches."""
    config = evaluation.experiment.config
    path = results_folder(config) / f"{config.cold_fusion.name}.yaml"
    products = {one.name: one for one in map(evaluation.canonical, evaluation.products) if not one.base.pretrained}
    models = [{"id": name, "path": str(one.base.folder)} for name, one in products.items()]
    head = (
        f"# make probe ARCH={config.arch.name} CANDIDATES={path.stem}, after cp {path} conf/candidates/\n"
        f"# Source: make cold-fusion, experiment {config.cold_fusion.name}; each base model was made under one seed (its -s) and stays "
        "where its path says.\n"
    )
    body = yaml.safe_dump(
        {"name": config.cold_fusion.name, "source": "make cold-fusion", "models": models}, sort_keys=False
    )
    write_atomically(path, (head + body).encode())
    return path


def write_rows(evaluation: Evaluation, rows: Sequence[ResultRow]) -> list[Path]:
    """results.csv, .parquet and .md, summary.json, curve.png and .svg."""
    experiment = evaluation.experiment
    folder = results_folder(experiment.config)
    names = [part.name for part in fields(ResultRow)]
    table = pa.table({name: [getattr(row, name) for row in rows] for name in names})
    written = list(write_results(folder / "results", table))
    page = folder / "results.md"
    write_atomically(page, (markdown_table(rows) + "\n").encode())
    summary = folder / "summary.json"
    write_atomically(summary, json.dumps(_summary(evaluation, rows), indent=1, allow_nan=False).encode())
    return [*written, page, summary, *_write_curve(evaluation, rows, folder / "curve")]


def _summary(evaluation: Evaluation, rows: Sequence[ResultRow]) -> dict[str, Any]:
    experiment = evaluation.experiment
    missing = [
        {"how": how.value, "base_model": name, "task": task, "seed": seed}
        for how, name, task, seed in evaluation.missing()
    ]
    return {
        "experiment": experiment.config.cold_fusion.name,
        "arch": experiment.config.arch.name,
        "seen": experiment.split.seen,
        "unseen": experiment.split.unseen,
        "seeds": experiment.config.seeds,
        "failed": {name: error.message for name, error in experiment.feed.failures.items()},
        "best_single": best_single_task(rows),
        "missing": missing,
        "rows": [asdict(row) for row in rows],
    }


def shown_rows(rows: Sequence[ResultRow], how: str) -> list[list[str]]:
    """One line a candidate that is the last of its loop, gains on all, seen and unseen targets with their errors."""
    chosen = [row for row in rows if row.how == how and row.last and not row.candidate.startswith(SINGLE)]
    best = best_single_task(rows)
    order = [PRETRAINED, BEST_SINGLE]
    labels = [*order, *(name for name in dict.fromkeys(row.candidate for row in chosen) if name not in order)]
    lines = []
    for label in labels:
        by_targets = {row.targets: row for row in chosen if row.candidate == label}
        if "all" not in by_targets:
            continue
        whole = by_targets["all"]
        name = f"{label} ({best})" if label == BEST_SINGLE else label
        name += "" if whole.iteration is None else f", iteration {whole.iteration}"
        cells = [_gain(by_targets.get(targets)) for targets in ("all", "seen", "unseen")]
        against = "" if whole.minus_plain is None else _with_error(whole.minus_plain, whole.minus_plain_se)
        size = "" if whole.contributions is None else str(whole.contributions)
        lines.append([name, points(whole.score), *cells, against, size, f"{whole.n_tasks} x {whole.n_seeds}"])
    return lines


COLUMNS = (
    "base model",
    "score",
    "gain, all",
    "gain, seen",
    "gain, unseen",
    "minus plain",
    "finetunes",
    "tasks x seeds",
)


def markdown_table(rows: Sequence[ResultRow]) -> str:
    """The tables as Markdown, one for each way of trying."""
    parts = []
    for how in How:
        lines = shown_rows(rows, how.value)
        if lines:
            columns = [
                PipeColumn(header=name, cells=[line[place] for line in lines]) for place, name in enumerate(COLUMNS)
            ]
            parts.append(f"**{_HOW[how]}**\n\n{pipe_table(columns)}")
    return "\n\n".join(parts)


def _gain(row: ResultRow | None) -> str:
    return "-" if row is None else _with_error(row.gain, row.se)


def _with_error(value: float, se: float | None) -> str:
    return f"{value:+.2f} ± {'?' if se is None else f'{se:.2f}'}"


def _write_curve(evaluation: Evaluation, rows: Sequence[ResultRow], stem: Path) -> list[Path]:
    from analysis.report.figure_style import store_figure, styled

    experiment = evaluation.experiment
    with styled():
        figure = draw_curves(_panels(experiment, rows), title=f"{experiment.config.arch.name}: collaborative descent")
        if isinstance(figure, str):
            return []
        try:
            return list(store_figure(figure, stem))
        except OSError as error:
            raise StorageError(
                f"cannot write {stem} ({error}); free space or choose another folder with OUT=dir", path=str(stem)
            ) from error


def _panels(experiment: Experiment, rows: Sequence[ResultRow]) -> list[Panel]:
    """The first variant finetuned and frozen on seen and unseen targets, then all variants by what they cost."""
    first = experiment.first
    levels = [
        label
        for label in dict.fromkeys(row.candidate for row in rows)
        if label in (BEST_SINGLE, "fused_once", "multitask")
    ]
    panels = []
    for how in (How.FINETUNED, How.FROZEN):
        curves = [
            _curve(targets, [r for r in rows if (r.candidate, r.how, r.targets) == (first, how, targets)])
            for targets in ("seen", "unseen")
        ]
        held = [
            (f"{label}, all targets", row.gain)
            for label in levels
            for row in rows
            if (row.candidate, row.how, row.targets) == (label, how, "all")
        ]
        panels.append(
            Panel(title=f"{first}: {_HOW[how]}", x_label="iteration", curves=[c for c in curves if c.x], levels=held)
        )
    variants = experiment.config.cold_fusion.ways
    if len(variants) > 1:
        curves = [
            _curve(
                label, [r for r in rows if (r.candidate, r.how, r.targets) == (label, How.FROZEN, "all")], by_cost=True
            )
            for label in variants
        ]
        panels.append(
            Panel(
                title="variants: frozen, all targets",
                x_label="contributors' finetunes",
                curves=[c for c in curves if c.x],
            )
        )
    return panels


def _curve(name: str, rows: Sequence[ResultRow], *, by_cost: bool = False) -> Curve:
    ordered = sorted((row for row in rows if row.iteration is not None), key=lambda row: row.iteration or 0)
    places = [float((row.contributions if by_cost else row.iteration) or 0) for row in ordered]
    return Curve(name=name, x=places, gain=[row.gain for row in ordered], se=[row.se for row in ordered])
