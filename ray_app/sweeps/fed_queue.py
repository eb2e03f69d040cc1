"""A queue that does not know its cells beforehand: they come from a feed while others run, on workers that stay warm between."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from ray.tune import Stopper
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from ray_app.sweeps.plan import PlannedCell
from ray_app.sweeps.queue import PlanQueue
from ray_app.sweeps.traces import Traces

logger = logging.getLogger(__name__)

_PAUSE_S = 0.5
_WARM = 10_000
"""Idle workers that are kept: more than any cluster has."""


class CellFeed(Protocol):
    """Where cells come from."""

    @property
    def finished(self) -> bool:
        """No more will come, and none that runs is needed."""

    def take(self) -> list[PlannedCell]:
        """Cells to be run that were not taken yet, in order."""

    def note(self, key: str, result: dict[str, Any] | None) -> None:
        """A cell ended with its trial's last result; None: its worker was lost for good."""

    def wait(self, seconds: float) -> None:
        """Wait, for at most so long, for something that may lead to more cells; called when none runs."""


class FedQueue(PlanQueue):
    """Hands out what the feed asks for, and tells the feed how it ended.

    Args:
        feed: where cells come from.
        make_config: Tune config of a cell.
        on_taken: told of the cells that are added.
        max_failures: how often a cell is handed out again.
        traces: what cells leave on storage.
    """

    def __init__(
        self,
        feed: CellFeed,
        make_config: Callable[[PlannedCell], dict[str, Any]],
        *,
        on_taken: Callable[[list[PlannedCell]], None],
        max_failures: int = 0,
        traces: Traces | None = None,
    ) -> None:
        super().__init__([], make_config, max_failures=max_failures, traces=traces)
        self._feed = feed
        self._on_taken = on_taken

    def suggest(self, trial_id: str) -> Any:
        """The next cell; None while cells run or the feed has none yet; FINISHED when it has ended."""
        self._take()
        if not self._waiting and not self._cell_of and not self._feed.finished:
            self._feed.wait(_PAUSE_S)  # nothing runs, and Tune would look again only after a second
            self._take()
        if self._feed.finished:
            return Searcher.FINISHED
        found = super().suggest(trial_id)
        return None if found == Searcher.FINISHED else found

    def _take(self) -> None:
        taken = self._feed.take()
        self._waiting |= {cell.key: cell for cell in taken}
        self._on_taken(taken)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Hand a lost cell out again, or tell the feed how the cell ended."""
        cell = self._cell_of.get(trial_id)
        super().on_trial_complete(trial_id, result, error)
        if cell is None or trial_id in self.handed_again:
            return
        if trial_id in self.ended_unheard:
            result, error = self._from_record(cell.key), False
        self._feed.note(cell.key, None if error else result)

    def _from_record(self, key: str) -> dict[str, Any] | None:
        """What a trial would have reported that was lost after it had left its record; None where that was uploaded just now."""
        record = self._traces.record(key) if self._traces is not None else None
        if record is None:
            return None
        return {"state": str(record.state)} | {f"seconds/{name}": value for name, value in record.metrics.items()}


class UntilFinished(Stopper):
    """Ends what still runs when the feed needs no more of it (contributors that are late at the end)."""

    def __init__(self, feed: CellFeed) -> None:
        self._feed = feed

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is ended by what it reports."""
        return False

    def stop_all(self) -> bool:
        """Whether the feed has ended."""
        return self._feed.finished

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune stores its stopper, and this one belongs to this process alone."""
        return {}


class WarmWorkers(FIFOScheduler):
    """First come, first served, and a worker without a cell is kept for the next one.

    Tune keeps an idle actor only while another trial is waiting for one, and the next iteration's cells are not known before
    the last of this one has ended: every iteration would begin with starting processes and importing libraries. The number of
    idle actors it may keep has no setting; where a later Tune has no such attribute workers are started anew, and nothing else
    changes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._usual: Any = None
        """Resources of all trials but odd ones."""
        self._raised = False
        self._odd: set[str] = set()
        """Trials under way that need other resources (a whole GPU for a cell that outgrew its share): idle workers make room."""

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """With the first trial, whose resources are the usual ones, say how many idle workers may be kept."""
        super().on_trial_add(tune_controller, trial)
        if self._usual is None:
            self._usual = trial.placement_group_factory
        if trial.placement_group_factory != self._usual:
            self._odd.add(trial.trial_id)
        self._set_kept(tune_controller)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """An odd trial that is over no longer needs room."""
        super().on_trial_complete(tune_controller, trial, result)
        self._forget(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """The same for one that was lost."""
        super().on_trial_error(tune_controller, trial)
        self._forget(tune_controller, trial)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """The same for one that was ended."""
        super().on_trial_remove(tune_controller, trial)
        self._forget(tune_controller, trial)

    def _forget(self, tune_controller: Any, trial: Any) -> None:
        self._odd.discard(trial.trial_id)
        self._set_kept(tune_controller)

    def _set_kept(self, tune_controller: Any) -> None:
        """Keep idle workers unless an odd trial needs their room."""
        wanted = not self._odd
        if wanted == self._raised:
            return
        controller = getattr(tune_controller, "_tune_controller", tune_controller)
        try:
            cache = controller._actor_cache
            (cache.increase_max if wanted else cache.decrease_max)(self._usual, by=_WARM)
        except AttributeError:
            logger.warning("this version of Ray Tune keeps no idle workers: each iteration starts its own")
        self._raised = wanted
