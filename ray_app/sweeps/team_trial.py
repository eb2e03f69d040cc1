"""A cell trained by a team of processes with a GPU each: a Tune trial that starts Ray Train's TorchTrainer and waits for it."""

from __future__ import annotations

import logging
import shutil
import threading
import traceback
from typing import Any

from ray.util.queue import Empty, Queue

from ray_app.sweeps.orders import Order
from ray_app.sweeps.recording import RecordedAttempt, Step
from ray_app.sweeps.trial import CellTrial
from ray_app.training.progress import CurvePoint
from tracking.errors import ClusterError
from tracking.secrets import redact

logger = logging.getLogger(__name__)

_LOOK_S = 0.2


class TeamTrial(CellTrial):
    """Runs one order by a team; a Tune step is the stretch to the team's next validation."""

    def _open(self) -> RecordedAttempt:
        self._attempt = TeamRun(Order.from_plain(self.config["order"]))
        return self._attempt


class TeamRun(RecordedAttempt):
    """The team as seen from the trial: what its first process tells, and how it ended.

    Args:
        order: the cell, with ``team`` processes and ``gpus`` in all.
    """

    def __init__(self, order: Order) -> None:
        super().__init__(order)
        self.stage = "train"
        self._told = Queue(actor_options={"num_cpus": 0})
        self._name = f"team-{order.attempt}"
        self._points: list[CurvePoint] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._train, name="team", daemon=True)
        self._thread.start()

    def _train(self) -> None:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        order = self.order
        size = order.team
        resources = {"CPU": order.cpus / size} | ({"GPU": 1.0} if order.gpus else {})
        trainer = TorchTrainer(
            train_in_team,
            train_loop_config={"order": order.plain(), "told": self._told},
            torch_config=TorchConfig(backend="nccl" if order.gpus else "gloo"),
            scaling_config=ScalingConfig(num_workers=size, use_gpu=bool(order.gpus), resources_per_worker=resources),
            run_config=RunConfig(
                name=self._name,
                storage_path=str(order.storage.tune),
                failure_config=FailureConfig(max_failures=0),  # the queue tries again
            ),
        )
        try:
            trainer.fit()
        except Exception as error:  # any end of the team is told by the next step, in the trial's own thread
            self._error = error

    def step(self) -> Step:
        """Wait for the team's next validation, or its end.

        Raises:
            ClusterError: a process of the team was lost; the cell is to be tried again.
        """
        kind, content = self._next()
        if kind == "point":
            self._points.append(content)
            return content, None
        self._thread.join()
        self._told.shutdown(force=True)
        shutil.rmtree(self.order.storage.tune / self._name, ignore_errors=True)
        if kind == "record":
            return None, content
        self.stage, error, trace = content
        return None, self._write(self._failed(error), {"traceback.txt": redact(trace).encode()})

    def _next(self) -> tuple[str, Any]:
        while True:
            ended = not self._thread.is_alive()
            try:
                return tuple(self._told.get(timeout=_LOOK_S))
            except Empty:
                if ended:
                    reason = str(self._error).strip().splitlines()[-1:] if self._error else ["it ended without a word"]
                    raise ClusterError(f"the team was lost: {' '.join(reason)[:300]}") from self._error

    def _step(self) -> Step:
        raise NotImplementedError("a team's steps are told, not taken here")

    def store(self) -> None:
        """The team stores its own checkpoints."""

    def curve(self) -> tuple[CurvePoint, ...]:
        """Validations told so far."""
        return tuple(self._points)


def train_in_team(config: dict[str, Any]) -> None:
    """What each process of the team runs, inside Ray Train."""
    from ray.train.torch import get_device

    from ray_app.sweeps.team_attempt import run_member
    from ray_app.sweeps.trial import prepare_worker
    from ray_app.training.models import ModelPool

    order, told = Order.from_plain(config["order"]), config["told"]
    prepare_worker(order.execution.threads)
    device = str(get_device())

    def tell(message: tuple[str, Any]) -> None:
        kind, content = message
        if kind == "failed":
            stage, error = content
            content = (stage, error, "".join(traceback.format_exception(error)))
        told.put((kind, content))

    run_member(order, ModelPool(1), tell, device=device, collective_device=device)
