"""What is noted of lost workers, and what is not kept of those that ended."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from ray_app.sweeps import watcher as module
from ray_app.sweeps.outcome import SweepOutcome
from ray_app.sweeps.plan import plan_cells
from ray_app.sweeps.progress import SweepProgress
from ray_app.sweeps.watcher import Watcher
from tests.unit.ray_app.sweeps.test_plan import study
from tracking.errors import StorageError
from tracking.records import CellRecord
from tracking.schema import State, Tag

CELL = plan_cells(study(seeds=[0]))[0]


def watcher(outcome: SweepOutcome, **given: Any) -> Watcher:
    order = SimpleNamespace(
        key=CELL.key, attempt="s.1", arch="a", params={}, tags={}, storage=SimpleNamespace(records=Path("r"))
    )
    progress = SweepProgress(total=1, total_cost=1.0, console=Console(file=io.StringIO()))
    return Watcher({CELL.key: CELL}, {CELL.key: order}, outcome, progress, **given)  # type: ignore[dict-item]


def trial(name: str = "t0", **last: object) -> SimpleNamespace:
    return SimpleNamespace(
        trial_id=name, config={"order": {"key": CELL.key}}, last_result=last, error_file=None,
        metric_analysis={"a": {"max": 1}}, metric_n_steps={"a": {}},
    )  # fmt: skip


def test_what_tune_keeps_of_an_ended_trial_is_dropped() -> None:
    """45 KB a trial of 20 numbers, measured; with 10,000 cells half a gigabyte that nobody reads."""
    ended, lost = trial(state="complete"), trial("lost")
    watcher(SweepOutcome()).on_trial_complete(0, [], ended)
    watcher(SweepOutcome(), handed_again={"lost"}).on_trial_error(0, [], lost)
    assert ended.metric_analysis == ended.metric_n_steps == lost.metric_analysis == lost.metric_n_steps == {}


def test_a_cell_that_hung_too_often_is_recorded_with_that_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[CellRecord] = []
    monkeypatch.setattr(module, "write_record", lambda folder, record: written.append(record))
    outcome = SweepOutcome()
    watcher(outcome, hung={"t0": "it hung"}).on_trial_error(0, [], trial())
    assert outcome.failed == {CELL.key: ("worker", "it hung")}
    assert written[0].state is State.FAILED and written[0].tags[Tag.REASON] == "it hung"


def test_a_full_disk_does_not_end_the_sweep_from_within_tune(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path, record: CellRecord) -> None:
        raise StorageError("full")

    monkeypatch.setattr(module, "write_record", refuse)
    outcome = SweepOutcome()
    watcher(outcome).on_trial_error(0, [], trial())
    assert outcome.failed == {CELL.key: ("worker", "the worker was lost")}


def test_one_that_left_its_record_is_complete() -> None:
    outcome = SweepOutcome()
    watcher(outcome, ended_unheard={"t0"}).on_trial_error(0, [], trial())
    assert outcome.complete == [CELL.key] and not outcome.failed
