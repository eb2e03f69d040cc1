"""`make sweep`: plan, fetch, train on Ray Tune, log to MLflow, rank."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import secrets
import shutil
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ray_app.commands import rank
from ray_app.commands.console import console, write_csv
from ray_app.config import CONF, AppConfig, as_plain
from ray_app.hub.task_yaml import read_task_config
from ray_app.sweeps.materials import TaskShelf, TaskVariant, require_all
from ray_app.sweeps.orders import Order, Storage, make_order
from ray_app.sweeps.plan import PlannedCell, Study, base_models, in_running_order, plan_cells, remaining_cells
from ray_app.sweeps.progress import SweepProgress, spell_time
from ray_app.sweeps.uploader import Uploader
from ray_app.training.settings import Precision
from tracking.errors import StorageError, TableError
from tracking.records import write_atomically
from tracking.schema import Kind, Tag
from tracking.store import TrackingStore, exclusive_writer
from tracking.table import scored_cells, sync_table

OK, SOME_FAILED, INFRASTRUCTURE, INTERRUPTED = 0, 1, 3, 130


def run(config: AppConfig) -> int:
    """Run a sweep; returns the exit code."""
    started = time.perf_counter()
    check_folder(config.out, min_free_bytes=int(config.cluster.min_free_gb * 1e9))
    with exclusive_writer(config.out):
        return _Sweep(config, started).run()


def check_folder(folder: Path, *, min_free_bytes: int) -> None:
    """Refuse a folder that cannot be written or whose disk is nearly full, before any work is done.

    Raises:
        StorageError: with what came and what is needed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise StorageError(
            f"the output folder {folder} cannot be written ({error.strerror}); choose another with OUT=dir",
            path=str(folder),
        ) from error
    free = shutil.disk_usage(folder).free
    if free < min_free_bytes:
        raise StorageError(
            f"the disk of {folder} has {free / 1e9:.2f} GB free, a sweep needs {min_free_bytes / 1e9:.2f} GB; free space, "
            "choose another disk with OUT=dir, or lower cluster.min_free_gb",
            path=str(folder),
            free_bytes=free,
        )


class _Sweep:
    """One invocation, from plan to ranking."""

    def __init__(self, config: AppConfig, started: float) -> None:
        self.config = config
        self.started = started
        self.id = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)
        self.folder = config.out / "sweep" / self.id
        self.storage = Storage(root=config.storage)
        self.cache = config.cache.expanduser().absolute()
        self.mirror = config.mirror.expanduser().absolute() if config.mirror else None

    def run(self) -> int:
        """Everything in order; a dry run stops after the plan."""
        config = self.config
        store = TrackingStore(config.tracking_uri, config.arch.name, artifact_root=config.artifact_root)
        uploader = Uploader(store, self.storage.records, complete=())
        store.discard_half_written()
        uploader.drain(check=True)
        table, _ = sync_table(config.tracking_uri, config.arch.name, rank.snapshot_path(config), rebuild=config.rebuild)
        uploader.complete.update(scored_cells(table)["key"].to_pylist())
        if config.embedded is not None:
            self._make_embedded()
        study = self._study()
        cells = plan_cells(study)
        todo, done = remaining_cells(cells, complete=uploader.complete, models_at=self.storage.models)
        todo = in_running_order([self._prepared(study, cell) for cell in todo])
        if config.debug.max_cells is not None:
            todo = todo[: config.debug.max_cells]
        self._write_plan(todo, done)
        self._print_plan(study, todo, done)
        settings = next((cell.identity.settings for cell in cells if cell.role == "target"), None)
        if config.dry:
            return OK
        if not todo:
            console.print("nothing to run: every cell is complete")
            self._rank(table, store, settings)
            return OK
        return self._train(store, uploader, todo, done, settings)

    def _make_embedded(self) -> None:
        from ray_app.embedded.mirror import make_embedded_mirror

        assert self.config.embedded is not None
        made = make_embedded_mirror(self.cache / "embedded", self.config.embedded, lambda text: console.print(text))
        self.mirror = made.folder

    def _study(self) -> Study:
        """Settle precision, find every checkpoint and task."""
        config = self.config
        method = dataclasses.replace(config.method, precision=settle_precision(config))
        names = [*config.suite.tasks, *(task for group in config.candidates.sources for task in group.tasks)]
        tasks = {name: read_task_config(CONF / "task" / f"{name}.yaml") for name in dict.fromkeys(names)}
        shelf = TaskShelf(tasks, mirror=self.mirror, cache=self.cache, offline=config.offline)
        rule = config.suite.split_rule
        targets = [TaskVariant.of(name, rule, config.suite.caps) for name in config.suite.tasks]
        made = [TaskVariant.of(task, rule, group.caps) for group in config.candidates.sources for task in group.tasks]
        models = base_models(config.arch, config.candidates.models)
        checkpoints = require_all(
            models,
            [*targets, *made],
            shelf,
            model_types=config.arch.model_types,
            min_free_bytes=int(config.cluster.min_free_gb * 1e9),
        )
        return Study(
            arch=config.arch,
            checkpoints=checkpoints,
            models=models,
            sources=config.candidates.sources,
            targets=targets,
            seeds=config.seeds,
            method=method,
            shelf=shelf,
        )

    def _prepared(self, study: Study, cell: PlannedCell) -> PlannedCell:
        """Tokenise the cell's task where that was not done yet, and cost the cell."""
        pretrained = study.checkpoints[study.arch.pretrained.id]
        base = cell.checkpoint or pretrained.path
        length, family = cell.config.max_length, study.arch.family
        folder = study.shelf.encoded_folder(
            cell.variant, base, family=family, max_length=length, fingerprint=dict(cell.identity.data)
        )
        study.shelf.encode(cell.variant, base, folder=folder, family=family, max_length=length)
        tokens = {split: count_tokens(folder / f"{split}.arrow") for split in ("train", "validation", "test")}
        rows_factor = 3 * cell.config.max_epochs
        work = pretrained.n_parameters * (rows_factor * tokens["train"] + tokens["validation"] + tokens["test"])
        return dataclasses.replace(cell, encoded=folder, cost=float(work))

    def _write_plan(self, todo: list[PlannedCell], done: list[PlannedCell]) -> None:
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
            for status, cells in (("to run", todo), ("complete", done))
            for cell in cells
            for i in [cell.identity]
        ]
        columns = ["key", "status", "role", "base_model", "base_revision", "task", "seed", "cost", "requires"]
        write_csv(self.folder / "plan.csv", columns, rows)

    def _print_plan(self, study: Study, todo: list[PlannedCell], done: list[PlannedCell]) -> None:
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

    def _train(
        self,
        store: TrackingStore,
        uploader: Uploader,
        todo: list[PlannedCell],
        done: list[PlannedCell],
        settings: str | None,
    ) -> int:
        from ray_app.sweeps.runner import check_resources, ray_cluster, run_cells

        config = self.config
        tags = run_tags()
        licences = {
            name: read_task_config(CONF / "task" / f"{name}.yaml").license for name in {c.identity.task for c in todo}
        }

        def order_of(cell: PlannedCell) -> Order:
            return make_order(
                cell,
                family=config.arch.family,
                execution=config.execution,
                storage=self.storage,
                sweep=self.id,
                attempt=f"{self.id}.{secrets.token_hex(3)}",
                tags={**tags, Tag.TASK_LICENCE: licences[cell.identity.task]},
                empty=config.debug.empty_cells,
            )

        began_ms = int(time.time() * 1000)
        progress = SweepProgress(total=len(todo), total_cost=sum(cell.cost for cell in todo), console=console)
        with ray_cluster(config.cluster):
            check_resources(config.cluster)
            uploader.start()
            with progress:
                outcome = run_cells(
                    todo, order_of, cluster=config.cluster, storage=self.storage, sweep=self.id, progress=progress
                )
        waiting = uploader.stop()
        wall_s = time.perf_counter() - self.started
        summary = {
            "sweep": self.id,
            "arch": config.arch.name,
            "planned": len(todo) + len(done),
            "skipped": len(done),
            "complete": len(outcome.complete),
            "failed": [{"key": key, "stage": stage, "reason": why} for key, (stage, why) in outcome.failed.items()],
            "interrupted": outcome.interrupted,
            "wall_s": wall_s,
            "train_s": outcome.train_s,
            "step_s": outcome.step_s,
            "waiting_for_mlflow": waiting,
        }
        write_atomically(self.folder / "summary.json", json.dumps(summary, indent=1).encode())
        if not waiting:
            self._write_sweep_run(store, summary, began_ms, tags)
        return self._close(summary, todo, uploader, settings)

    def _write_sweep_run(
        self, store: TrackingStore, summary: dict[str, Any], began_ms: int, tags: dict[str, str]
    ) -> None:
        resolved = self.folder / "config.json"
        write_atomically(resolved, json.dumps(as_plain(self.config), indent=1).encode())
        now = int(time.time() * 1000)
        numbers = {
            name: float(summary[name]) for name in ("planned", "skipped", "complete", "wall_s", "train_s", "step_s")
        }
        numbers["failed"] = float(len(summary["failed"]))
        store.write_run(
            name=f"sweep {self.id}",
            tags={**tags, Tag.KIND: Kind.SWEEP, Tag.SWEEP: self.id},
            params={
                "suite": self.config.suite.name,
                "candidates": self.config.candidates.name,
                "seeds": str(self.config.seeds),
            },
            history=[(name, value, 0, now) for name, value in numbers.items()],
            files=[resolved, self.folder / "plan.csv"],
            started_ms=began_ms,
        )

    def _close(self, summary: dict[str, Any], todo: list[PlannedCell], uploader: Uploader, settings: str | None) -> int:
        names = {
            cell.key: f"{cell.identity.base_model} on {cell.identity.task}, seed {cell.identity.seed}" for cell in todo
        }
        for failure in summary["failed"][:20]:
            console.print(f"failed: {names[failure['key']]} at {failure['stage']}: {failure['reason']}")
        if len(summary["failed"]) > 20:
            console.print(f"... and {len(summary['failed']) - 20} more; all are in {self.folder / 'summary.json'}")
        if uploader.last_error is not None:
            console.print(f"{summary['waiting_for_mlflow']} results wait on disk: {uploader.last_error.message}")
        elif summary["complete"]:
            table, _ = sync_table(self.config.tracking_uri, self.config.arch.name, rank.snapshot_path(self.config))
            if not summary["interrupted"] and any(cell.role == "target" for cell in todo):
                self._rank(table, uploader.store, settings)
        left = len(todo) - summary["complete"] - len(summary["failed"])
        arch = self.config.arch.name
        todo_text = f"; {left} cells left, run the same command again to go on" if left else ""
        console.print(
            f"{summary['complete']} cells complete, {len(summary['failed'])} failed in {spell_time(summary['wall_s'])}{todo_text}. "
            f"Results: {self.folder}; next: make rank ARCH={arch}, make ui"
        )
        if uploader.last_error is not None:
            return INFRASTRUCTURE
        if summary["interrupted"]:
            return INTERRUPTED
        return SOME_FAILED if summary["failed"] or left else OK

    def _rank(self, table: pa.Table, store: TrackingStore, settings: str | None) -> None:
        """Rank what there is; where there is nothing to rank yet, say why."""
        try:
            rank.write_base_runs(store, rank.rank_table(self.config, table, settings=settings))
        except TableError as error:
            console.print(f"no ranking yet: {error.message}")


def settle_precision(config: AppConfig) -> Precision:
    """The arithmetic cells will use: 'auto' is bf16 on GPUs and on CPUs that multiply bf16, fp32 elsewhere."""
    if config.method.precision is not Precision.AUTO:
        return config.method.precision
    if config.cluster.gpus_per_cell:
        return Precision.BF16
    if config.cluster.address is not None:
        return Precision.FP32
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return Precision.FP32
    return Precision.BF16 if "avx512_bf16" in flags or "amx_bf16" in flags else Precision.FP32


def count_tokens(path: Path) -> int:
    """Tokens of a tokenised split."""
    from ray_app.training.tokens import EncodedSplit

    return int(np.sum(EncodedSplit(path).lengths))


def run_tags() -> dict[str, str]:
    """Commit and environment, for every run."""
    names = ("torch", "transformers", "ray", "mlflow", "datasets")
    environment = {name: version(name) for name in names} | {
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False, cwd=CONF.parent
        )
        commit = found.stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        commit = ""
    return {Tag.COMMIT: commit or "unknown", Tag.ENVIRONMENT: json.dumps(environment)}
