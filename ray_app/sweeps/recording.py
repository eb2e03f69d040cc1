"""What every attempt at a cell does, whatever it runs: the trial boundary, and the record it leaves."""

from __future__ import annotations

import io
import json
import logging
import socket
import time
import traceback
from abc import ABC, abstractmethod

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_app.sweeps.notice import Notice
from ray_app.sweeps.orders import Order
from ray_app.sweeps.traces import note_outgrown
from ray_app.training.finetune import CurvePoint
from ray_app.training.memory import is_out_of_memory
from ray_app.training.scoring import Evaluation
from tracking.records import CellRecord, write_atomically, write_record
from tracking.schema import Metric, State, Tag
from tracking.secrets import redact
from tracking.store import TAG_LIMIT

logger = logging.getLogger(__name__)

Step = tuple[CurvePoint | None, CellRecord | None]
"""A validation, where there was one, and the record, where the cell ended."""


class RecordedAttempt(ABC):
    """One attempt at a cell that ends with a record.

    Args:
        order: the cell.
        device: where to compute.
    """

    def __init__(self, order: Order, *, device: str = "cpu") -> None:
        self.order = order
        self.device = device
        self.stage = "open"
        self.notice: Notice | None = None
        """Whether this process is to end soon; None for attempts that could store nothing then."""
        self.started_ms = int(time.time() * 1000)
        self._started = time.perf_counter()

    def step(self) -> Step:
        """Go on to the next validation; with the last one also test, record, and return the record.

        Never raises for what is wrong with the cell: that becomes a failed record. What is raised is a record that cannot be
        written (disk full), for then nothing can be kept here, and memory that ran out on a shared GPU.
        """
        try:
            if self.order.empty:
                return None, self._write(self._record(State.FAILED, {Tag.REASON: "empty cell"}, {}), {})
            return self._step()
        except Exception as error:  # the trial boundary: every failure is recorded with its stage
            if 0 < self.order.gpus < 1 and is_out_of_memory(error):
                note_outgrown(self.order.storage, self.order.key)
                raise  # not the cell's fault: it is tried again alone on a whole GPU
            return None, self._write(self._failed(error), {"traceback.txt": redact(traceback.format_exc()).encode()})

    @abstractmethod
    def _step(self) -> Step:
        """Go on; anything may be raised."""

    @abstractmethod
    def store(self) -> None:
        """Store a checkpoint now (also on a preemption notice)."""

    def curve(self) -> tuple[CurvePoint, ...]:
        """Validations so far, those of earlier attempts that it goes on from included."""
        return ()

    def _times(self) -> dict[str, float]:
        """Where the time went."""
        return {Metric.WALL_S: time.perf_counter() - self._started}

    def _record(self, state: State, tags: dict[str, str], metrics: dict[str, float]) -> CellRecord:
        order = self.order
        return CellRecord(
            key=order.key,
            attempt=order.attempt,
            state=state,
            arch=order.arch,
            params=order.params,
            tags={**order.tags, Tag.NODE: socket.gethostname(), **tags},
            metrics=metrics,
            curve=tuple((point.examples_seen, point.score, point.loss) for point in self.curve()),
            started_ms=self.started_ms,
            ended_ms=int(time.time() * 1000),
        )

    def _failed(self, error: Exception) -> CellRecord:
        lines = str(error).strip().splitlines()
        reason = redact(f"{type(error).__name__}: {lines[0] if lines else 'no message'}")
        logger.warning("cell %s failed at %s: %s", self.order.key, self.stage, reason)
        return self._record(State.FAILED, {Tag.FAILED_STAGE: self.stage, Tag.REASON: reason[:500]}, self._times())

    def _scored_record(
        self,
        test: Evaluation,
        metrics: dict[str, float],
        *,
        state: State = State.COMPLETE,
        tags: dict[str, str] | None = None,
    ) -> CellRecord:
        """The record of a score: counts of the test set beside what else was measured."""
        metrics = self._times() | {
            Metric.SCORE: test.score,
            Metric.N_EVAL: float(test.n_eval),
            Metric.N_INVALID: float(test.n_invalid),
            **metrics,
        }
        if test.n_correct is not None:
            metrics[Metric.N_CORRECT] = float(test.n_correct)
        return self._record(state, {**(tags or {}), Tag.CLASS_COUNTS: _counts_text(test.class_counts)}, metrics)

    def _write(self, record: CellRecord, files: dict[str, bytes | pa.Table]) -> CellRecord:
        """Write the files beside the record, then the record; any of them that cannot be written is a StorageError."""
        folder = self.order.storage.records
        names = []
        for suffix, content in files.items():
            name = f"{record.key}-{record.attempt}.{suffix}"
            write_atomically(folder / name, content if isinstance(content, bytes) else _as_parquet(content))
            names.append(name)
        whole = CellRecord(**{**vars(record), "artifacts": tuple(names)})
        write_record(folder, whole)
        return whole


def predictions_table(labels: np.ndarray, test: Evaluation) -> pa.Table:
    """Columns label and prediction of the test set in its order; -1 (or NaN) where the answer was no label."""
    return pa.table({"label": labels, "prediction": np.asarray(test.predictions)})


def _as_parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _counts_text(counts: dict[str, tuple[int, int, int]]) -> str:
    text = json.dumps(counts, separators=(",", ":"), ensure_ascii=False)
    if len(text) <= TAG_LIMIT:
        return text
    return json.dumps({str(index): value for index, value in enumerate(counts.values())}, separators=(",", ":"))
