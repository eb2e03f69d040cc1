"""What is noted while Tune runs: results into counts, lost workers into records."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ray.tune import Callback

from ray_app.sweeps.orders import Order
from ray_app.sweeps.outcome import SweepOutcome
from ray_app.sweeps.plan import PlannedCell
from ray_app.sweeps.progress import SweepProgress
from tracking.errors import StorageError
from tracking.records import CellRecord, write_record
from tracking.schema import Metric, State, Tag
from tracking.secrets import redact

logger = logging.getLogger(__name__)


class Watcher(Callback):
    """Counts what trials report; a cell whose worker was lost too often gets its failed record here.

    Args:
        cells: the plan, by key.
        orders: orders handed out, by key.
        outcome: filled in.
        progress: told of every start, validation and end.
        handed_again: trials whose cell the queue hands out again, as it stands when they are lost.
        ended_unheard: lost trials that had left their record.
        hung: reasons of trials that were ended because they hung.
    """

    def __init__(
        self,
        cells: dict[str, PlannedCell],
        orders: dict[str, Order],
        outcome: SweepOutcome,
        progress: SweepProgress,
        *,
        handed_again: Collection[str] = (),
        ended_unheard: Collection[str] = (),
        hung: Mapping[str, str] | None = None,
    ) -> None:
        self._handed_again = handed_again
        self._ended_unheard = ended_unheard
        self._hung = hung if hung is not None else {}
        self._cells = cells
        self._orders = orders
        self._outcome = outcome
        self._progress = progress

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune stores its callbacks, and this one belongs to this process alone."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A cell began (or began again)."""
        self._progress.started(trial.trial_id, _spell(self._cells[trial.config["order"]["key"]]))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A cell validated, or ended."""
        key = trial.config["order"]["key"]
        cell, outcome = self._cells[key], self._outcome
        if "validation_score" in result:
            note = f"{result['examples_seen']} examples, validation {100 * result['validation_score']:.1f}"
            self._progress.reported(trial.trial_id, f"{_spell(cell)}: {note}")
        if "state" not in result:
            return
        seconds = result.get("seconds", {})
        outcome.train_s += seconds.get(Metric.TRAIN_S, 0.0)
        outcome.step_s += sum(seconds.get(name, 0.0) for name in (Metric.TRAIN_S, Metric.VALIDATE_S, Metric.TEST_S))
        failed = result.get("state") == State.FAILED
        if failed:
            outcome.failed[key] = (str(result.get("failed_stage", "")), str(result.get("reason", "")))
        else:
            outcome.complete.append(key)
        self._progress.ended(trial.trial_id, cost=cell.cost, failed=failed)

    def on_trial_save(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A cell was paused: its place goes to another."""
        self._progress.running.pop(trial.trial_id, None)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A cell ended; one that a scheduler stopped before its end is neither complete nor failed."""
        key = trial.config["order"]["key"]
        if "state" not in (trial.last_result or {}):
            self._progress.ended(trial.trial_id, cost=self._cells[key].cost, failed=False)
        self._orders.pop(key, None)
        _forget_metrics(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The worker or node of a cell was lost; it failed only if it is not handed out again."""
        _forget_metrics(trial)
        if trial.trial_id in self._handed_again:
            self._progress.running.pop(trial.trial_id, None)
            return
        key = trial.config["order"]["key"]
        if trial.trial_id in self._ended_unheard:
            self._outcome.complete.append(key)
            self._progress.ended(trial.trial_id, cost=self._cells[key].cost, failed=False)
            return
        reason = self._hung.get(trial.trial_id) or _reason(trial)
        self._outcome.failed[key] = ("worker", reason)
        try:
            _record_loss(self._orders[key], reason)
        except StorageError as error:  # the outcome says so all the same, and a cell without a record is planned again
            logger.warning("%s", error.message)
        self._progress.ended(trial.trial_id, cost=self._cells[key].cost, failed=True)


def _spell(cell: PlannedCell) -> str:
    return f"{cell.identity.base_model} on {cell.identity.task}, seed {cell.identity.seed}"


def _forget_metrics(trial: Any) -> None:
    """Drop the statistics that Tune keeps of every number a trial ever reported: nobody asks for them, and they never shrink."""
    trial.metric_analysis.clear()
    trial.metric_n_steps.clear()


def _reason(trial: Any) -> str:
    try:
        text = Path(trial.error_file).read_text().strip() if trial.error_file else ""
    except OSError:
        text = ""
    return redact((text.splitlines() or ["the worker was lost"])[-1])[:300]


def _record_loss(order: Order, reason: str) -> None:
    """Record that a cell failed because its worker or node did."""
    now = int(time.time() * 1000)
    record = CellRecord(
        key=order.key,
        attempt=order.attempt,
        state=State.FAILED,
        arch=order.arch,
        params=order.params,
        tags={**order.tags, Tag.FAILED_STAGE: "worker", Tag.REASON: reason},
        metrics={},
        started_ms=now,
        ended_ms=now,
    )
    write_record(order.storage.records, record)
