"""The write-ahead log of SQLite stores."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Engine

from tracking.sqlite import _on_connect, pace_sqlite

NORMAL, FULL = 1, 2
"""Values of PRAGMA synchronous."""


@pytest.fixture
def paced() -> Iterator[None]:
    had = event.contains(Engine, "connect", _on_connect)
    pace_sqlite()
    pace_sqlite()
    yield
    if not had:
        event.remove(Engine, "connect", _on_connect)


def pragmas(uri: str) -> tuple[str, int]:
    engine = create_engine(uri)
    try:
        with engine.connect() as connection:
            mode = connection.execute(text("PRAGMA journal_mode")).scalar_one()
            return mode, connection.execute(text("PRAGMA synchronous")).scalar_one()
    finally:
        engine.dispose()


def test_a_file_gets_the_log(paced: None, tmp_path: Path) -> None:
    assert pragmas(f"sqlite:///{tmp_path / 'a.db'}") == ("wal", NORMAL)


def test_a_store_in_memory_stays_as_it_is(paced: None) -> None:
    assert pragmas("sqlite://") == ("memory", FULL)


def test_a_file_in_use_stays_as_it_is(paced: None, tmp_path: Path) -> None:
    path = tmp_path / "used.db"
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("CREATE TABLE t (x)")
    holder.execute("BEGIN")
    holder.execute("SELECT * FROM t").fetchall()
    try:
        assert pragmas(f"sqlite:///{path}?timeout=0.05") == ("delete", FULL)
    finally:
        holder.close()
