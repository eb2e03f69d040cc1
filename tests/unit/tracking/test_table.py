"""From MLflow runs to the table: one row a cell, one scored cell a key, incremental, damage made good."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.tracking.test_records import record
from tracking.errors import StoreError, TableError
from tracking.records import CellRecord
from tracking.schema import CELL_COLUMNS, Kind, Metric, Param, State, Tag, cell_schema
from tracking.store import TrackingStore, curve_text, exclusive_writer, writer_id
from tracking.table import conform, newest_upload_ms, read_table, scored_cells, sync_table


def cell(
    key: str, *, score: float | None = 0.5, state: State = State.COMPLETE, ended: int = 1_000_000, **params: str
) -> CellRecord:
    identity = {Param.ARCH: "a/b", Param.BASE_MODEL: "m", Param.TASK: "rte", Param.METHOD: "finetune", Param.SEED: "0"}
    metrics = {} if score is None else {Metric.SCORE: score, Metric.N_CORRECT: 5.0, Metric.N_EVAL: 10.0}
    return record(
        key=key,
        attempt=f"s.{ended}",
        state=state,
        params={**identity, **params},
        metrics=metrics,
        tags={},
        ended_ms=ended,
    )


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with six cells, one of them failed, one half-written and one written twice."""
    folder = tmp_path_factory.mktemp("store")
    address = f"sqlite:///{folder}/mlflow.db"
    store = TrackingStore(address, "a/b", artifact_root=str(folder / "artifacts"))
    for number in range(4):
        store.write_cell(cell(f"{number:016x}", score=number / 10, ended=1_000_000 + number))
    store.write_cell(cell("e" * 16, score=None, state=State.FAILED))
    store.write_cell(cell(f"{3:016x}", score=0.9, ended=5_000_000))
    store.client.create_run(store.experiment_id, tags={Tag.KIND: Kind.CELL, Tag.KEY: "f" * 16})
    return address


def test_whole_runs_become_rows(uri: str, tmp_path: Path) -> None:
    table, report = sync_table(uri, "a/b", tmp_path / "t.parquet")
    assert table.schema.equals(cell_schema())
    assert report.n_new == 6 and report.faults == ()
    row = next(row for row in table.to_pylist() if row["key"] == f"{2:016x}")
    assert (row["score"], row["n_correct"], row["n_eval"], row["seed"], row["base_model"]) == (0.2, 5, 10, 0, "m")
    assert row["curve"].startswith("[[10,0.5],[20,0.6")


def test_one_scored_cell_a_key_the_first_that_ended(uri: str, tmp_path: Path) -> None:
    table, _ = sync_table(uri, "a/b", tmp_path / "t.parquet")
    cells = scored_cells(table)
    assert sorted(cells["key"].to_pylist()) == [f"{number:016x}" for number in range(4)]
    twice = {row["key"]: row["score"] for row in cells.to_pylist()}
    assert twice[f"{3:016x}"] == 0.3


def test_a_second_sync_reads_nothing_twice(uri: str, tmp_path: Path) -> None:
    snapshot = tmp_path / "t.parquet"
    first, _ = sync_table(uri, "a/b", snapshot)
    before = snapshot.stat().st_mtime_ns
    again, report = sync_table(uri, "a/b", snapshot)
    assert report.n_new == 0 and snapshot.stat().st_mtime_ns == before
    assert again.equals(first) and read_table(snapshot).equals(first)


@pytest.mark.parametrize("keep", [0, 10, 900])
def test_a_truncated_snapshot_is_made_anew_and_said(uri: str, tmp_path: Path, keep: int) -> None:
    snapshot = tmp_path / "t.parquet"
    sync_table(uri, "a/b", snapshot)
    snapshot.write_bytes(snapshot.read_bytes()[:keep])
    with pytest.raises(TableError, match="damaged"):
        read_table(snapshot)
    table, report = sync_table(uri, "a/b", snapshot)
    assert table.num_rows == 6 and "damaged" in report.faults[0]


def test_an_older_version_loads_and_a_newer_one_does_not(tmp_path: Path) -> None:
    required = {field.name: pa.array(["1"]).cast(field.type) for field in cell_schema() if not field.nullable}
    table = conform(pa.table(required | {"score": pa.array([0.5])}))
    assert table.schema.equals(cell_schema()) and table["seed"].to_pylist() == [None]
    with pytest.raises(ValueError, match="rows lack"):
        conform(pa.table({"score": [0.5]}))
    newer = cell_schema().empty_table().replace_schema_metadata({"startline.schema_version": "99"})
    pq.write_table(newer, tmp_path / "n.parquet")
    with pytest.raises(TableError, match="version 99"):
        read_table(tmp_path / "n.parquet")
    with pytest.raises(TableError, match="no result table"):
        read_table(tmp_path / "absent.parquet")


def test_deleted_runs_leave_and_half_written_ones_are_settled(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    store = TrackingStore(uri, "x", artifact_root=str(tmp_path / "artifacts"))
    gone = store.write_cell(cell("a" * 16))
    store.write_cell(cell("b" * 16))
    store.client.create_run(store.experiment_id, tags={Tag.KIND: Kind.CELL, Tag.KEY: "c" * 16})
    store.client.create_run(store.experiment_id, tags={Tag.KIND: Kind.CELL, Tag.KEY: "d" * 16, Tag.COMPLETE: "true"})
    others = store.client.create_run(store.experiment_id, tags={Tag.KIND: Kind.CELL, Tag.WRITER: "another"})
    foreign = store.client.create_run(store.experiment_id, tags={"mine": "no run of Startline"})
    assert store.discard_half_written() == 2
    for run in (others, foreign):
        assert store.client.get_run(run.info.run_id).info.lifecycle_stage == "active"
    sync_table(uri, "x", tmp_path / "t.parquet")
    store.client.delete_run(gone)
    table, report = sync_table(uri, "x", tmp_path / "t.parquet")
    assert report.n_removed == 1 and "a" * 16 not in table["key"].to_pylist()
    assert store.has_attempt("b" * 16, "s.1000000") and not store.has_attempt("b" * 16, "other")


def test_uploads_are_stamped_later_than_what_is_known_also_after_the_clock_was_set_back(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    store = TrackingStore(uri, "x", artifact_root=str(tmp_path / "artifacts"))
    future = 4_000_000_000_000
    store.know_stamp(future)
    store.write_cell(cell("a" * 16))
    table, _ = sync_table(uri, "x", tmp_path / "t.parquet")
    assert newest_upload_ms(table) == future


def test_a_writer_keeps_its_name(tmp_path: Path) -> None:
    name = writer_id(tmp_path)
    assert len(name) == 16 and writer_id(tmp_path) == name != writer_id(tmp_path / "other")


def test_columns_are_described_once() -> None:
    names = [column.name for column in CELL_COLUMNS]
    assert len(names) == len(set(names)) and all(column.text for column in CELL_COLUMNS)


def test_one_writer_at_a_time_and_its_pid_is_named(tmp_path: Path) -> None:
    import os

    with exclusive_writer(tmp_path), pytest.raises(StoreError, match=f"pid {os.getpid()}"), exclusive_writer(tmp_path):
        pass
    with exclusive_writer(tmp_path):
        pass


def test_a_long_curve_keeps_fitting_a_tag() -> None:
    curve = [(12800 * step, 0.123456789 + step / 7, 0.5) for step in range(300)]
    assert len(curve_text(curve)) <= 7900


def test_an_unusable_store_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is no database, not at all" * 100)
    with pytest.raises(StoreError, match="cannot be opened"):
        TrackingStore(f"sqlite:///{tmp_path}/mlflow.db", "x")
