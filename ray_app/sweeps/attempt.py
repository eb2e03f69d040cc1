"""One attempt at a cell, whatever runs it: open, train, test, record. Every failure becomes a record with stage and reason."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from ray_app.sweeps.orders import Order
from ray_app.training.checkpointing import discard_checkpoints, load_checkpoint, save_checkpoint
from ray_app.training.finetune import CellResult, CurvePoint, Finetuning
from ray_app.training.models import LoadedModel, ModelPool
from ray_app.training.tokens import EncodedTask
from tracking.records import CellRecord, write_record
from tracking.schema import Metric, State, Tag
from tracking.store import TAG_LIMIT
from tracking.table import write_table

logger = logging.getLogger(__name__)


class Attempt:
    """Runs one order from validation to validation.

    Args:
        order: the cell.
        pool: models this worker keeps loaded.
        device: where to train.
    """

    def __init__(self, order: Order, pool: ModelPool, *, device: str = "cpu") -> None:
        self.order = order
        self.pool = pool
        self.device = device
        self.stage = "open"
        self.started_ms = int(time.time() * 1000)
        self._started = time.perf_counter()
        self._loaded: LoadedModel | None = None
        self._run: Finetuning | None = None
        self._stored_at = time.perf_counter()

    @property
    def _checkpoints(self) -> Path:
        return self.order.storage.checkpoints / self.order.key

    def open(self) -> Finetuning:
        """Load model and data, and take up the newest checkpoint of this cell."""
        started = time.perf_counter()
        order = self.order
        self.stage = "load data"
        task = EncodedTask(order.encoded)
        self.stage = "load model"
        self._loaded = self.pool.get(order.base, task.facts, order.family)
        run = Finetuning(self._loaded, task, order.config, order.execution, seed=order.seed, device=self.device)
        if load_checkpoint(run, self._checkpoints):
            logger.info("cell %s resumed at step %d", order.key, run.progress.step)
        run.progress.seconds.load += time.perf_counter() - started
        self._stored_at = time.perf_counter()
        self._run = run
        return run

    def step(self) -> tuple[CurvePoint | None, CellRecord | None]:
        """Train to the next validation; with the last one also test, record, and return the record.

        Never raises for what is wrong with the cell: that becomes a failed record. Only a record that cannot be written
        (disk full) is raised, for then nothing can be kept here.
        """
        try:
            return self._step()
        except Exception as error:  # the trial boundary: every failure is recorded with its stage
            return None, self._write(self._failed(error), {"traceback.txt": traceback.format_exc().encode()})

    def _step(self) -> tuple[CurvePoint | None, CellRecord | None]:
        if self.order.empty:
            return None, self._write(self._record(State.FAILED, {Tag.REASON: "empty cell"}, {}), {})
        run = self._run or self.open()
        self.stage = "train"
        point = None
        while point is None:
            point = run.advance(due=self._due)
            if point is None:
                self.store()
        if not run.progress.finished:
            return point, None
        self.stage = "test"
        result = run.result()
        self.stage = "keep model"
        tags = {}
        if self.order.keep_model:
            tags[Tag.CHECKPOINT] = str(self._keep_model(run))
        self.stage = "record"
        record = self._write(self._scored(run, result, tags), {"predictions.parquet": _predictions(run, result)})
        discard_checkpoints(self._checkpoints)
        return point, record

    def _due(self) -> bool:
        return time.perf_counter() - self._stored_at >= self.order.execution.checkpoint_every_s

    def store(self) -> None:
        """Store a checkpoint now (also on a preemption notice)."""
        if self._run is not None:
            save_checkpoint(self._run, self._checkpoints)
            self._stored_at = time.perf_counter()

    def _keep_model(self, run: Finetuning) -> Path:
        """Store the tested weights in hub format, whole or not at all, with a card that tells what it is."""
        target = self.order.storage.models / self.order.key
        if (target / "config.json").exists():
            return target
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        model = self._loaded
        assert model is not None
        model.model.save_pretrained(temporary)
        model.tokenizer.save_pretrained(temporary)
        (temporary / "README.md").write_text(_card(self.order))
        shutil.rmtree(target, ignore_errors=True)
        temporary.replace(target)
        return target

    def _record(self, state: State, tags: dict[str, str], metrics: dict[str, float]) -> CellRecord:
        order = self.order
        run = self._run
        curve = tuple((p.examples_seen, p.score, p.loss) for p in run.progress.curve) if run else ()
        return CellRecord(
            key=order.key,
            attempt=order.attempt,
            state=state,
            arch=order.arch,
            params=order.params,
            tags={**order.tags, Tag.NODE: socket.gethostname(), **tags},
            metrics=metrics,
            curve=curve,
            started_ms=self.started_ms,
            ended_ms=int(time.time() * 1000),
        )

    def _failed(self, error: Exception) -> CellRecord:
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
        logger.warning("cell %s failed at %s: %s", self.order.key, self.stage, reason)
        return self._record(State.FAILED, {Tag.FAILED_STAGE: self.stage, Tag.REASON: reason[:500]}, self._times())

    def _times(self) -> dict[str, float]:
        metrics = {Metric.WALL_S: time.perf_counter() - self._started}
        if self._run is not None:
            seconds = self._run.progress.seconds
            metrics |= {
                Metric.LOAD_S: seconds.load,
                Metric.TRAIN_S: seconds.train,
                Metric.VALIDATE_S: seconds.validate,
                Metric.TEST_S: seconds.test,
            }
        return metrics

    def _scored(self, run: Finetuning, result: CellResult, tags: dict[str, str]) -> CellRecord:
        test = result.test
        metrics = self._times() | {
            Metric.SCORE: test.score,
            Metric.N_EVAL: float(test.n_eval),
            Metric.N_TRAIN: float(len(run.task["train"])),
            Metric.N_INVALID: float(test.n_invalid),
            Metric.BEST_VALIDATION_SCORE: result.best_validation_score,
            Metric.EXAMPLES_SEEN: float(result.examples_seen),
            Metric.TRAIN_EXAMPLES_PER_S: result.examples_seen / max(result.seconds.train, 1e-9),
            Metric.PEAK_MEM_BYTES: float(result.peak_mem_bytes),
        }
        if test.n_correct is not None:
            metrics[Metric.N_CORRECT] = float(test.n_correct)
        state = State.DIVERGED if result.diverged else State.COMPLETE
        return self._record(state, {**tags, Tag.CLASS_COUNTS: _counts_text(test.class_counts)}, metrics)

    def _write(self, record: CellRecord, files: dict[str, bytes | pa.Table]) -> CellRecord:
        """Write the files beside the record, then the record."""
        folder = self.order.storage.records
        folder.mkdir(parents=True, exist_ok=True)
        names = []
        for suffix, content in files.items():
            name = f"{record.key}-{record.attempt}.{suffix}"
            if isinstance(content, bytes):
                (folder / name).write_bytes(content)
            else:
                write_table(content, folder / name)
            names.append(name)
        whole = CellRecord(**{**vars(record), "artifacts": tuple(names)})
        write_record(folder, whole)
        return whole


def _predictions(run: Finetuning, result: CellResult) -> pa.Table:
    """Columns label and prediction of the test set in its order; -1 (or NaN) where the answer was no label."""
    return pa.table({"label": run.task["test"].labels, "prediction": np.asarray(result.test.predictions)})


def _counts_text(counts: dict[str, tuple[int, int, int]]) -> str:
    text = json.dumps(counts, separators=(",", ":"), ensure_ascii=False)
    if len(text) <= TAG_LIMIT:
        return text
    return json.dumps({str(index): value for index, value in enumerate(counts.values())}, separators=(",", ":"))


def _card(order: Order) -> str:
    return (
        f"---\nlibrary_name: transformers\ntags: [startline, intermediate-model]\n---\n"
        f"# Intermediate model: {order.params['base_model']} finetuned on {order.params['task']}\n\n"
        f"Made by Startline as a base model for further finetuning. Cell `{order.key}`, seed {order.seed}, architecture "
        f"{order.arch}. The classification head is that of the source task and is dropped when the model is finetuned again.\n"
    )


def run_attempt(
    order: Order, pool: ModelPool, *, device: str = "cpu", each: Callable[[CurvePoint], None] | None = None
) -> CellRecord:
    """Run an order to its end in this process; returns its record."""
    attempt = Attempt(order, pool, device=device)
    while True:
        point, record = attempt.step()
        if each is not None and point is not None:
            each(point)
        if record is not None:
            return record
