"""Ends what would wait without end: trials that hang, and the sweep itself when its own Ray node has died."""

from __future__ import annotations

import logging
import time
from typing import Any

from ray.tune import Callback

from tracking.errors import ClusterError

_LOOK_S = 5.0
logger = logging.getLogger(__name__)


class Vigil(Callback):
    """Kills the worker of a trial that gave no sign of life for ``timeout_s``; its cell then counts as lost.

    Where the node that the driver runs on has died, Tune would wait for ever for workers that nobody can start: that is a
    ClusterError.

    A sign is a validation, or the end. A worker whose process is stopped, or that waits for a file system that is gone, looks
    alive to Ray: only its silence tells.

    Args:
        timeout_s: longest silence, s; None: any.
    """

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        self._looked = time.monotonic()
        self._node = ""
        self._heard: dict[str, tuple[Any, float]] = {}
        self.ended: dict[str, str] = {}
        """Trials ended here, with the reason."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune stores its callbacks, and this one belongs to this process alone."""
        return {}

    def _hear(self, trial: Any) -> None:
        self._heard[trial.trial_id] = (trial, time.monotonic())

    def _forget(self, trial: Any) -> None:
        self._heard.pop(trial.trial_id, None)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """It begins now."""
        self._hear(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """It validated."""
        self._hear(trial)

    def on_trial_save(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """It was paused: until it goes on, silence is right."""
        self._forget(trial)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """It ended."""
        self._forget(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Its worker was lost."""
        self._forget(trial)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look who has been silent for too long; Tune calls this several times a second.

        Raises:
            ClusterError: the driver's own node is dead.
        """
        now = time.monotonic()
        if now - self._looked > _LOOK_S:
            self._looked = now
            self._check_node()
        if self._timeout_s is None:
            return
        for trial, heard in list(self._heard.values()):
            if now - heard > self._timeout_s:
                self._end(trial)

    def _check_node(self) -> None:
        import ray

        self._node = self._node or ray.get_runtime_context().get_node_id()
        if not any(node["Alive"] for node in ray.nodes() if node["NodeID"] == self._node):
            raise ClusterError(
                "the Ray node of this sweep died; what was finished is kept, run the same command again to go on"
            )

    def _end(self, trial: Any) -> None:
        import ray

        self._forget(trial)
        actor = trial.temporary_state.ray_actor
        if actor is None:
            return
        self.ended[trial.trial_id] = f"it hung: no sign of life for {self._timeout_s:g} s (cluster.hang_timeout_s)"
        logger.warning("trial %s ended: %s", trial.trial_id, self.ended[trial.trial_id])
        ray.kill(actor)
