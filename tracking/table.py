"""From MLflow runs to one Arrow table of cells, with a Parquet snapshot that is brought up to date incrementally.

A run is read once. Where the store is an SQLite file, a sync reads the runs whose ids the snapshot lacks (``sqlite_runs``); else
it asks MLflow for the runs that were uploaded after the newest one in the snapshot, with an overlap, since clocks of drivers
differ; when a run ended says nothing, for a result may have waited on disk for days. Runs deleted in MLflow leave the table with
the next sync.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tracking.client import open_client, speaking
from tracking.errors import TableError
from tracking.run_rows import cells_of_run
from tracking.schema import (
    PREFIX,
    SCHEMA_VERSION,
    SCORED_STATES,
    Kind,
    Metric,
    Tag,
    cell_schema,
    experiment_name,
)
from tracking.sqlite_runs import open_sqlite_runs

OVERLAP_MS = 15 * 60 * 1000
"""How far a sync of a server looks back before the newest upload it knows: by so much may the clocks of drivers differ."""


@dataclass(frozen=True)
class SyncReport:
    """What a sync did."""

    n_new: int
    n_removed: int
    n_rows: int
    faults: tuple[str, ...]


def sync_table(uri: str, arch: str, snapshot: Path, *, rebuild: bool = False) -> tuple[pa.Table, SyncReport]:
    """The table of all cells of ``arch``, and what changed; the snapshot is brought up to date.

    Args:
        uri: MLflow tracking URI.
        arch: architecture (its experiment is ``startline/<arch>``).
        snapshot: Parquet file; made where absent, and made anew when it is damaged or of another schema version.
        rebuild: read everything again.

    Raises:
        StoreError: the store cannot be read.
    """
    faults: list[str] = []
    known = None if rebuild else _read_snapshot(snapshot, faults)
    rows = known if known is not None else cell_schema().empty_table()
    found = _changes(uri, arch, rows)
    if found is None:
        return rows, SyncReport(0, 0, rows.num_rows, tuple(faults))
    fresh, gone = found
    new_rows = [row for run in fresh for row in cells_of_run(run, faults)]
    kept = rows.filter(pc.invert(pc.is_in(rows["run_id"], pa.array(sorted(gone), pa.string())))) if gone else rows
    table = pa.concat_tables([kept, _to_table(new_rows)]) if new_rows else kept
    report = SyncReport(len(new_rows), rows.num_rows - kept.num_rows, table.num_rows, tuple(faults))
    if report.n_new or report.n_removed or known is None:
        write_table(table, snapshot)
    return table, report


def summary_keys(uri: str, arch: str, kind: Kind) -> dict[str, str]:
    """Key -> run id of the summary runs of a kind; empty where the architecture has no experiment yet.

    Raises:
        StoreError: the store cannot be read.
    """
    direct = open_sqlite_runs(uri, experiment_name(arch))
    if direct is not None:
        return direct.keys(kind)
    client = open_client(uri)
    with speaking(uri, "read"):
        experiment = client.get_experiment_by_name(experiment_name(arch))
    if experiment is None:
        return {}
    found = _search(client, experiment.experiment_id, f"tags.`{Tag.KIND}` = '{kind}'", deleted=False)
    return {run.data.tags[Tag.KEY]: str(run.info.run_id) for run in found if Tag.KEY in run.data.tags}


def _changes(uri: str, arch: str, rows: pa.Table) -> tuple[Iterable[Any], set[str]] | None:
    """Runs that the table lacks, and ids of its runs that were deleted; None where there is no experiment."""
    seen = set(rows["run_id"].to_pylist())
    direct = open_sqlite_runs(uri, experiment_name(arch))
    if direct is not None:
        return direct.changes([Kind.CELL, Kind.PUBLISHED], known=seen)
    client = open_client(uri)
    with speaking(uri, "read"):
        experiment = client.get_experiment_by_name(experiment_name(arch))
    if experiment is None:
        return None
    newest = newest_upload_ms(rows)
    changed = f"metrics.`{Metric.UPLOADED_MS}` > {newest - OVERLAP_MS}" if newest else ""
    fresh = _search(client, experiment.experiment_id, changed, deleted=False)
    deleted = _search(client, experiment.experiment_id, "", deleted=True) if seen else ()
    return [run for run in fresh if run.info.run_id not in seen], {run.info.run_id for run in deleted}


def newest_upload_ms(table: pa.Table) -> int:
    """When the newest row of the table was uploaded, ms since epoch; 0 where none says so."""
    return int(pc.max(table["uploaded_ms"]).as_py() or 0)


def read_table(snapshot: Path) -> pa.Table:
    """Read a snapshot.

    Raises:
        TableError: absent, damaged, or of a newer schema version.
    """
    if not snapshot.exists():
        raise TableError(
            f"no result table at {snapshot}; run `make rank` for this architecture first", path=str(snapshot)
        )
    faults: list[str] = []
    table = _read_snapshot(snapshot, faults)
    if table is None:
        raise TableError(f"{faults[0]}; remove it, the next `make rank` makes it anew", path=str(snapshot))
    return table


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table as Parquet under a temporary name, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    pq.write_table(table, temporary, compression="zstd")
    temporary.replace(path)


def scored_cells(table: pa.Table) -> pa.Table:
    """The rows that count: scored attempts, one a key (the first by end, then by run id), in the order of end.

    Failed attempts are left out: a failed cell has no score.
    """
    scored = table.filter(
        pc.and_(
            pc.is_in(table["state"], pa.array([str(state) for state in SCORED_STATES])), pc.is_valid(table["score"])
        )
    ).sort_by([("end_time_ms", "ascending"), ("run_id", "ascending")])
    first = scored.append_column("row", pa.array(range(scored.num_rows), pa.int64())).group_by("key", use_threads=False)
    keep = first.aggregate([("row", "min")])["row_min"]
    return scored.take(keep.combine_chunks().sort())


def _read_snapshot(path: Path, faults: list[str]) -> pa.Table | None:
    if not path.exists():
        return None
    try:
        with pq.ParquetFile(path, memory_map=True) as file:  # read_table would import pandas
            table = file.read()
        version = int((table.schema.metadata or {}).get(f"{PREFIX}.schema_version".encode(), b"0"))
        if version > SCHEMA_VERSION:
            faults.append(f"{path} has schema version {version}, this Startline knows up to {SCHEMA_VERSION}")
            return None
        return conform(table)
    except (pa.ArrowException, OSError, ValueError) as error:
        faults.append(f"{path} is damaged ({(str(error).splitlines() or [type(error).__name__])[0][:200]})")
        return None


def conform(table: pa.Table) -> pa.Table:
    """Bring a table of an older schema version to today's columns: what it did not know yet is null.

    Raises:
        pa.ArrowException: a value cannot be of its column's type.
        ValueError: a value is missing that every row has.
    """
    schema = cell_schema()
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    whole = pa.table(columns, schema=schema)
    lacking = [field.name for field in schema if not field.nullable and whole[field.name].null_count]
    if lacking:
        raise ValueError(f"rows lack {', '.join(lacking)}")
    return whole


def _search(client: Any, experiment_id: str, filter_string: str, *, deleted: bool) -> Iterable[Any]:
    from mlflow.entities import ViewType

    view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    token: str | None = None
    runs: list[Any] = []
    with speaking(str(client.tracking_uri), "read"):
        while True:
            page = client.search_runs(
                [experiment_id], filter_string=filter_string, run_view_type=view, max_results=5000, page_token=token
            )
            runs.extend(page)
            token = page.token
            if not token:
                return runs


def _to_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=cell_schema())
