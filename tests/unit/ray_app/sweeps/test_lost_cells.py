"""Which lost cells are tried again: those that got further always, others a few times, those that left their record never."""

from __future__ import annotations

from pathlib import Path

from ray_app.sweeps.orders import Storage
from ray_app.sweeps.plan import PlannedCell, plan_cells
from ray_app.sweeps.queue import PlanQueue
from ray_app.sweeps.settings import SourcesConfig
from ray_app.sweeps.traces import Traces
from tests.unit.ray_app.sweeps.test_plan import study
from tests.unit.tracking.test_table import cell as record_of
from tracking.records import write_record
from tracking.schema import State


def queue_of(cells: list[PlannedCell], folder: Path, *, uploaded: set[str] | None = None) -> PlanQueue:
    traces = Traces(Storage(root=folder), uploaded if uploaded is not None else set())
    return PlanQueue(cells, lambda cell: {"key": cell.key}, max_failures=1, traces=traces)


def test_a_cell_that_got_further_each_time_is_tried_again_as_often_as_it_is_lost(tmp_path: Path) -> None:
    cells = plan_cells(study(seeds=[0]))
    queue, key = queue_of(cells, tmp_path), cells[0].key
    for step in range(1, 20):
        assert queue.suggest(f"t{step}")["key"] == key
        (tmp_path / "checkpoints" / key / f"step-{step:08d}-00000").mkdir(parents=True)
        queue.on_trial_complete(f"t{step}", error=True)
        assert f"t{step}" in queue.handed_again


def test_one_that_stays_where_it_is_is_given_up(tmp_path: Path) -> None:
    cells = plan_cells(study(seeds=[0]))
    queue, key = queue_of(cells, tmp_path), cells[0].key
    (tmp_path / "checkpoints" / key / "step-00000005-00000").mkdir(parents=True)
    for trial in ("further", "once"):
        assert queue.suggest(trial)["key"] == key
        queue.on_trial_complete(trial, error=True)
        assert trial in queue.handed_again
    assert queue.suggest("twice")["key"] == key
    queue.on_trial_complete("twice", error=True)
    assert "twice" not in queue.handed_again


def test_a_source_that_was_lost_after_its_record_releases_what_waits_for_it(tmp_path: Path) -> None:
    cells = plan_cells(study(seeds=[0], sources=[SourcesConfig(tasks=["s"])]))
    source = next(cell for cell in cells if cell.role == "source")
    cells = [source, *(cell for cell in cells if cell.requires == source.key)]
    queue = queue_of(cells, tmp_path)
    assert queue.suggest("t0")["key"] == source.key and queue.suggest("t1") is None
    write_record(tmp_path / "records", record_of(source.key))
    queue.on_trial_complete("t0", error=True)
    assert queue.ended_unheard == {"t0"} and not queue.handed_again and not queue.blocked
    assert queue.suggest("t2")["key"] == cells[1].key


def test_a_cell_whose_score_was_uploaded_has_ended(tmp_path: Path) -> None:
    cells = plan_cells(study(seeds=[0]))
    uploaded: set[str] = set()
    queue = queue_of(cells, tmp_path, uploaded=uploaded)
    queue.suggest("t0")
    uploaded.add(cells[0].key)
    queue.on_trial_complete("t0", error=True)
    assert queue.ended_unheard == {"t0"}


def test_a_failed_record_is_no_end(tmp_path: Path) -> None:
    cells = plan_cells(study(seeds=[0]))
    queue = queue_of(cells, tmp_path)
    queue.suggest("t0")
    write_record(tmp_path / "records", record_of(cells[0].key, score=None, state=State.FAILED))
    (tmp_path / "records" / f"{cells[0].key}-damaged.record.json").write_text("{")
    queue.on_trial_complete("t0", error=True)
    assert queue.handed_again == {"t0"}
