"""Result tables and MLflow's database: whatever is in them, a table with stated faults or one sentence; no snapshot is left half-written."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from analysis.assessment import assess
from ray_app.commands.rank import assess_table
from ray_app.config import AppConfig, load_config
from tests.fuzz.surface import HOSTILE, damaged, fuzzed, plain_json, texts, user_sees
from tests.result_cells import baseline_cells, model_cells, result_table
from tracking.records import CellRecord, read_record, write_record
from tracking.schema import CELL_COLUMNS, SCORED_STATES, Kind, Metric, Param, State, Tag
from tracking.store import TrackingStore
from tracking.table import read_table, scored_cells, sync_table, write_table

ARCH = "acme/arch"
_scratch = tempfile.TemporaryDirectory(prefix="startline-fuzz-")


@cache
def config() -> AppConfig:
    return load_config([f"ARCH={ARCH}".replace("ARCH", "arch")], any_arch=True)


def sound_table() -> pa.Table:
    """Two base models and two repetitions of the pretrained one, on three tasks."""
    tasks = ("rte", "cola", "sst2")
    rows = baseline_cells({task: (0.5, 0.55) for task in tasks})
    rows += model_cells("org/one", dict.fromkeys(tasks, 0.6)) + model_cells("org/two", dict.fromkeys(tasks, 0.7))
    return result_table(rows)


@cache
def sound_snapshot() -> bytes:
    path = Path(_scratch.name) / "sound.parquet"
    write_table(sound_table(), path)
    return path.read_bytes()


@cache
def sound_store() -> Path:
    """An SQLite store with the cells of the table, and runs of published models."""
    folder = Path(_scratch.name) / "store"
    folder.mkdir(exist_ok=True)
    store = TrackingStore(f"sqlite:///{folder}/mlflow.db", ARCH, artifact_root=str(folder))
    for row in sound_table().to_pylist():
        params = {
            column.name: str(row[column.name])
            for column in CELL_COLUMNS
            if column.source.startswith("param") and row[column.name] is not None
        }
        store.write_run(
            name="cell",
            tags={
                Tag.KIND: Kind.CELL,
                Tag.KEY: row["key"],
                Tag.ATTEMPT: "a",
                Tag.STATE: State.COMPLETE,
                Tag.BASELINE: row["baseline"] or "",
            },
            params=params,
            history=[
                (Metric.SCORE, row["score"], 0, 1),
                (Metric.N_EVAL, 200.0, 0, 1),
                (Metric.N_CORRECT, row["n_correct"], 0, 1),
            ],
            ended_ms=1000,
        )
    store.write_run(
        name="published",
        tags={Tag.KIND: Kind.PUBLISHED, Tag.KEY: "k", Tag.SOURCE_ROW: "2"},
        params={Param.ARCH: ARCH, Param.BASE_MODEL: "pub/one"},
        history=[("score.rte", 0.5, 0, 1), (Metric.PROBE_MNLI, 0.4, 0, 1)],
        ended_ms=1000,
    )
    with (
        closing(sqlite3.connect(folder / "mlflow.db")) as source,
        closing(sqlite3.connect(folder / "whole.db")) as copy,
    ):
        source.backup(copy)  # MLflow keeps the first one open, with a write-ahead log
        copy.execute("PRAGMA journal_mode=DELETE")
    return folder / "whole.db"


@st.composite
def odd_tables(draw: st.DrawFn) -> pa.Table:
    """A result table with columns missing, of other types, or with values of any kind."""
    table = sound_table()
    columns: dict[str, object] = {name: table[name].to_pylist() for name in table.column_names}
    for name in draw(st.lists(st.sampled_from(table.column_names), min_size=1, max_size=5)):
        kind = draw(st.sampled_from(["drop", "null", "texts", "numbers", "nan", "one"]))
        n_rows = table.num_rows
        if kind == "drop":
            columns.pop(name, None)
        elif kind == "null":
            columns[name] = [None] * n_rows
        elif kind == "texts":
            columns[name] = draw(
                st.lists(
                    st.sampled_from([text for text in HOSTILE if text != "\ud800"]), min_size=n_rows, max_size=n_rows
                )
            )
        elif kind == "numbers":
            columns[name] = draw(st.lists(st.integers(-(2**62), 2**62), min_size=n_rows, max_size=n_rows))
        elif kind == "nan":
            columns[name] = draw(st.lists(st.floats(), min_size=n_rows, max_size=n_rows))
        elif kind == "one":
            columns[name] = [draw(st.sampled_from([0, 1.5, "x", True]))] * n_rows
    versions = draw(st.sampled_from(["", "", "", "1", "1", "1", "99", "x"]))
    metadata = {"startline.schema_version": versions} if versions else {}
    return pa.table(columns).replace_schema_metadata(metadata)


def ranked(table: pa.Table) -> None:
    """What every command does with a table: the cells that count, the gate, the ranking."""
    cells = scored_cells(table)
    assert set(cells["state"].to_pylist()) <= {str(state) for state in SCORED_STATES}
    keys = cells["key"].to_pylist()
    assert len(set(keys)) == len(keys)
    assess_table(config(), table)


def stored(content: bytes | pa.Table, folder: Path) -> Path:
    """A snapshot of this content."""
    path = folder / "table.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        pq.write_table(content, path)
    return path


@given(st.one_of(st.deferred(lambda: damaged(sound_snapshot())), odd_tables()))
@fuzzed(quick=40, share=0.6)
def test_a_snapshot_is_read_or_refused(content: bytes | pa.Table) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = stored(content, Path(folder))
        with user_sees("Parquet snapshot"):
            ranked(read_table(path))


@given(st.one_of(st.deferred(lambda: damaged(sound_snapshot())), odd_tables()))
@fuzzed(quick=10, share=0.4)
def test_a_snapshot_that_cannot_be_read_is_made_anew(content: bytes | pa.Table) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = stored(content, Path(folder))
        with user_sees("Parquet snapshot, synced"):
            table, _ = sync_table(f"sqlite:///{sound_store()}", ARCH, path)
            assert read_table(path).equals(table)
            assert not [other for other in Path(folder).iterdir() if other != path]


changes = st.lists(
    st.one_of(
        st.tuples(
            st.just("value"),
            st.sampled_from(["params", "tags"]),
            st.integers(0, 400),
            st.one_of(texts, plain_json.map(json.dumps)),
        ),
        st.tuples(
            st.just("value"), st.just("latest_metrics"), st.integers(0, 60), st.one_of(st.floats(), texts, st.none())
        ),
        st.tuples(st.just("key"), st.sampled_from(["params", "tags", "latest_metrics"]), st.integers(0, 400), texts),
        st.tuples(
            st.just("drop"),
            st.sampled_from(["params", "tags", "latest_metrics", "runs"]),
            st.integers(0, 400),
            st.none(),
        ),
        st.tuples(
            st.just("end_time"), st.just("runs"), st.integers(0, 10), st.sampled_from([None, -1, 2**62, 0, "x", 1.5])
        ),
    ),
    min_size=1,
    max_size=5,
)


def change(path: Path, what: list[tuple[str, str, int, object]]) -> None:
    """Edit rows of the database as another program might; what SQLite itself refuses is left."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        for column, table, place, value in what:
            rows = [row[0] for row in connection.execute(f"select rowid from {table}")]
            row = rows[place % len(rows)] if rows else 0
            try:
                if column == "drop":
                    connection.execute(f"delete from {table} where rowid = ?", [row])
                else:
                    connection.execute(f"update {table} set {column} = ? where rowid = ?", [value, row])
            except (sqlite3.Error, UnicodeEncodeError, OverflowError):
                continue
        connection.commit()


@given(changes)
@fuzzed(quick=25, share=0.6)
def test_rows_of_the_database_become_a_table_with_faults(what: list[tuple[str, str, int, object]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copy(sound_store(), folder))
        change(path, what)
        with user_sees("rows of MLflow's database"):
            table, report = sync_table(f"sqlite:///{path}", ARCH, Path(folder) / "table.parquet")
            assert all(text.strip() for text in report.faults)
            assert read_table(Path(folder) / "table.parquet").num_rows == table.num_rows
            ranked(table)


@given(st.integers(0, 2**31), st.integers(1, 5), st.booleans())
@fuzzed(quick=3, share=0.02)
def test_a_database_with_bad_pages_is_read_or_refused(seed: int, n_places: int, cut: bool) -> None:
    chance = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        content = bytearray(sound_store().read_bytes())
        for place in chance.integers(100, len(content) - 600, n_places):
            content[place : place + 500] = chance.bytes(500)
        path = Path(folder) / "mlflow.db"
        path.write_bytes(content[: chance.integers(100, len(content))] if cut else content)
        with user_sees("MLflow's database file"):
            ranked(sync_table(f"sqlite:///{path}", ARCH, Path(folder) / "table.parquet")[0])


RECORD = CellRecord(
    key="0123456789abcdef", attempt="a.1", state=State.COMPLETE, arch=ARCH, params={Param.TASK: "rte"}, tags={Tag.SWEEP: "s"},
    metrics={Metric.SCORE: 0.5}, curve=((10, 0.5, 0.7),), started_ms=1, ended_ms=2, artifacts=(),
)  # fmt: skip


@cache
def sound_record() -> bytes:
    return write_record(Path(_scratch.name) / "records", RECORD).read_bytes()


@st.composite
def record_files(draw: st.DrawFn) -> bytes:
    """A record with some of its fields of any value, or damaged."""
    if draw(st.booleans()):
        return draw(damaged(sound_record()))
    whole = json.loads(sound_record())
    for name in draw(st.lists(st.sampled_from([*whole, "more"]), min_size=1, max_size=3)):
        whole[name] = draw(st.one_of(plain_json, texts, st.lists(texts, max_size=2)))
    return json.dumps(whole).encode(errors="surrogatepass")


@given(record_files())
@fuzzed(quick=60, share=1.0)
def test_a_record_is_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{RECORD.key}-{RECORD.attempt}.record.json"
        path.write_bytes(content)
        with user_sees("record of a cell"):
            record = read_record(path)
            assert all("/" not in name and not name.startswith(".") for name in (*record.artifacts, record.key))
            assert isinstance(record.state, State)


def test_the_sound_table_is_ranked() -> None:
    """What the tests above damage is fine before."""
    ranked(sound_table())
    assert assess(scored_cells(sound_table()), rng=np.random.default_rng(0)).bases
