"""A selection over what is known already: nothing is trained again but what is not there, and nothing is left that was not chosen."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from analysis.selection.halving import BruteForce, SuccessiveHalving
from ray_app.hub.tasks import SplitCaps, SplitRule
from ray_app.selection.curves import CurveStore
from ray_app.selection.live import LiveSelection
from ray_app.selection.rounds import LiveRounds
from ray_app.sweeps.materials import TaskVariant
from ray_app.sweeps.orders import Storage
from ray_app.sweeps.outcome import SweepOutcome
from ray_app.sweeps.plan import PlannedCell
from ray_app.training.settings import FinetuneConfig
from tests.result_cells import cell, result_table
from tracking.cells import CellIdentity
from tracking.records import CellRecord, write_record
from tracking.schema import Metric, State

CURVES = {"a": [0.5, 0.6], "b": [0.6, 0.9], "c": [0.4, 0.7]}


def planned(base: str) -> PlannedCell:
    identity = CellIdentity(
        arch="tiny", base_model=base, base_revision="r", task="t", data={}, method="finetune",
        hyperparameters={"stages": 2}, seed=0, recipe="1",
    )  # fmt: skip
    variant = TaskVariant.of("t", SplitRule.SITE, SplitCaps())
    return PlannedCell(
        identity=identity,
        role="target",
        variant=variant,
        config=FinetuneConfig(),
        checkpoint=Path("x"),
        encoded=Path("e"),
    )


CELLS = {name: planned(name) for name in CURVES}


@dataclass
class Session:
    """Stands in for the sweep's session: knows results, and notes what it is asked to train."""

    storage: Storage
    recorded: tuple[str, ...] = tuple(CURVES)
    ran: list[PlannedCell] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.uploader = SimpleNamespace(complete={CELLS[name].key for name in self.recorded}, wait=lambda: 0)

    def sync(self) -> Any:
        rows = []
        for name in self.recorded:
            curve = json.dumps([[stage, score] for stage, score in enumerate(CURVES[name])])
            rows.append(cell(name, "t", CURVES[name][-1] - 0.05, key=CELLS[name].key, run_id=name, curve=curve))
        return result_table(rows)

    def run(self, todo: list[PlannedCell], *, scheduler: Any = None) -> SweepOutcome:
        self.ran += todo
        for each in todo:
            make_model(self.storage, each.key)
        return SweepOutcome()


def make_model(storage: Storage, key: str) -> None:
    (storage.models / key).mkdir(parents=True)
    (storage.models / key / "config.json").write_text("{}")


def selection(session: Session, ledger: LiveRounds, said: list[str]) -> LiveSelection:
    return LiveSelection(
        session,  # type: ignore[arg-type]
        CELLS,
        ledger,
        study=None,  # type: ignore[arg-type]
        bring_up=lambda: said.append("cluster"),
        say=said.append,
    )


def brute() -> LiveRounds:
    return LiveRounds(names=tuple(CELLS), n_stages=2, policy=BruteForce())


def test_where_all_is_recorded_only_the_chosen_model_is_made_once_more(tmp_path: Path) -> None:
    session, said = Session(Storage(root=tmp_path)), list[str]()
    ledger = brute()
    found = selection(session, ledger, said).run()
    assert (ledger.chosen, ledger.finals["b"], found.n_trained) == ("b", pytest.approx(0.85), 0)
    assert found.finished and found.model == tmp_path / "models" / CELLS["b"].key
    assert [(each.identity.base_model, each.keep) for each in session.ran] == [("b", True)]
    assert any("its model not kept" in text for text in said)


def test_where_the_chosen_model_is_there_nothing_runs_at_all(tmp_path: Path) -> None:
    session, said = Session(Storage(root=tmp_path)), list[str]()
    make_model(session.storage, CELLS["b"].key)
    make_model(session.storage, CELLS["a"].key)  # chosen by an earlier selection
    (session.storage.checkpoints / CELLS["c"].key / "step-1").mkdir(parents=True)
    selection(session, brute(), said).run()
    assert session.ran == [] and "cluster" not in said
    assert sorted(path.name for path in session.storage.models.iterdir()) == sorted(CELLS[name].key for name in "ab")
    assert not (session.storage.checkpoints / CELLS["c"].key).exists()
    assert [text.split()[0] for text in said] == ["c", "a"]  # a line for each that was dropped, 0.7 before 0.6


def test_a_curve_on_storage_decides_without_training_and_stays(tmp_path: Path) -> None:
    session = Session(Storage(root=tmp_path), recorded=("b",))
    store = CurveStore(session.storage.curves)
    store.write(CELLS["a"].key, CURVES["a"][:1])
    store.write(CELLS["c"].key, CURVES["c"][:1])
    store.write(CELLS["b"].key, CURVES["b"][:1])
    ledger = LiveRounds(names=tuple(CELLS), n_stages=2, policy=SuccessiveHalving())
    found = selection(session, ledger, []).run()
    assert found.finished and ledger.chosen == "b" and found.n_trained == 0
    assert store.read(CELLS["a"].key) == (0.5,) and store.read(CELLS["b"].key) == ()  # b's is in MLflow


def test_a_cell_that_ended_unheard_is_found_by_its_record(tmp_path: Path) -> None:
    session = Session(Storage(root=tmp_path), recorded=("b",))
    live = selection(session, brute(), [])
    key = CELLS["a"].key
    assert live._look_up(key) is None
    record = CellRecord(
        key=key, attempt="1", state=State.COMPLETE, arch="tiny", params={}, tags={}, metrics={Metric.SCORE: 0.7},
        curve=((10, 0.5, 1.0), (20, 0.6, 1.0)), started_ms=0, ended_ms=1,
    )  # fmt: skip
    write_record(session.storage.records, record)
    assert live._look_up(key) == ((0.5, 0.6), 0.7)
    assert live._look_up(CELLS["b"].key) == ((0.6, 0.9), pytest.approx(0.85))  # uploaded already
