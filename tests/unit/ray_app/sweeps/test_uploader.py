"""The uploader: each record once, what the store refuses waits, what cannot be read is left aside."""

from __future__ import annotations

import os
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
        self.settled = 0

    def discard_half_written(self) -> int:
        if self.away:
            raise StoreError("away")
        self.settled += 1
        return 0

    def write_cell(self, record: CellRecord, *, folder: Path | None = None) -> str:
        if self.away:
            raise StoreError("away")
        self.written.append(record.key)
        self.attempts.add((record.key, record.attempt))
        return "run"

    def has_attempt(self, key: str, attempt: str) -> bool:
        return (key, attempt) in self.attempts


def uploader(store: Store, folder: Path, **given: object) -> Uploader:
    return Uploader(store, folder, complete=given.get("complete", ()), writers=int(given.get("writers", 1)))  # type: ignore


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
    up.drain()
    assert up.last_error is not None and store.settled == 0
    store.away = False
    up.drain()
    assert up.last_error is None and store.written == ["a" * 16]
    assert store.settled == 1, "what a broken upload left RUNNING is settled before going on"


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


def test_records_go_up_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    store = Store()
    for second, name in enumerate("cab"):
        os.utime(write_record(tmp_path, cell(name * 16)), (second, second))
    uploader(store, tmp_path).drain()
    assert store.written == ["c" * 16, "a" * 16, "b" * 16]


def test_sixteen_writers_upload_each_record_once_and_one_of_a_cell(tmp_path: Path) -> None:
    store = Store()
    keys = [f"{n:016x}" for n in range(100)]
    for key in keys:
        write_record(tmp_path, cell(key, ended=1))
        write_record(tmp_path, cell(key, ended=2))
    up = uploader(store, tmp_path, writers=16)
    up.drain()
    assert sorted(store.written) == keys and up.uploaded == 100 and list(pending_records(tmp_path)) == []


def test_the_store_going_away_between_two_uploads_stops_all_writers(tmp_path: Path) -> None:
    store = Store()
    for n in range(20):
        write_record(tmp_path, cell(f"{n:016x}"))
    store.away = True
    up = uploader(store, tmp_path, writers=4)
    up.drain()
    assert up.last_error is not None and len(list(pending_records(tmp_path))) == 20
    store.away = False
    up.drain()
    assert len(store.written) == len(set(store.written)) == 20


def test_a_store_that_goes_away_while_it_is_asked_does_not_end_the_thread(tmp_path: Path) -> None:
    """The check for an attempt that is there already meets the store away; the thread goes on and uploads later."""

    class Asked(Store):
        def has_attempt(self, key: str, attempt: str) -> bool:
            if self.away:
                raise StoreError("away")
            return super().has_attempt(key, attempt)

    store = Asked()
    store.away = True
    write_record(tmp_path, cell("a" * 16))
    up = uploader(store, tmp_path)
    up.drain(check=True)
    assert up.last_error is not None
    store.away = False
    up.start()
    assert up.wait(patience_s=5) == 0 or up.stop(patience_s=5) == 0


def test_ending_does_not_wait_for_records_of_another_architecture(tmp_path: Path) -> None:
    store = Store()
    store.arch = "other"
    write_record(tmp_path, cell("a" * 16))
    up = uploader(store, tmp_path)
    up.drain()
    assert up.stop(patience_s=60) == 0
