"""An attempt at a finetune by a team: every process runs one of these, the first writes what there is to write."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from ray_app.sweeps.attempt import Attempt
from ray_app.sweeps.orders import Order
from ray_app.sweeps.recording import Step
from ray_app.training.finetune import CurvePoint, Finetuning
from ray_app.training.models import ModelPool
from ray_app.training.settings import FinetuneConfig
from ray_app.training.team import Team, TeamFinetuning, TeamLostError
from ray_app.training.tokens import EncodedTask
from tracking.records import CellRecord

logger = logging.getLogger(__name__)

Tell = Callable[[tuple[str, Any]], None]


class TeamAttempt(Attempt):
    """One process's part; what goes wrong is raised, for all must end together.

    Args:
        order: the cell.
        pool: models this process keeps loaded.
        team: the processes; all of them run the same order.
        device: where this one trains.
    """

    def __init__(self, order: Order, pool: ModelPool, *, team: Team, device: str = "cpu") -> None:
        super().__init__(order, pool, device=device)
        self.team = team
        self.notice = None  # Ray Train runs this in a thread, which hears no signals

    def _make(self) -> Finetuning:
        order = self.order
        assert isinstance(order.config, FinetuneConfig)
        self.stage = "load data"
        task = EncodedTask(order.encoded)
        self.stage = "load model"
        self._loaded = self.pool.get(order.base, task.facts, order.family)
        return TeamFinetuning(
            self._loaded, task, order.config, order.execution, seed=order.seed, device=self.device, team=self.team
        )

    def open(self) -> Finetuning:
        """Load model and data; all take up the same checkpoint, or none does."""
        run = super().open()
        if not self.team.agree(run.progress.step):
            raise TeamLostError("the processes of the team found different checkpoints; the cell is tried again")
        return run

    def step(self) -> Step:
        """Go on to the next validation; anything may be raised."""
        return self._step()

    def store(self) -> None:
        """The first process stores a checkpoint for all."""
        if self.team.rank == 0:
            super().store()

    def _keep_model(self, run: Finetuning) -> Path:
        return super()._keep_model(run) if self.team.rank == 0 else Path()

    def _write(self, record: CellRecord, files: dict[str, bytes | pa.Table]) -> CellRecord:
        return super()._write(record, files) if self.team.rank == 0 else record


def run_member(order: Order, pool: ModelPool, tell: Tell, *, device: str, collective_device: str) -> None:
    """Run this process's part to the end of the cell; ``tell`` hears ('point', p), ('record', r) or ('failed', (stage, reason)).

    Raises:
        Exception: whatever went wrong, after it was told; a lost connection is not told, for it says nothing of the cell.
    """
    attempt = TeamAttempt(order, pool, team=Team(collective_device), device=device)
    try:
        record: CellRecord | None = None
        while record is None:
            point, record = attempt.step()
            if attempt.team.rank == 0:
                _tell(tell, point, record)
    except TeamLostError:
        raise
    except Exception as error:
        logger.warning("process %d of the team failed at %s", attempt.team.rank, attempt.stage)
        tell(("failed", (attempt.stage, error)))
        raise


def _tell(tell: Tell, point: CurvePoint | None, record: CellRecord | None) -> None:
    if point is not None:
        tell(("point", point))
    if record is not None:
        tell(("record", record))
