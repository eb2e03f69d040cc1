"""The uploader: each record once, what the store refuses waits, what cannot be read is left aside."""

from __future__ import annotations

from pathlib import Path

from ray_app.sweeps.uploader import Uploader
from tests.unit.tracking.test_table import cell
from tracking.errors import StoreError
from tracking.records import CellRecord, pending_records, write_record
from tracking.schema import State


class Store:
    """Stands in for MLflow: remembers what was written, and can be away."""

    arch = "a/b"

    def __init__(self) -> None:
        self.written: list[str] = []
        self.attempts: set[tuple[str, str]] = set()
        self.away = False

    def write_cell(self, record: CellRecord, *, folder: Path | None = None) -> str:
        if self.away:
            raise StoreError("away")
        self.written.append(record.key)
        self.attempts.add((record.key, record.attempt))
        return "run"

    def has_attempt(self, key: str, attempt: str) -> bool:
        return (key, attempt) in self.attempts


def uploader(store: Store, folder: Path, **given: object) -> Uploader:
    return Uploader(store, folder, complete=given.get("complete", ()))  # type: ignore[arg-type]


def test_each_record_is_uploaded_once_and_removed(tmp_path: Path) -> None:
    store = Store()
    for name in ("a", "b"):
        write_record(tmp_path, cell(name * 16))
    up = uploader(store, tmp_path)
    up.drain()
    up.drain()
    assert sorted(store.written) == ["a" * 16, "b" * 16] and list(pending_records(tmp_path)) == []
    assert up.complete == {"a" * 16, "b" * 16} and up.uploaded == 2


def test_a_second_scored_attempt_is_not_uploaded_a_failed_one_is(tmp_path: Path) -> None:
    store = Store()
    write_record(tmp_path, cell("a" * 16, ended=1))
    write_record(tmp_path, cell("a" * 16, ended=2))
    write_record(tmp_path, cell("c" * 16, score=None, state=State.FAILED))
    uploader(store, tmp_path, complete={"a" * 16}).drain()
    assert store.written == ["c" * 16] and list(pending_records(tmp_path)) == []


def test_a_store_that_is_away_loses_nothing(tmp_path: Path) -> None:
    store = Store()
    store.away = True
    write_record(tmp_path, cell("a" * 16))
    up = uploader(store, tmp_path)
    up.drain()
    assert up.last_error is not None and len(list(pending_records(tmp_path))) == 1
    store.away = False
    up.drain()
    assert up.last_error is None and store.written == ["a" * 16]


def test_a_record_uploaded_before_a_crash_is_not_uploaded_again(tmp_path: Path) -> None:
    store = Store()
    one = cell("a" * 16)
    store.attempts.add((one.key, one.attempt))
    write_record(tmp_path, one)
    uploader(store, tmp_path).drain(check=True)
    assert store.written == [] and list(pending_records(tmp_path)) == []


def test_a_damaged_record_does_not_hold_up_the_others(tmp_path: Path) -> None:
    store = Store()
    (tmp_path / "0.record.json").write_text("{")
    write_record(tmp_path, cell("a" * 16))
    up = uploader(store, tmp_path)
    up.drain()
    assert store.written == ["a" * 16] and len(up.unreadable) == 1
    assert up.stop(patience_s=0.1) == 0


def test_records_of_another_architecture_stay(tmp_path: Path) -> None:
    store = Store()
    store.arch = "other"
    write_record(tmp_path, cell("a" * 16))
    uploader(store, tmp_path).drain()
    assert store.written == [] and len(list(pending_records(tmp_path))) == 1
