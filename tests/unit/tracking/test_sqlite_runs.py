"""Reading MLflow's SQLite file directly: the same as MLflow's client reads, and nothing missed that came late."""

from __future__ import annotations

import math
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.unit.tracking.test_table import cell
from tracking import sqlite_runs, table
from tracking.errors import StoreError
from tracking.run_rows import cells_of_run
from tracking.schema import Kind, Metric, State, Tag, experiment_name
from tracking.sqlite_runs import KNOWN_VERSIONS, open_sqlite_runs, sqlite_path
from tracking.store import TrackingStore
from tracking.table import summary_keys, sync_table


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of cells (one failed, one deleted, one half-written), a base run, a not-a-number metric."""
    folder = tmp_path_factory.mktemp("template")
    made = TrackingStore(f"sqlite:///{folder}/mlflow.db", "a/b", artifact_root="unused")
    for number in range(5):
        made.write_cell(cell(f"{number:016x}", score=number / 10, ended=1_000_000 + number))
    made.write_cell(cell("e" * 16, score=None, state=State.FAILED))
    made.client.delete_run(made.write_cell(cell("d" * 16)))
    made.client.create_run(made.experiment_id, tags={Tag.KIND: Kind.CELL, Tag.KEY: "f" * 16})
    made.write_run(name="m", tags={Tag.KIND: Kind.BASE, Tag.KEY: "k1"}, history=[(Metric.AVG_GAIN, math.nan, 0, 1)])
    return folder


@pytest.fixture
def uri(template: Path, tmp_path: Path) -> str:
    """A copy of the store, for one test."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return f"sqlite:///{tmp_path}/mlflow.db"


def test_the_same_as_through_the_client(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    direct, _ = sync_table(uri, "a/b", tmp_path / "direct.parquet")
    keys = summary_keys(uri, "a/b", Kind.BASE)
    monkeypatch.setattr(table, "open_sqlite_runs", lambda uri, experiment: None)
    through_client, report = sync_table(uri, "a/b", tmp_path / "client.parquet")
    assert report.n_new == 6
    assert direct.sort_by("run_id").equals(through_client.sort_by("run_id"))
    assert keys == summary_keys(uri, "a/b", Kind.BASE) == TrackingStore(uri, "a/b").summary_keys(Kind.BASE)


def test_not_a_number_stays_one(uri: str) -> None:
    runs = open_sqlite_runs(uri, experiment_name("a/b"))
    assert runs is not None
    found, gone = runs.changes([Kind.BASE], known=["long gone"])
    assert [math.isnan(run.data.metrics[Metric.AVG_GAIN]) for run in found] == [True]
    assert gone == {"long gone"}


def test_a_run_that_ended_long_ago_and_came_late_is_read(uri: str, tmp_path: Path) -> None:
    store, now = TrackingStore(uri, "a/b"), 1_900_000_000_000
    store.write_cell(cell("1a" * 8, ended=now))
    sync_table(uri, "a/b", tmp_path / "t.parquet")
    store.write_cell(cell("1b" * 8, ended=now - 86_400_000))
    rows, report = sync_table(uri, "a/b", tmp_path / "t.parquet")
    assert report.n_new == 1 and "1b" * 8 in rows["key"].to_pylist()


def test_more_runs_than_fit_one_query(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_runs, "_AT_ONCE", 2)
    runs = open_sqlite_runs(uri, experiment_name("a/b"))
    assert runs is not None
    found, _ = runs.changes([Kind.CELL], known=())
    keys = {row["key"] for run in found for row in cells_of_run(run, [])}
    assert keys == {f"{number:016x}" for number in range(5)} | {"e" * 16}


def test_another_version_is_left_to_the_client(uri: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        connection.execute("update alembic_version set version_num = 'newer'")
    assert open_sqlite_runs(uri, experiment_name("a/b")) is None


def test_the_installed_mlflow_is_of_a_known_version(uri: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        found = {row[0] for row in connection.execute("select version_num from alembic_version")}
    assert found <= KNOWN_VERSIONS


@pytest.mark.parametrize(
    "address", ["http://host:5000", "postgresql://u@h/d", "sqlite://", "sqlite:///x.db?mode=memory"]
)
def test_no_sqlite_file(address: str) -> None:
    assert sqlite_path(address) is None and open_sqlite_runs(address, "e") is None


def test_absent_files_are_left_to_the_client_and_damaged_ones_named(uri: str, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database")
    with pytest.raises(StoreError, match="is damaged"):
        open_sqlite_runs(f"sqlite:///{tmp_path}/text.db", "e")
    assert open_sqlite_runs(f"sqlite:///{tmp_path}/absent.db", "e") is None
    assert open_sqlite_runs(uri, "no such experiment") is None
    assert not (tmp_path / "absent.db").exists()


def test_a_file_that_is_lost_meanwhile_is_one_sentence(uri: str, tmp_path: Path) -> None:
    runs = open_sqlite_runs(uri, experiment_name("a/b"))
    assert runs is not None
    runs.path = tmp_path / "moved.db"
    with pytest.raises(StoreError, match="cannot be read"):
        runs.changes([Kind.CELL], known=())
