"""The queue that Ray Tune draws cells from: in the plan's order, each as soon as what it needs is ready."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from ray_app.sweeps.plan import PlannedCell
from ray_app.sweeps.traces import Traces


class PlanQueue(Searcher):
    """Hands out one planned cell per trial; cells that build on a source cell wait for it.

    A cell whose worker or node was lost is handed out again, first of all: as often as it got further since it was lost before
    (spot nodes may come and go for days), else at most ``max_failures`` times. Tune itself tries again only what was running, not
    what was just being given to a warm worker. One that ran out of memory on a share of a GPU is handed out again besides, for a
    whole one. A cell whose worker was lost after it left its record has ended. A source that fails
    takes the cells that need its model with it (``blocked``).

    Args:
        cells: the plan, in running order.
        make_config: Tune config of a cell.
        max_failures: how often a cell is handed out again without having got further.
        traces: what cells leave on storage; None: nothing is known of that.
    """

    def __init__(
        self,
        cells: list[PlannedCell],
        make_config: Callable[[PlannedCell], dict[str, Any]],
        *,
        max_failures: int = 0,
        traces: Traces | None = None,
    ) -> None:
        super().__init__(metric=None, mode=None)
        self._max_failures = max_failures
        self._losses: Counter[str] = Counter()
        self._traces = traces
        self._seen: dict[str, str] = {}
        self._alone: set[str] = set()
        self.ended_unheard: set[str] = set()
        """Trials that were lost after they had left their record."""
        self.handed_again: set[str] = set()
        """Trials whose cell is handed out again."""
        self._waiting = {cell.key: cell for cell in cells}
        self._pending_sources = {cell.key for cell in cells if cell.role == "source"}
        self._make_config = make_config
        self._cell_of: dict[str, PlannedCell] = {}
        self.blocked: dict[str, PlannedCell] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing but what Tune reads: it stores its searcher, and this one is made anew from the plan."""
        return {"_metric": None, "_mode": None}

    def suggest(self, trial_id: str) -> Any:
        """The next cell that is ready; None while cells wait, or run and may be lost; FINISHED when all have ended."""
        for key, cell in self._waiting.items():
            if cell.requires not in self._pending_sources:
                del self._waiting[key]
                self._cell_of[trial_id] = cell
                return self._make_config(cell)
        return None if self._waiting or self._cell_of else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Hand a lost cell out again; release, or give up, the cells that waited for this one."""
        cell = self._cell_of.pop(trial_id, None)
        if cell is None:
            return
        if error and self._traces is not None and self._traces.has_ended(cell.key):
            self.ended_unheard.add(trial_id)
            error, result = False, {"model_kept": True}
        if error and self.hands_again(cell.key):
            self._note_loss(cell.key)
            self._waiting = {cell.key: cell, **self._waiting}
            self.handed_again.add(trial_id)
            return
        if cell.role != "source":
            return
        self._pending_sources.discard(cell.key)
        if error or not result or not result.get("model_kept"):
            lost = {key: waiting for key, waiting in self._waiting.items() if waiting.requires == cell.key}
            self.blocked |= lost
            for key in lost:
                del self._waiting[key]

    def hands_again(self, key: str) -> bool:
        """Whether a cell is handed out again when its worker is lost now."""
        return self._outgrew_now(key) or self._got_further(key) or self._losses[key] < self._max_failures

    def _outgrew_now(self, key: str) -> bool:
        """Whether it was lost because its share of a GPU was too small, for the first time."""
        return self._traces is not None and key not in self._alone and self._traces.outgrew_share(key)

    def _got_further(self, key: str) -> bool:
        return self._traces is not None and self._traces.newest_checkpoint(key) != self._seen.get(key, "")

    def _note_loss(self, key: str) -> None:
        if self._outgrew_now(key):
            self._alone.add(key)
        elif self._got_further(key):
            assert self._traces is not None
            self._seen[key] = self._traces.newest_checkpoint(key)
            self._losses[key] = 0
        else:
            self._losses[key] += 1

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Nothing to set: the plan is the search space."""
        return True

    def save(self, checkpoint_path: str) -> None:
        """Nothing to store: a sweep is planned anew from its configuration and MLflow."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""
