"""`make proxies TASK=...`: score every candidate for one target by every transferability score, beside what needs no score."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from analysis.proxies import ENSEMBLE, PROXIES, average_places
from ray_app.commands.console import console, print_table, write_csv
from ray_app.commands.rank import assess_table
from ray_app.config import AppConfig
from ray_app.sweeps.plan import PlannedCell, Study, plan_cells
from ray_app.sweeps.progress import spell_time
from ray_app.sweeps.proxy_scoring import CandidateScores, score_here, score_on_ray
from ray_app.sweeps.session import SweepSession, check_folder
from tracking.errors import CheckpointError, ConfigError, TableError
from tracking.names import file_name
from tracking.store import exclusive_writer

OK, SOME_LEFT_OUT = 0, 1
SHOWN = 25
"""Rows printed; the file holds all."""
FEW = 16
"""Most candidates that are scored in this process when Ray would have to be started for them."""
STATIC = ("average_other_tasks", "n_parameters", "downloads", "random")
"""What ranks candidates without looking at the target's rows."""


@dataclass(frozen=True, kw_only=True)
class ScoredCandidates:
    """Every candidate with its scores for one task."""

    task: str
    pretrained: str
    scores: list[CandidateScores]
    """One a base model."""
    places: list[float]
    """Mean place over the ensemble's scores, in [0, 1]; NaN without any."""
    static: list[dict[str, float]]
    """``STATIC`` by name; NaN where unknown."""


def run(config: AppConfig) -> int:
    """Score, print and write the file; returns the exit code.

    Raises:
        ConfigError: TASK is not given.
    """
    if config.task is None:
        raise ConfigError("TASK: not given; name the target, for instance TASK=rte")
    started = time.perf_counter()
    check_folder(config.out, min_free_bytes=int(config.cluster.min_free_gb * 1e9))
    with exclusive_writer(config.out):
        session = SweepSession(config, console=console)
        table = session.open()
        study = proxy_study(session, [config.task])
        found = score_candidates(session, study, measured_gains(config, table))[config.task]
    path = _write(config, found)
    _print(config, found)
    n_without = sum(bool(scores.reason) for scores in found.scores)
    console.print(
        f"{len(found.scores) - n_without} candidates scored, {n_without} left out in "
        f"{spell_time(time.perf_counter() - started)}; written: {path}"
    )
    return SOME_LEFT_OUT if n_without else OK


def proxy_study(session: SweepSession, tasks: list[str]) -> Study:
    """The candidates of a request on some tasks, with no more training rows than scores need."""
    config = session.config
    caps = config.suite.caps
    fewer = dataclasses.replace(caps, train=min(caps.train or config.proxy_rows, config.proxy_rows))
    suite = dataclasses.replace(config.suite, tasks=tasks, caps=fewer, train_sizes=[])
    return session.study(dataclasses.replace(config, suite=suite), probe=True)


def score_candidates(
    session: SweepSession,
    study: Study,
    gains: Mapping[tuple[str, str], float],
    *,
    only: Collection[str] | None = None,
    names: Sequence[str] = tuple(PROXIES),
) -> dict[str, ScoredCandidates]:
    """Score every candidate of a study on every target; an intermediate model made under several seeds by its first.

    Args:
        session: opened.
        study: from ``proxy_study``.
        gains: measured gain by (base model, task), points, for the average over other tasks.
        only: base models to score; None: all.
        names: scores to compute.
    """
    results: dict[tuple[str, str], CandidateScores] = {}
    ready: list[PlannedCell] = []
    for cell in _first_cells(plan_cells(study)):
        key = (cell.identity.task, cell.identity.base_model)
        if only is not None and key[1] not in only:
            continue
        try:
            made = cell.checkpoint or session.storage.models / str(cell.requires)
            if not (made / "config.json").exists():
                raise CheckpointError("its source finetune is not there; run `make sweep` first")
            ready.append(session.prepare(study, dataclasses.replace(cell, checkpoint=made)))
        except CheckpointError as error:
            results[key] = CandidateScores(base_model=key[1], task=key[0], reason=error.message)
    for scores in _scored(session, sorted(ready, key=lambda cell: cell.identity.base_model), names):
        results[scores.task, scores.base_model] = scores
    return {
        target.name: _gathered(session.config, study, target.name, results, gains)
        for target in {target.name: target for target in study.targets}.values()
    }


def _first_cells(cells: Iterable[PlannedCell]) -> list[PlannedCell]:
    """One cell a task and base model."""
    first: dict[tuple[str, str], PlannedCell] = {}
    for cell in cells:
        if cell.role == "target":
            first.setdefault((cell.identity.task, cell.identity.base_model), cell)
    return list(first.values())


def _scored(session: SweepSession, cells: list[PlannedCell], names: Sequence[str]) -> Iterable[CandidateScores]:
    """Scores as they come, a line for each candidate."""
    orders = [session.order(cell) for cell in cells]
    cluster = session.config.cluster
    if cluster.address is None and len(orders) <= FEW and not session.up:
        yield from _told(score_here(orders, cluster, names), len(orders))
    else:
        with contextlib.nullcontext() if session.up else session.cluster():
            yield from _told(score_on_ray(orders, cluster, names), len(orders))


def _told(scores: Iterable[CandidateScores], total: int) -> Iterable[CandidateScores]:
    for number, one in enumerate(scores, start=1):
        console.print(
            f"[{number}/{total}] {one.base_model} on {one.task}: {one.reason or f'{one.seconds:.1f} s'}", markup=False
        )
        yield one


def _gathered(
    config: AppConfig,
    study: Study,
    task: str,
    results: Mapping[tuple[str, str], CandidateScores],
    gains: Mapping[tuple[str, str], float],
) -> ScoredCandidates:
    """The candidates of one task, with places and what is known without a score."""
    found = [scores for (name, _), scores in results.items() if name == task]
    found += [CandidateScores(base_model=name, task=task, reason=why) for name, why in study.left_out.items()]
    matrix = [[scores.values.get(name, math.nan) for name in ENSEMBLE] for scores in found]
    downloads = known_downloads(config)
    chance = np.random.default_rng(0).random(len(found))
    pretrained = study.checkpoints[study.arch.pretrained.id]
    static = []
    for index, scores in enumerate(found):
        others = [gain for (base, other), gain in gains.items() if base == scores.base_model and other != task]
        checkpoint = study.checkpoints.get(scores.base_model, pretrained)
        static.append(
            {
                "average_other_tasks": float(np.mean(others)) if others else math.nan,
                "n_parameters": float(checkpoint.n_parameters),
                "downloads": downloads.get(scores.base_model, math.nan),
                "random": float(chance[index]),
            }
        )
    places = average_places(np.array(matrix).reshape(len(found), len(ENSEMBLE)))
    return ScoredCandidates(
        task=task, pretrained=study.arch.pretrained.id, scores=found, places=places.tolist(), static=static
    )


def measured_gains(config: AppConfig, table: pa.Table) -> dict[tuple[str, str], float]:
    """Gains that are measured already, by (base model, task), points; empty where nothing is."""
    try:
        assessment = assess_table(config, table)
    except TableError:
        return {}
    gain = assessment.gain
    found = {
        (base, task): float(gain[row, column])
        for row, base in enumerate(assessment.bases)
        for column, task in enumerate(assessment.tasks)
        if np.isfinite(gain[row, column])
    }
    return found | {(assessment.pretrained, task): 0.0 for task in assessment.tasks}


def known_downloads(config: AppConfig) -> dict[str, float]:
    """Downloads by base model from what `make discover` wrote for this architecture; empty without it."""
    path = config.out / "discover" / f"{file_name(config.arch.name)}.csv"
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {row["base_model"]: float(row["downloads"]) for row in csv.DictReader(file) if row.get("downloads")}


def _order(found: ScoredCandidates) -> list[int]:
    """Best place first, those without one last."""
    return sorted(
        range(len(found.scores)),
        key=lambda index: (
            math.isnan(found.places[index]),
            -np.nan_to_num(found.places[index]),
            found.scores[index].base_model,
        ),
    )


def _write(config: AppConfig, found: ScoredCandidates) -> Path:
    columns = ["base_model", *PROXIES, "ensemble", *STATIC, "baseline", "refusals", "reason", "seconds"]

    def cell(value: float) -> float | None:
        return None if math.isnan(value) else value

    rows: list[list[object]] = []
    for index in _order(found):
        scores = found.scores[index]
        refusals = "; ".join(f"{name}: {why}" for name, why in scores.refusals.items())
        rows.append(
            [
                scores.base_model,
                *(cell(scores.values.get(name, math.nan)) for name in PROXIES),
                cell(found.places[index]),
                *(cell(found.static[index][name]) for name in STATIC),
                scores.base_model == found.pretrained,
                refusals,
                scores.reason,
                scores.seconds,
            ]
        )
    return write_csv(config.out / "proxies" / f"{found.task}.csv", columns, rows)


def _print(config: AppConfig, found: ScoredCandidates) -> None:
    lines = []
    for index in [index for index in _order(found) if not found.scores[index].reason][:SHOWN]:
        scores = found.scores[index]
        mark = " (pretrained)" if scores.base_model == found.pretrained else ""
        numbers = [*(scores.values[name] for name in PROXIES), found.places[index]]
        lines.append([scores.base_model + mark, *("-" if math.isnan(value) else f"{value:.4g}" for value in numbers)])
    print_table(
        f"{config.arch.name}: scores for {found.task}, best place first", ["base model", *PROXIES, "place"], lines
    )
    why: dict[str, int] = {}
    for scores in found.scores:
        for name, reason in scores.refusals.items():
            why[f"{name}: {reason}"] = why.get(f"{name}: {reason}", 0) + 1
    for reason, count in list(why.items())[:10]:
        console.print(f"refused for {count} candidates: {reason}", markup=False)
    for scores in [scores for scores in found.scores if scores.reason][:SHOWN]:
        console.print(f"left out: {scores.base_model}: {scores.reason}", markup=False)
