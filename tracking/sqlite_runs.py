"""Reading runs straight from MLflow's SQLite file: the same runs as through its client, without importing it.

MLflow's client takes a second to import and two milliseconds a run to read (10,000 runs: 18 s); plain SQL reads them in one, and
tells which runs are new without reading any of them. Only a file whose schema version is known here is read so; any other store,
and any other version, is left to the client. Nothing is ever written here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tracking.errors import StoreError
from tracking.schema import Kind, Tag

KNOWN_VERSIONS = frozenset({"dc11669786a5"})
"""Schema versions (alembic) this reader was checked against: that of MLflow 3.17."""
_WAIT_S = 30.0
"""How long a reader waits for a writer that holds the file."""
_WORKSPACE = "default"
"""The workspace MLflow's client uses where none is named."""
_AT_ONCE = 900
"""Run ids in one query; SQLite takes 999 values everywhere."""


@dataclass(frozen=True)
class RunInfo:
    """What MLflow's ``run.info`` tells, as far as the result table needs it."""

    run_id: str
    end_time: int | None
    """ms since epoch; None while it runs."""


@dataclass
class RunData:
    """What MLflow's ``run.data`` tells: the last value of every metric, params, tags."""

    metrics: dict[str, float] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredRun:
    """A run, in the shape of MLflow's own."""

    info: RunInfo
    data: RunData


class SqliteRuns:
    """The runs of one experiment in an SQLite store; made by ``open_sqlite_runs``."""

    def __init__(self, path: Path, experiment: str) -> None:
        self.path = path
        self.experiment = experiment

    def changes(self, kinds: Sequence[Kind], *, known: Collection[str]) -> tuple[list[StoredRun], set[str]]:
        """Runs of these kinds that are not known yet, the latest start first, and the known ones that are there no more.

        Args:
            kinds: what the runs are (tag ``startline.kind``).
            known: run ids read before.

        Raises:
            StoreError: the file cannot be read.
        """
        marks = ",".join("?" * len(kinds))
        query = (
            "select runs.run_uuid, runs.end_time from runs join tags on tags.run_uuid = runs.run_uuid and tags.key = ? "
            f"where runs.experiment_id = (select experiment_id from experiments where name = ? and workspace = ?) "
            f"and runs.lifecycle_stage = 'active' and tags.value in ({marks}) order by runs.start_time desc, runs.run_uuid"
        )
        values = [Tag.KIND, self.experiment, _WORKSPACE, *map(str, kinds)]
        seen = set(known)
        with _reading(self.path) as connection:
            present: dict[str, int | None] = dict(connection.execute(query, values))
            fresh = [run_id for run_id in present if run_id not in seen]
            data = _read_data(connection, fresh)
        return [StoredRun(RunInfo(run_id, present[run_id]), data[run_id]) for run_id in fresh], seen - present.keys()

    def keys(self, kind: Kind) -> dict[str, str]:
        """Key -> run id of the runs of a kind that have a key.

        Raises:
            StoreError: the file cannot be read.
        """
        runs, _ = self.changes([kind], known=())
        return {run.data.tags[Tag.KEY]: run.info.run_id for run in runs if Tag.KEY in run.data.tags}


def open_sqlite_runs(uri: str, experiment: str) -> SqliteRuns | None:
    """Reader of an experiment's runs where ``uri`` is an SQLite file of a known version that has it; None elsewhere.

    Raises:
        StoreError: the file is damaged.
    """
    path = sqlite_path(uri)
    if path is None or not path.is_file():
        return None
    query = "select 1 from experiments where name = ? and workspace = ? and lifecycle_stage = 'active'"
    try:
        with closing(_connect(path)) as connection:
            versions = {row[0] for row in connection.execute("select version_num from alembic_version")}
            if not versions or not versions <= KNOWN_VERSIONS:
                return None
            found = connection.execute(query, [experiment, _WORKSPACE]).fetchone()
    except sqlite3.OperationalError:
        return None  # MLflow's client says what is wrong with the file
    except sqlite3.DatabaseError as error:  # MLflow would try again for more than a minute and a half
        raise StoreError(
            f"the tracking store {path} is damaged ({error}); put its last good copy there, or choose another folder with OUT=dir",
            uri=str(path),
        ) from error
    return SqliteRuns(path, experiment) if found else None


def sqlite_path(uri: str) -> Path | None:
    """File of an SQLite tracking URI (sqlite:///relative or sqlite:////absolute); None for any other URI."""
    prefix = "sqlite:///"
    if not uri.startswith(prefix) or "?" in uri or uri == prefix:
        return None
    return Path(uri.removeprefix(prefix))


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_WAIT_S, isolation_level=None)


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that sees one state of the file throughout."""
    try:
        with closing(_connect(path)) as connection:
            connection.execute("begin")
            yield connection
    except sqlite3.Error as error:
        raise StoreError(
            f"the tracking store {path} cannot be read ({error}); is another program holding or replacing it?",
            uri=str(path),
        ) from error


def _read_data(connection: sqlite3.Connection, run_ids: Sequence[str]) -> dict[str, RunData]:
    data = {run_id: RunData() for run_id in run_ids}
    for start in range(0, len(run_ids), _AT_ONCE):
        chosen = run_ids[start : start + _AT_ONCE]
        among = f"where run_uuid in ({','.join('?' * len(chosen))})"
        metrics = connection.execute(f"select run_uuid, key, value, is_nan from latest_metrics {among}", chosen)
        for run_id, key, value, is_nan in metrics:
            data[run_id].metrics[key] = float("nan") if is_nan else value  # a text here becomes a fault of its run
        for run_id, key, value in connection.execute(f"select run_uuid, key, value from params {among}", chosen):
            data[run_id].params[key] = value
        for run_id, key, value in connection.execute(f"select run_uuid, key, value from tags {among}", chosen):
            data[run_id].tags[key] = value
    return data
