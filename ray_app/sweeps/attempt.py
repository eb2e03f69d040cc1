"""One attempt at a finetune: open, train, test, record. Every failure becomes a record with stage and reason."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from ray_app.sweeps.notice import Notice, Preempted
from ray_app.sweeps.orders import Order
from ray_app.sweeps.recording import RecordedAttempt, Step, predictions_table
from ray_app.training.checkpointing import discard_checkpoints, load_checkpoint, save_checkpoint
from ray_app.training.finetune import CellResult, CurvePoint, Finetuning
from ray_app.training.models import LoadedModel, ModelPool
from ray_app.training.settings import FinetuneConfig
from ray_app.training.tokens import EncodedTask
from tracking.errors import StorageError
from tracking.records import CellRecord
from tracking.schema import Metric, State, Tag

logger = logging.getLogger(__name__)


class Attempt(RecordedAttempt):
    """Runs one order from validation to validation.

    Args:
        order: the cell.
        pool: models this worker keeps loaded.
        device: where to train.
    """

    def __init__(self, order: Order, pool: ModelPool, *, device: str = "cpu") -> None:
        super().__init__(order, device=device)
        self.pool = pool
        self.notice = Notice()
        self._loaded: LoadedModel | None = None
        self._run: Finetuning | None = None
        self._earlier_s = 0.0
        self._stored_at = time.perf_counter()

    @property
    def _checkpoints(self) -> Path:
        return self.order.storage.checkpoints / self.order.key

    def open(self) -> Finetuning:
        """Load model and data, and take up the newest checkpoint of this cell."""
        started = time.perf_counter()
        order = self.order
        run = self._make()
        if load_checkpoint(run, self._checkpoints):
            logger.info("cell %s resumed at step %d", order.key, run.progress.step)
            self._earlier_s = run.progress.seconds.wall
        run.between_batches = self._end_on_notice
        run.progress.seconds.load += time.perf_counter() - started
        self._stored_at = time.perf_counter()
        self._run = run
        return run

    def _make(self) -> Finetuning:
        """The finetune at its beginning."""
        order = self.order
        assert isinstance(order.config, FinetuneConfig)
        self.stage = "load data"
        task = EncodedTask(order.encoded)
        self.stage = "load model"
        self._loaded = self.pool.get(order.base, task.facts, order.family)
        return Finetuning(self._loaded, task, order.config, order.execution, seed=order.seed, device=self.device)

    def _step(self) -> Step:
        run = self._run
        if run is None:
            run = self.open()
            if run.config.stages and run.progress.curve and not run.progress.finished:
                return run.progress.curve[-1], None  # where it stands: whether it may go on is not decided here
        self.stage = "train"
        point = None
        while point is None:
            point = run.advance(due=self._due)
            if point is None:
                self.store()
                self._end_on_notice(stored=True)
        if not run.progress.finished:
            return point, None
        self.stage = "test"
        result = run.result()
        self.stage = "keep model"
        tags = {}
        if self.order.keep_model:
            tags[Tag.CHECKPOINT] = str(self._keep_model(run))
        self.stage = "record"
        predictions = predictions_table(run.labels("test"), result.test)
        record = self._write(self._scored(run, result, tags), {"predictions.parquet": predictions})
        discard_checkpoints(self._checkpoints)
        return point, record

    def _end_on_notice(self, *, stored: bool = False) -> None:
        """End this process where it was given notice, with the cell's checkpoint stored."""
        if self.notice is not None and self.notice.given:
            if not stored:
                self.store()
            raise Preempted

    def _due(self) -> bool:
        if self.notice is not None and self.notice.given:
            return True
        return time.perf_counter() - self._stored_at >= self.order.execution.checkpoint_every_s

    def store(self) -> None:
        """Store a checkpoint now (also on a preemption notice); where that fails, training goes on without."""
        if self._run is None:
            return
        self._run.progress.seconds.wall = self._wall_s()
        try:
            save_checkpoint(self._run, self._checkpoints)
        except StorageError as error:
            logger.warning("cell %s goes on without: %s", self.order.key, error.message)
        self._stored_at = time.perf_counter()

    def _wall_s(self) -> float:
        return self._earlier_s + time.perf_counter() - self._started

    def _keep_model(self, run: Finetuning) -> Path:
        """Store the tested weights in hub format, whole or not at all, with a card that tells what it is."""
        target = self.order.storage.models / self.order.key
        if (target / "config.json").exists():
            return target
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        model = self._loaded
        assert model is not None
        try:
            model.model.save_pretrained(temporary)
            model.tokenizer.save_pretrained(temporary)
            (temporary / "README.md").write_text(_card(self.order))
            shutil.rmtree(target, ignore_errors=True)
            temporary.replace(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return target

    def curve(self) -> tuple[CurvePoint, ...]:
        """Validations so far."""
        return tuple(self._run.progress.curve) if self._run else ()

    def _times(self) -> dict[str, float]:
        metrics = {Metric.WALL_S: self._wall_s()}
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
        metrics = {
            Metric.N_TRAIN: float(len(run.labels("train"))),
            Metric.BEST_VALIDATION_SCORE: result.best_validation_score,
            Metric.EXAMPLES_SEEN: float(result.examples_seen),
            Metric.TRAIN_EXAMPLES_PER_S: result.examples_seen / max(result.seconds.train, 1e-9),
            Metric.PEAK_MEM_BYTES: float(result.peak_mem_bytes),
        }
        state = State.DIVERGED if result.diverged else State.COMPLETE
        return self._scored_record(result.test, metrics, state=state, tags=tags)


def _card(order: Order) -> str:
    made = "Made by Startline as a base model for further finetuning."
    purpose = (
        made if order.tags.get(Tag.ROLE) == "source" else "Selected by Startline among base models, and finetuned."
    )
    return (
        f"---\nlibrary_name: transformers\ntags: [startline, intermediate-model]\n---\n"
        f"# Intermediate model: {order.params['base_model']} finetuned on {order.params['task']}\n\n"
        f"{purpose} Cell `{order.key}`, seed {order.seed}, architecture {order.arch}. "
        "The classification head is that of this task and is dropped when the model is finetuned again.\n"
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
