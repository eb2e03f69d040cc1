"""`make sweep`: plan, fetch, train on Ray Tune, log to MLflow, rank."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from ray_app.commands import rank
from ray_app.commands.console import console, write_csv
from ray_app.config import AppConfig
from ray_app.config_tree import as_plain
from ray_app.sweeps.outcome import SweepOutcome
from ray_app.sweeps.progress import spell_time
from ray_app.sweeps.session import SweepPlan, SweepSession, check_folder
from tracking.errors import TableError
from tracking.records import write_atomically
from tracking.schema import Kind, Tag
from tracking.store import exclusive_writer

OK, SOME_FAILED, INFRASTRUCTURE, INTERRUPTED = 0, 1, 3, 130


Afterwards = Callable[[SweepSession, SweepPlan], None]
"""What is done with the results of a sweep instead of ranking them."""


def run(config: AppConfig, *, afterwards: Afterwards | None = None) -> int:
    """Run a sweep; returns the exit code."""
    started = time.perf_counter()
    check_folder(config.out, min_free_bytes=int(config.cluster.min_free_gb * 1e9))
    with exclusive_writer(config.out):
        return _Sweep(config, started, afterwards).run()


class _Sweep:
    """One invocation, from plan to ranking."""

    def __init__(self, config: AppConfig, started: float, afterwards: Afterwards | None) -> None:
        self.config = config
        self.afterwards = afterwards
        self.started = started
        self.session = SweepSession(config, console=console)
        self.folder = config.out / "sweep" / self.session.id

    def run(self) -> int:
        """Everything in order; a dry run stops after the plan."""
        table = self.session.open()
        plan = self.session.plan(self.session.study())
        self._write_plan(plan)
        self._print_plan(plan)
        if self.config.dry:
            return OK
        if not plan.todo:
            console.print("nothing to run: every cell is complete")
            self._rank(table, plan)
            return OK
        return self._train(plan)

    def _write_plan(self, plan: SweepPlan) -> None:
        rows = [
            [
                cell.key,
                status,
                cell.role,
                i.base_model,
                i.base_revision,
                i.task,
                i.seed,
                f"{cell.cost:.4g}",
                cell.requires or "",
            ]
            for status, cells in (("to run", plan.todo), ("complete", plan.done))
            for cell in cells
            for i in [cell.identity]
        ]
        columns = ["key", "status", "role", "base_model", "base_revision", "task", "seed", "cost", "requires"]
        write_csv(self.folder / "plan.csv", columns, rows)

    def _print_plan(self, plan: SweepPlan) -> None:
        study, todo, done = plan.study, plan.todo, plan.done
        bases = {cell.identity.base_model for cell in [*todo, *done] if cell.role == "target"}
        n_sources = sum(cell.role == "source" for cell in todo)
        console.print(
            f"{self.config.arch.name}: {len(bases)} base models x {len(study.targets)} tasks x {len(study.seeds)} seeds; "
            f"{len(todo)} cells to run ({n_sources} of them make base models), {len(done)} complete already"
        )
        if todo:
            size = study.checkpoints[study.arch.pretrained.id].size_bytes
            disk = size * (n_sources + 3)
            work = sum(cell.cost for cell in todo) * 2
            console.print(
                f"work: about {work:.2g} FLOP in {study.method.precision.value}; disk: about {disk / 1e9:.2f} GB"
            )
        console.print(f"plan: {self.folder / 'plan.csv'}")

    def _train(self, plan: SweepPlan) -> int:
        began_ms = int(time.time() * 1000)
        with self.session.cluster():
            outcome = self.session.run(plan.todo)
        waiting = self.session.finish()
        summary = self._summary(plan, outcome, waiting)
        write_atomically(self.folder / "summary.json", json.dumps(summary, indent=1).encode())
        if not waiting:
            self._write_sweep_run(summary, began_ms)
        return self._close(plan, summary)

    def _summary(self, plan: SweepPlan, outcome: SweepOutcome, waiting: int) -> dict[str, Any]:
        return {
            "sweep": self.session.id,
            "arch": self.config.arch.name,
            "planned": len(plan.todo) + len(plan.done),
            "skipped": len(plan.done),
            "complete": len(outcome.complete),
            "failed": [{"key": key, "stage": stage, "reason": why} for key, (stage, why) in outcome.failed.items()],
            "interrupted": outcome.interrupted,
            "wall_s": time.perf_counter() - self.started,
            "train_s": outcome.train_s,
            "step_s": outcome.step_s,
            "waiting_for_mlflow": waiting,
        }

    def _write_sweep_run(self, summary: dict[str, Any], began_ms: int) -> None:
        resolved = self.folder / "config.json"
        write_atomically(resolved, json.dumps(as_plain(self.config), indent=1).encode())
        now = int(time.time() * 1000)
        numbers = {
            name: float(summary[name]) for name in ("planned", "skipped", "complete", "wall_s", "train_s", "step_s")
        }
        numbers["failed"] = float(len(summary["failed"]))
        self.session.store.write_run(
            name=f"sweep {self.session.id}",
            tags={**self.session.tags, Tag.KIND: Kind.SWEEP, Tag.SWEEP: self.session.id},
            params={
                "suite": self.config.suite.name,
                "candidates": self.config.candidates.name,
                "seeds": str(self.config.seeds),
            },
            history=[(name, value, 0, now) for name, value in numbers.items()],
            files=[resolved, self.folder / "plan.csv"],
            started_ms=began_ms,
        )

    def _close(self, plan: SweepPlan, summary: dict[str, Any]) -> int:
        todo, error = plan.todo, self.session.uploader.last_error
        print_failures(plan, summary["failed"], where=str(self.folder / "summary.json"))
        if error is not None:
            console.print(f"{summary['waiting_for_mlflow']} results wait on disk: {error.message}")
        elif summary["complete"]:
            table = self.session.sync()
            if not summary["interrupted"] and any(cell.role == "target" for cell in todo):
                self._rank(table, plan)
        left = len(todo) - summary["complete"] - len(summary["failed"])
        arch = self.config.arch.name
        todo_text = f"; {left} cells left, run the same command again to go on" if left else ""
        console.print(
            f"{summary['complete']} cells complete, {len(summary['failed'])} failed in {spell_time(summary['wall_s'])}{todo_text}. "
            f"Results: {self.folder}; next: make rank ARCH={arch}, make ui"
        )
        if error is not None:
            return INFRASTRUCTURE
        if summary["interrupted"]:
            return INTERRUPTED
        return SOME_FAILED if summary["failed"] or left else OK

    def _rank(self, table: pa.Table, plan: SweepPlan) -> None:
        """Rank what there is, or do what the caller wants done; where there is nothing to rank yet, say why."""
        if self.afterwards is not None:
            self.afterwards(self.session, plan)
            return
        try:
            tasks = self.config.suite.tasks
            ranked = rank.rank_table(self.config, table, settings=plan.settings, tasks=tasks)
            rank.write_base_runs(self.session.store, ranked)
        except TableError as error:
            console.print(f"no ranking yet: {error.message}")


def print_failures(plan: SweepPlan, failed: list[dict[str, str]], *, where: str) -> None:
    """Say which cells failed at what stage, and why; the first 20 of them."""
    names = {c.key: f"{c.identity.base_model} on {c.identity.task}, seed {c.identity.seed}" for c in plan.todo}
    for failure in failed[:20]:
        console.print(f"failed: {names[failure['key']]} at {failure['stage']}: {failure['reason']}")
    if len(failed) > 20:
        console.print(f"... and {len(failed) - 20} more; all are in {where}")
