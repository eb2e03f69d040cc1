"""`make backtest`: which score would have found the good base models, measured on the finetunes that are there."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from analysis.backtest import (
    METRICS,
    PredictorRecord,
    average_of_other_tasks,
    chosen_on_other_tasks,
    ensemble_of,
    judge_predictors,
)
from analysis.proxies import ENSEMBLE, PROXIES
from analysis.report.backtest_figures import draw_by_task, draw_predictors
from analysis.report.figure_style import store_figure, styled
from analysis.study import GainStudy
from ray_app.commands.console import console, print_table
from ray_app.commands.proxies import known_downloads, measured_gains, proxy_study, score_candidates
from ray_app.config import AppConfig
from ray_app.studies import LoadedStudy, load_study
from ray_app.sweeps.session import SweepSession
from tracking.errors import InputError, StorageError
from tracking.names import file_name
from tracking.records import write_atomically
from tracking.schema import Kind, Method
from tracking.source_columns import read_source_numbers
from tracking.store import exclusive_writer
from tracking.table import scored_cells

SEED = 0
"""Seed of the bootstrap, so that the same cells give the same intervals."""
FloatArray = npt.NDArray[np.float64]
CHOSEN = "chosen_on_other_tasks"


def run(config: AppConfig) -> int:
    """Judge every score that can be had, print, write JSON and figures; returns the exit code.

    Raises:
        TableError: nothing measured, or no pretrained model to measure gains against.
    """
    loaded = load_study(config)
    for fault in loaded.faults:
        console.print(f"note: {fault}")
    study, notes = loaded.study, []
    predictors = {name: _full(scores, study) for name, scores in static_predictors(config, loaded).items()}
    predictors |= own_probes(loaded)
    scores, note = proxy_predictors(config, loaded)
    predictors |= scores
    notes += [note] if note else []
    chosen: tuple[str, ...] = ()
    candidates = {name: values for name, values in predictors.items() if name not in ("random", "downloads")}
    if len(candidates) > 1:
        predictors[CHOSEN], chosen = chosen_on_other_tasks(study.gain, candidates)
    known = {name: values for name, values in predictors.items() if np.isfinite(values).any()}
    notes += [f"{name}: not known for any base model" for name in predictors if name not in known]
    records = judge_predictors(study.gain, known, rng=np.random.default_rng(SEED))
    stem = config.out / "backtest" / file_name(config.arch.name)
    figures = _draw(config, study, records, stem)
    path = stem.with_name(stem.name + ".json")
    plain = backtest_as_plain(study, records, chosen, notes) | {"figures": figures}
    write_atomically(path, json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False).encode())
    _print(config, study, records, notes)
    console.print(f"written: {path}, figures beside it")
    return 0


def _full(scores: FloatArray, study: GainStudy) -> FloatArray:
    """One score a base model as the same score on every task."""
    return scores if scores.ndim == 2 else np.repeat(scores[:, None], len(study.tasks), axis=1)


def static_predictors(config: AppConfig, loaded: LoadedStudy) -> dict[str, FloatArray]:
    """What ranks base models without looking at a task's rows; (n_bases,) or (n_bases, n_tasks)."""
    study = loaded.study
    sizes = read_source_numbers(config.tracking_uri, config.arch.name, "size")
    downloads = known_downloads(config)
    return {
        "probe_mnli": study.probe,
        "average_other_tasks": average_of_other_tasks(study.gain),
        "n_parameters": np.array([sizes.get(base, math.nan) for base in study.bases]),
        "downloads": np.array([downloads.get(base, math.nan) for base in study.bases]),
        "random": np.zeros(len(study.bases)),
    }


def own_probes(loaded: LoadedStudy) -> dict[str, FloatArray]:
    """Own probes of each base model on each task itself, of the settings with the most of them; none: empty."""
    study = loaded.study
    cells = scored_cells(loaded.table)
    probed = cells.filter(
        pc.and_(pc.equal(cells["method"], str(Method.PROBE)), pc.equal(cells["kind"], str(Kind.CELL)))
    )
    here = probed.filter(pc.is_in(probed["task"], pa.array(study.tasks, pa.string())))
    if not here.num_rows:
        return {}
    settings = here["settings"].to_pylist()
    most = max(sorted(set(settings)), key=settings.count)
    row_of = {base: row for row, base in enumerate(study.bases)}
    column_of = {task: column for column, task in enumerate(study.tasks)}
    sums, counts = np.zeros(study.gain.shape), np.zeros(study.gain.shape)
    columns = (here[name].to_pylist() for name in ("base_model", "task", "score", "settings"))
    for base, task, score, under in zip(*columns, strict=True):
        if under == most and base in row_of:
            sums[row_of[base], column_of[task]] += score
            counts[row_of[base], column_of[task]] += 1
    with np.errstate(invalid="ignore"):
        return {"probe": sums / counts} if counts.any() else {}


def proxy_predictors(config: AppConfig, loaded: LoadedStudy) -> tuple[dict[str, FloatArray], str]:
    """Every score of every base model whose checkpoint this configuration has, and a note where there is none."""
    study = loaded.study
    if not pc.any(pc.equal(loaded.table["kind"], str(Kind.CELL))).as_py():
        return {}, "scores: the results are published ones, so there are no checkpoints to score; probes only"
    try:
        with exclusive_writer(config.out):
            session = SweepSession(config, console=console)
            table = session.open()
            candidates = proxy_study(session, list(study.tasks))
            found = score_candidates(session, candidates, measured_gains(config, table))
    except InputError as error:
        return {}, f"scores: {error.message}"
    scores: dict[str, FloatArray] = {name: np.full(study.gain.shape, math.nan) for name in PROXIES}
    n_parameters = np.full(study.gain.shape, math.nan)
    row_of = {base: row for row, base in enumerate(study.bases)}
    for column, task in enumerate(study.tasks):
        for one in found[task].scores:
            if one.base_model in row_of:
                for name, value in one.values.items():
                    scores[name][row_of[one.base_model], column] = value
        sizes = {
            one.base_model: static["n_parameters"]
            for one, static in zip(found[task].scores, found[task].static, strict=True)
        }
        n_parameters[:, column] = [sizes.get(base, math.nan) for base in study.bases]
    if np.isfinite(n_parameters).any():
        scores["n_parameters"] = n_parameters
    scores["ensemble"] = ensemble_of([scores[name] for name in ENSEMBLE])
    without = sorted(
        set(study.bases) - {one.base_model for part in found.values() for one in part.scores if not one.reason}
    )
    note = f"scores: none for {', '.join(without[:5])}{', ...' if len(without) > 5 else ''}" if without else ""
    return scores, note


def backtest_as_plain(
    study: GainStudy, records: Sequence[PredictorRecord], chosen: Sequence[str], notes: Sequence[str]
) -> dict[str, Any]:
    """The JSON file; regrets in points, a missing number is null."""
    return {
        "arch": study.arch,
        "settings": study.settings,
        "n_bases": len(study.bases),
        "n_tasks": len(study.tasks),
        "metrics": list(METRICS),
        "predictors": {record.name: _record_as_plain(record, study.tasks) for record in records},
        CHOSEN: dict(zip(study.tasks, chosen, strict=True)) if chosen else {},
        "notes": list(notes),
    }


def _record_as_plain(record: PredictorRecord, tasks: Sequence[str]) -> dict[str, Any]:
    return {
        "n_tasks": record.n_tasks,
        "mean": _numbers(record.mean, record.mean_low, record.mean_high),
        "tasks": {
            task: {"n_bases": int(record.n_bases[row])}
            | _numbers(record.values[row], record.low[row], record.high[row])
            for row, task in enumerate(tasks)
        },
    }


def _numbers(values: FloatArray, low: FloatArray, high: FloatArray) -> dict[str, Any]:
    def plain(number: float) -> float | None:
        return float(number) if math.isfinite(number) else None

    return {
        name: {"value": plain(values[place]), "low": plain(low[place]), "high": plain(high[place])}
        for place, name in enumerate(METRICS)
    }


def _draw(config: AppConfig, study: GainStudy, records: Sequence[PredictorRecord], stem: Path) -> Mapping[str, Any]:
    title = f"{config.arch.name}: {len(study.bases)} base models, {len(study.tasks)} tasks"
    drawn = {}
    with styled():
        figures = {
            "predictors": draw_predictors(records, title=title),
            "tasks": draw_by_task(records, study.tasks, title=title),
        }
        for name, figure in figures.items():
            if isinstance(figure, str):
                drawn[name] = {"files": [], "reason": figure}
                continue
            try:
                files = store_figure(figure, stem.with_name(f"{stem.name}-{name}"))
            except OSError as error:
                raise StorageError(
                    f"cannot write figures to {stem.parent} ({error.strerror or error}); free space or choose OUT=dir",
                    path=str(stem),
                ) from error
            drawn[name] = {"files": [path.name for path in files], "reason": ""}
    return drawn


def _print(config: AppConfig, study: GainStudy, records: Sequence[PredictorRecord], notes: Sequence[str]) -> None:
    regret = METRICS.index("regret_3")
    ordered = sorted(records, key=lambda record: np.nan_to_num(record.mean[regret], nan=np.inf))
    lines = [
        [record.name, str(record.n_tasks), *(_cell(record, place) for place in range(len(METRICS)))]
        for record in ordered
    ]
    title = (
        f"{config.arch.name}: scores against the gains of {len(study.bases)} base models on {len(study.tasks)} tasks, "
        "means with 95 % intervals over tasks; regret in points"
    )
    print_table(title, ["score", "tasks", *METRICS], lines)
    for note in [*study.notes, *notes]:
        console.print(f"note: {note}", markup=False)


def _cell(record: PredictorRecord, place: int) -> str:
    if not math.isfinite(record.mean[place]):
        return "-"
    text = f"{record.mean[place]:.2f}"
    if math.isfinite(record.mean_low[place]):
        text += f" ({record.mean_low[place]:.2f}, {record.mean_high[place]:.2f})"
    return text
