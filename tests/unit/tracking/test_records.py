"""Records: whole or absent, read back as written, damage named."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tracking.errors import StorageError, TableError
from tracking.records import (
    CellRecord,
    holds_score,
    key_of,
    pending_records,
    read_record,
    remove_record,
    write_record,
)
from tracking.schema import State


def record(**changes: object) -> CellRecord:
    made = CellRecord(
        key="0" * 16,
        attempt="s.1",
        state=State.COMPLETE,
        arch="a/b",
        params={"arch": "a/b", "seed": "0"},
        tags={"t": "ü"},
        metrics={"score": 1 / 3, "best_validation_score": -math.inf},
        curve=((10, 0.5, 0.7), (20, 0.6, math.nan)),
        started_ms=1,
        ended_ms=2,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_it_is_read_back_as_written(tmp_path: Path) -> None:
    path = write_record(tmp_path, record())
    back = read_record(path)
    assert back.metrics == record().metrics
    assert back.curve[0] == (10, 0.5, 0.7) and math.isnan(back.curve[1][2])
    assert back.state is State.COMPLETE
    assert list(pending_records(tmp_path)) == [path]


def test_no_temporary_file_is_left_or_listed(tmp_path: Path) -> None:
    write_record(tmp_path, record())
    (tmp_path / ".x.record.json.1.tmp").write_text("{")
    assert len(list(pending_records(tmp_path))) == 1
    assert list(pending_records(tmp_path / "absent")) == []


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": 1}', '{"version": "x"}', "null", '{"version":1,"state":"odd"}']
)
def test_damage_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "k.record.json"
    path.write_text(content)
    with pytest.raises(TableError, match="not a readable record"):
        read_record(path)


def test_a_newer_version_is_not_guessed_at(tmp_path: Path) -> None:
    path = write_record(tmp_path, record())
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))
    with pytest.raises(TableError, match="version 99"):
        read_record(path)


def test_removal_takes_the_files_beside_it(tmp_path: Path) -> None:
    own = f"{record().key}-{record().attempt}.predictions.parquet"
    (tmp_path / own).write_bytes(b"x")
    path = write_record(tmp_path, record(artifacts=(own,)))
    remove_record(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../victim", "/etc/passwd", "victim", ".hidden", "a\0b", ""])
def test_a_record_cannot_name_files_of_others(name: str, tmp_path: Path) -> None:
    """They would be uploaded, and removed."""
    path = write_record(tmp_path / "records", record(artifacts=(name,)))
    (tmp_path / "victim").write_text("x")
    with pytest.raises(TableError, match="not one of its own"):
        remove_record(path)
    assert (tmp_path / "victim").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="OUT=dir"):
        write_record(tmp_path / "file" / "below", record())


def test_records_are_listed_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    names = ["c" * 16, "a" * 16, "b" * 16]
    for second, name in enumerate(names):
        os.utime(write_record(tmp_path, record(key=name)), (second, second))
    assert [key_of(path) for path in pending_records(tmp_path)] == names


def test_a_score_on_disk_is_found_past_failures_and_damage(tmp_path: Path) -> None:
    key = "a" * 16
    write_record(tmp_path, record(key=key, attempt="1", state=State.FAILED))
    (tmp_path / f"{key}-2.record.json").write_text("{")
    assert not holds_score(tmp_path, key)
    write_record(tmp_path, record(key=key, attempt="3"))
    assert holds_score(tmp_path, key) and not holds_score(tmp_path, "b" * 16)
