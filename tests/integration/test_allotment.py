"""What a cell is given: a share of a GPU, a whole one after it outgrew its share, a team; and how the queue hands it out again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.util.queue import Empty

from ray_app.sweeps.allotment import allotted, resources_of
from ray_app.sweeps.attempt import Attempt
from ray_app.sweeps.orders import Order, Storage
from ray_app.sweeps.queue import PlanQueue
from ray_app.sweeps.settings import ClusterConfig
from ray_app.sweeps.traces import Traces, note_outgrown
from ray_app.training.finetune import Finetuning
from ray_app.training.models import ModelPool
from tests.integration.test_attempt import KEY, make_order
from tracking.errors import ClusterError
from tracking.records import pending_records


class Cell:
    """Of a planned cell, what the queue reads."""

    requires = None
    role = "target"

    def __init__(self, key: str) -> None:
        self.key = key


def queue_of(storage: Storage, keys: list[str], *, max_failures: int) -> PlanQueue:
    cells: list[Any] = [Cell(key) for key in keys]
    return PlanQueue(cells, lambda cell: {"key": cell.key}, max_failures=max_failures, traces=Traces(storage))


def test_a_cell_that_outgrew_its_share_is_handed_out_again_once_besides(tmp_path: Path) -> None:
    storage = Storage(root=tmp_path)
    queue = queue_of(storage, ["a", "b"], max_failures=1)
    assert queue.suggest("t1")["key"] == "a"
    note_outgrown(storage, "a")
    queue.on_trial_complete("t1", error=True)
    assert queue.suggest("t2")["key"] == "a", "first of all"
    queue.on_trial_complete("t2", error=True)  # lost on the whole GPU: this one counts
    assert queue.suggest("t3")["key"] == "a"
    queue.on_trial_complete("t3", error=True)
    assert queue.handed_again == {"t1", "t2"}
    assert queue.suggest("t4")["key"] == "b"


@pytest.mark.parametrize(("given", "after"), [(0.25, 1.0), (0.5, 1.0), (1.0, 1.0), (0.0, 0.0), (2.0, 2.0)], ids=str)
def test_its_gpus(given: float, after: float, tmp_path: Path) -> None:
    order = make_order(tmp_path)
    cluster, traces = ClusterConfig(gpus_per_cell=given), Traces(order.storage)
    assert allotted(order, cluster, traces).gpus == given
    note_outgrown(order.storage, KEY)
    assert allotted(order, cluster, traces).gpus == after


@pytest.mark.parametrize(
    ("cluster", "gpus", "bundles"),
    [
        (ClusterConfig(), 0.0, [{"CPU": 1.0}]),
        (ClusterConfig(cpus_per_cell=4, gpus_per_cell=1), 1.0, [{"CPU": 4.0, "GPU": 1.0}]),
        (ClusterConfig(gpus_per_cell=0.25), 0.25, [{"CPU": 1.0, "GPU": 0.25}]),
        (ClusterConfig(gpus_per_cell=0.25), 1.0, [{"CPU": 1.0, "GPU": 1.0}]),
    ],
)
def test_what_tune_reserves(
    cluster: ClusterConfig, gpus: float, bundles: list[dict[str, float]], tmp_path: Path
) -> None:
    config = {"order": replace(make_order(tmp_path), gpus=gpus).plain()}
    assert resources_of(cluster)(config).bundles == bundles


def test_a_team_s_trial_takes_no_gpu_from_it(tmp_path: Path) -> None:
    (bundle,) = resources_of(ClusterConfig(gpus_per_cell=4))({"order": make_order(tmp_path).plain()}).bundles
    assert set(bundle) == {"memory"}


def test_an_order_keeps_its_allotment_on_the_way(tmp_path: Path) -> None:
    order = replace(make_order(tmp_path), gpus=0.5, cpus=3.0, team=2)
    back = Order.from_plain(order.plain())
    assert (back.gpus, back.cpus, back.team) == (0.5, 3.0, 2)


def test_memory_that_runs_out_on_a_share_is_raised_and_leaves_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(Finetuning, "__init__", run_out)
    shared = replace(make_order(tmp_path / "shared"), gpus=0.5)
    with pytest.raises(torch.OutOfMemoryError):
        Attempt(shared, ModelPool()).step()
    assert Traces(shared.storage).outgrew_share(KEY) and not list(pending_records(shared.storage.records))
    alone = replace(make_order(tmp_path / "alone"), gpus=1.0)
    _, record = Attempt(alone, ModelPool()).step()
    assert record is not None and record.state.value == "failed", "on a whole GPU it is the cell's own failure"


def test_a_team_that_was_lost_is_told_from_one_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray_app.sweeps.team_trial import TeamRun

    run = object.__new__(TeamRun)
    run._told = type("Told", (), {"get": lambda self, timeout: (_ for _ in ()).throw(Empty()), "shutdown": None})()
    run._thread = type("Thread", (), {"is_alive": lambda self: False})()  # type: ignore[assignment]
    run._error = RuntimeError("Training failed due to worker errors:\nThe actor died")
    with pytest.raises(ClusterError, match="the team was lost: The actor died"):
        run.step()
