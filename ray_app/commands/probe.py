"""`make probe`: rank base models by a linear head on their frozen features, without finetuning any."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ray_app.commands.console import console, points, print_table, write_csv
from ray_app.config import AppConfig
from ray_app.config_tree import as_plain
from ray_app.sweeps.outcome import SweepOutcome
from ray_app.sweeps.progress import spell_time
from ray_app.sweeps.session import SweepPlan, SweepSession, check_folder
from ray_app.training.tokens import Family
from tracking.names import file_name
from tracking.records import write_atomically
from tracking.schema import Kind, Tag
from tracking.store import exclusive_writer
from tracking.table import scored_cells

OK, SOME_FAILED, INFRASTRUCTURE, INTERRUPTED = 0, 1, 3, 130
SHOWN = 25
"""Rows printed; the file holds all."""
FEW = 16
"""Most cells that are run in this process when Ray would have to be started for them."""
SITE_TASK = "mnli"
"""What the model-recycling site probes every candidate on."""
COLUMNS = ("base_model", "task", "score", "gain", "rank", "n_eval", "n_seeds", "seconds", "baseline", "reason")


@dataclass(frozen=True, kw_only=True)
class ProbeRow:
    """One base model on one task."""

    base_model: str
    task: str
    score: float | None
    """Test score of the probe, fraction, mean over the seeds of an intermediate model; None: it has none."""
    gain: float | None
    """Score minus the pretrained model's, points (the paper's probe gain)."""
    rank: int | None
    """Place among the base models on this task; equal scores share one; the pretrained model has none."""
    n_eval: int | None
    """Test rows."""
    n_seeds: int
    """Seeds the score is a mean over."""
    seconds: float | None
    """Wall time of its cells; features that were in the cache already cost none."""
    baseline: bool
    """It is the pretrained model."""
    reason: str = ""
    """Why there is no score."""


@dataclass(frozen=True, kw_only=True)
class Probing:
    """What an invocation probed."""

    rows: list[ProbeRow]
    """Task by task, best first, those without a score last."""
    plan: SweepPlan
    outcome: SweepOutcome = field(default_factory=SweepOutcome)
    waiting: int = 0
    """Results that wait on disk because MLflow was away."""

    @property
    def exit_code(self) -> int:
        """0 all done, 1 some failed or left out, 3 results wait on disk, 130 interrupted."""
        if self.waiting:
            return INFRASTRUCTURE
        if self.outcome.interrupted:
            return INTERRUPTED
        return SOME_FAILED if self.outcome.failed or self.plan.left_out else OK


def run(config: AppConfig) -> int:
    """Probe, print the ranking and write its file; returns the exit code."""
    started = time.perf_counter()
    check_folder(config.out, min_free_bytes=int(config.cluster.min_free_gb * 1e9))
    choose_tasks(config)
    with exclusive_writer(config.out):
        session = SweepSession(config, console=console)
        session.open()
        plan = session.plan(session.study(config, probe=True))
        _print_plan(config, plan)
        if config.dry:
            return OK
        probing = probe_bases(session, plan)
        if probing.plan.todo and not probing.waiting:
            _write_run(session, probing, time.perf_counter() - started)
    path = _write(config, probing.rows)
    _print(config, probing)
    console.print(
        f"{len(probing.outcome.complete)} probes run, {len(plan.done)} complete before, {len(probing.outcome.failed)} failed in "
        f"{spell_time(time.perf_counter() - started)}; written: {path}"
    )
    return probing.exit_code


def choose_tasks(config: AppConfig) -> None:
    """Without TASKS=, candidates are probed on MNLI, as on the site; the embedded default and models of images on the suite's tasks.

    Of a suite with several training sizes the plain caps are taken.
    """
    config.suite.train_sizes = []
    if config.tasks is None and config.embedded is None and config.arch.family is not Family.IMAGE:
        config.suite.tasks = [SITE_TASK]


def probe_bases(session: SweepSession, plan: SweepPlan) -> Probing:
    """Run the probes of a plan that are not complete, and read the scores of all of them.

    Args:
        session: opened, with the right to write (``exclusive_writer``).
        plan: from ``session.plan(session.study(config, probe=True))``; ``config`` may be a part of the session's, such as one
            candidate on one task.
    """
    outcome, waiting = SweepOutcome(), 0
    if plan.todo:
        if _here(session.config, plan):
            outcome = session.run_here(plan.todo)
        else:
            with session.cluster():
                outcome = session.run(plan.todo)
        waiting = session.finish()
    return Probing(rows=_rows(session.sync(), plan, outcome), plan=plan, outcome=outcome, waiting=waiting)


def _here(config: AppConfig, plan: SweepPlan) -> bool:
    """Whether the cells are run in this process: few of them, none that trains, on this machine alone."""
    trains = any(cell.role == "source" for cell in plan.todo)
    return config.cluster.address is None and not trains and len(plan.todo) <= FEW


def _rows(table: pa.Table, plan: SweepPlan, outcome: SweepOutcome) -> list[ProbeRow]:
    """Scores of the plan's probes from the result table, ranked task by task."""
    targets = [cell for cell in plan.cells if cell.role == "target"]
    scored = scored_cells(table)
    found = scored.filter(pc.is_in(scored["key"], pa.array([cell.key for cell in targets], pa.string())))
    by_key = {row["key"]: row for row in found.select(["key", "score", "n_eval", "wall_s"]).to_pylist()}
    grouped: dict[tuple[str, str], list[str]] = {}
    for cell in targets:
        grouped.setdefault((cell.identity.task, cell.identity.base_model), []).append(cell.key)
    pretrained = plan.study.arch.pretrained.id
    rows = []
    for (task, base), keys in grouped.items():
        reason = next(
            (f"{stage}: {why}" for key in keys for stage, why in [outcome.failed.get(key, ("", ""))] if why), ""
        )
        rows.append(_row(base, task, [by_key[key] for key in keys if key in by_key], base == pretrained, reason))
    for variant in dict.fromkeys(target.name for target in plan.study.targets):
        rows += [_row(base, variant, [], False, why) for base, why in plan.study.left_out.items()]
    return [
        row for task in dict.fromkeys(row.task for row in rows) for row in _ranked([r for r in rows if r.task == task])
    ]


def _row(base: str, task: str, cells: list[dict[str, float]], baseline: bool, reason: str) -> ProbeRow:
    n = len(cells)
    return ProbeRow(
        base_model=base,
        task=task,
        score=sum(cell["score"] for cell in cells) / n if n else None,
        gain=None,
        rank=None,
        n_eval=int(cells[0]["n_eval"]) if n else None,
        n_seeds=n,
        seconds=sum(cell["wall_s"] or 0.0 for cell in cells) if n else None,
        baseline=baseline,
        reason=reason if not n else "",
    )


def _ranked(rows: list[ProbeRow]) -> list[ProbeRow]:
    """Rows of one task, best first, with gain and rank."""
    start = next((row.score for row in rows if row.baseline), None)
    scores = [row.score for row in rows if row.score is not None and not row.baseline]
    placed = []
    for row in rows:
        gain = None if row.score is None or start is None else 100 * (row.score - start)
        rank = None if row.score is None or row.baseline else 1 + sum(score > row.score for score in scores)
        placed.append(ProbeRow(**{**vars(row), "gain": gain, "rank": rank}))
    return sorted(placed, key=lambda row: (row.score is None, -(row.score or 0.0), row.base_model))


def _write(config: AppConfig, rows: Sequence[ProbeRow]) -> Path:
    """The file: scores and gains in points."""
    values = [
        [
            100 * value if name == "score" and value is not None else value
            for name in COLUMNS
            for value in [vars(row)[name]]
        ]
        for row in rows
    ]
    return write_csv(config.out / "probe" / f"{file_name(config.arch.name)}.csv", COLUMNS, values)


def _print_plan(config: AppConfig, plan: SweepPlan) -> None:
    bases = {cell.identity.base_model for cell in plan.cells if cell.role == "target"}
    n_sources = sum(cell.role == "source" for cell in plan.todo)
    tasks = ", ".join(dict.fromkeys(target.name for target in plan.study.targets))
    makes = f" ({n_sources} of them are finetunes that make base models)" if n_sources else ""
    console.print(
        f"{config.arch.name}: {len(bases)} base models probed on {tasks}; {len(plan.todo)} cells to run{makes}, "
        f"{len(plan.done)} complete already"
    )
    for name, reason in list(plan.left_out.items())[:SHOWN]:
        console.print(f"left out: {name}: {reason}")


def _print(config: AppConfig, probing: Probing) -> None:
    for task in dict.fromkeys(row.task for row in probing.rows):
        rows = [row for row in probing.rows if row.task == task]
        shown = [row for row in rows if row.score is not None]
        lines = [
            [
                "" if row.rank is None else str(row.rank),
                row.base_model + (" (pretrained)" if row.baseline else ""),
                points(100 * (row.score or 0.0)),
                "" if row.baseline or row.gain is None else points(row.gain, signed=True),
                f"{row.seconds:.1f}",
            ]
            for row in shown[:SHOWN]
        ]
        print_table(
            f"{config.arch.name}: linear probe on {task}", ["rank", "base model", "score", "gain", "s"], lines, left=2
        )
        if len(shown) > SHOWN:
            console.print(f"... and {len(shown) - SHOWN} more in the file")
        for row in [row for row in rows if row.score is None][:SHOWN]:
            console.print(f"no score: {row.base_model}: {row.reason or 'not run'}")


def _write_run(session: SweepSession, probing: Probing, wall_s: float) -> None:
    """The invocation's own run in MLflow."""
    resolved = session.config.out / "sweep" / session.id / "config.json"
    write_atomically(resolved, json.dumps(as_plain(session.config), indent=1).encode())
    now = int(time.time() * 1000)
    numbers = {
        "planned": len(probing.plan.todo) + len(probing.plan.done),
        "skipped": len(probing.plan.done),
        "complete": len(probing.outcome.complete),
        "failed": len(probing.outcome.failed),
        "wall_s": wall_s,
    }
    session.store.write_run(
        name=f"probe {session.id}",
        tags={**session.tags, Tag.KIND: Kind.SWEEP, Tag.SWEEP: session.id},
        params={"tasks": ",".join(session.config.suite.tasks), "candidates": session.config.candidates.name},
        history=[(name, float(value), 0, now) for name, value in numbers.items()],
        files=[resolved],
        started_ms=now - int(1000 * wall_s),
    )
