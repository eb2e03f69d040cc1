"""The queue that is fed while it runs, and which idle workers are kept: pure, over made-up trials."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray.tune.search import Searcher
from ray.tune.utils.object_cache import _ObjectCache

from ray_app.hub.tasks import SplitCaps, SplitRule
from ray_app.sweeps.fed_queue import FedQueue, UntilFinished, WarmWorkers
from ray_app.sweeps.materials import TaskVariant
from ray_app.sweeps.plan import PlannedCell
from ray_app.training.settings import FinetuneConfig
from tracking.cells import CellIdentity


def cell(task: str) -> PlannedCell:
    identity = CellIdentity(
        arch="a", base_model="b", base_revision="r", task=task, data={}, method="finetune", hyperparameters={}, seed=0, recipe="1"
    )  # fmt: skip
    variant = TaskVariant.of(task, SplitRule.SITE, SplitCaps())
    return PlannedCell(
        identity=identity, role="source", variant=variant, config=FinetuneConfig(), checkpoint=Path("/m")
    )


class Feed:
    """Hands out what is put into ``coming``."""

    def __init__(self, *cells: PlannedCell) -> None:
        self.coming = list(cells)
        self.heard: list[tuple[str, Any]] = []
        self.finished = False
        self.waited = 0

    def take(self) -> list[PlannedCell]:
        taken, self.coming = self.coming, []
        return taken

    def note(self, key: str, result: dict[str, Any] | None) -> None:
        self.heard.append((key, result))

    def wait(self, seconds: float) -> None:
        self.waited += 1


def queue(feed: Feed, **given: Any) -> FedQueue:
    return FedQueue(feed, lambda one: {"key": one.key}, on_taken=lambda cells: None, **given)


def test_cells_come_while_others_run() -> None:
    first, second = cell("one"), cell("two")
    feed = Feed(first)
    under = queue(feed)
    assert under.suggest("t1") == {"key": first.key}
    assert under.suggest("t2") is None and feed.waited == 0, "one runs: Tune comes back soon"
    under.on_trial_complete("t1", {"state": "complete"})
    assert feed.heard == [(first.key, {"state": "complete"})]
    assert under.suggest("t2") is None and feed.waited == 1, "none runs: what may lead to more is waited for here"
    feed.coming = [second]
    assert under.suggest("t3") == {"key": second.key}
    feed.finished = True
    assert under.suggest("t4") == Searcher.FINISHED and UntilFinished(feed).stop_all()


def test_a_lost_worker_is_told_only_when_its_cell_is_given_up() -> None:
    feed = Feed(cell("one"))
    under = queue(feed, max_failures=1)
    under.suggest("t1")
    under.on_trial_complete("t1", None, error=True)
    assert feed.heard == []
    assert under.suggest("t2") is not None
    under.on_trial_complete("t2", None, error=True)
    assert feed.heard == [(cell("one").key, None)]


def test_a_cell_that_left_its_record_counts_by_it() -> None:
    record = SimpleNamespace(state="complete", metrics={"score": 0.5})
    traces = SimpleNamespace(has_ended=lambda key: True, record=lambda key: record)
    feed = Feed(cell("one"))
    under = queue(feed, traces=traces)
    under.suggest("t1")
    under.on_trial_complete("t1", None, error=True)
    assert feed.heard == [(cell("one").key, {"state": "complete", "seconds/score": 0.5})]


def test_idle_workers_are_kept_and_make_room_for_a_trial_that_needs_more() -> None:
    cache = _ObjectCache()
    controller = SimpleNamespace(_tune_controller=SimpleNamespace(_actor_cache=cache))
    usual = [SimpleNamespace(trial_id=f"t{n}", placement_group_factory="share") for n in range(3)]
    odd = SimpleNamespace(trial_id="odd", placement_group_factory="whole")
    workers = WarmWorkers()
    for trial in usual:
        workers.on_trial_add(controller, trial)
    assert all(cache.cache_object("share", n) for n in range(3)) and not list(cache.flush_cached_objects())
    workers.on_trial_add(controller, odd)
    assert len(list(cache.flush_cached_objects())) >= 2, "their resources are free for it"
    workers.on_trial_add(controller, usual[0])
    assert cache.total_max_objects == 0, "not before it has ended"
    workers.on_trial_complete(controller, odd, {})
    assert cache.total_max_objects > 100


def test_a_tune_without_that_cache_is_no_reason_to_fail() -> None:
    WarmWorkers().on_trial_add(SimpleNamespace(), SimpleNamespace(trial_id="t", placement_group_factory="share"))
