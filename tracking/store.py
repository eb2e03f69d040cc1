"""Writing to MLflow: one writer per store, idempotent, in few calls a run (about 20 ms each on SQLite)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking.errors import StoreError
from tracking.records import CellRecord
from tracking.schema import Kind, Metric, State, Tag, experiment_name
from tracking.sqlite import is_damaged, pace_sqlite
from tracking.sqlite_runs import sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

PARAM_LIMIT = 6000
"""Longest param value MLflow takes, characters."""
TAG_LIMIT = 7900
"""Longest tag value every backend takes, characters."""
_BATCH = 900


def open_client(uri: str) -> MlflowClient:
    """MLflow client of a tracking URI, with telemetry off.

    Raises:
        StoreError: the store cannot be opened.
    """
    path = sqlite_path(uri)
    if path is not None and is_damaged(path):
        raise StoreError(
            f"the tracking store {uri} cannot be opened: {path} is no SQLite database; put its last good copy there, or choose "
            "another folder with OUT=dir",
            uri=uri,
        )
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import logging

    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    pace_sqlite()
    try:
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise StoreError(
            f"the tracking store {redact(uri)} cannot be opened ({_first_line(error)}); "
            "check tracking.uri, or that its server is up",
            uri=redact(uri),
        ) from error
    return client


def redact(uri: str) -> str:
    """URI without the password it may hold."""
    head, separator, tail = uri.rpartition("@")
    if not separator or "://" not in head:
        return uri
    scheme, _, rest = head.partition("://")
    return f"{scheme}://{rest.partition(':')[0]}:***@{tail}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


@contextlib.contextmanager
def exclusive_writer(folder: Path) -> Iterator[None]:
    """Hold the right to write to the store of ``folder``; released by the system when the process ends, however it ends.

    Raises:
        StoreError: another process holds it (its pid is named).
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "writer.lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise StoreError(
                f"another Startline (pid {holder}) is writing to {folder}; wait for it, or give this one its own OUT=dir",
                pid=holder,
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


class TrackingStore:
    """The MLflow store of one architecture."""

    def __init__(self, uri: str, arch: str, *, artifact_root: str | None = None) -> None:
        """Open the store and its experiment, making both where they are not there yet.

        Raises:
            StoreError: the store cannot be opened, or its experiment was deleted in the UI.
        """
        self.uri = uri
        self.arch = arch
        self.client = open_client(uri)
        name = experiment_name(arch)
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            location = f"{artifact_root.rstrip('/')}/{name}" if artifact_root else None
            self.experiment_id = self.client.create_experiment(name, artifact_location=location)
        elif experiment.lifecycle_stage != "active":
            raise StoreError(
                f"experiment {name} was deleted in MLflow; restore it in the UI, or use another tracking.uri",
                experiment=name,
            )
        else:
            self.experiment_id = experiment.experiment_id

    def write_cell(self, record: CellRecord, *, folder: Path | None = None) -> str:
        """Make one MLflow run of one record; returns its run id. ``folder`` holds the record's artifacts.

        Raises:
            StoreError: the store refused or is away; calling again later is safe once ``discard_half_written`` ran.
        """
        tags = {
            **record.tags,
            Tag.KIND: Kind.CELL,
            Tag.KEY: record.key,
            Tag.ATTEMPT: record.attempt,
            Tag.STATE: record.state,
            Tag.CURVE: curve_text(record.curve),
        }
        history = [
            (name, value, seen, record.ended_ms)
            for seen, score, loss in record.curve
            for name, value in ((Metric.VALIDATION_SCORE, score), (Metric.VALIDATION_LOSS, loss))
        ]
        history += [(name, value, 0, record.ended_ms) for name, value in record.metrics.items()]
        return self.write_run(
            name=f"{record.params.get('base_model', '?')} on {record.params.get('task', '?')}",
            tags=tags,
            params=record.params,
            history=history,
            files=[folder / name for name in record.artifacts] if folder else [],
            started_ms=record.started_ms,
            ended_ms=record.ended_ms,
            failed=record.state is State.FAILED,
        )

    def write_run(
        self,
        *,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, str] | None = None,
        history: Sequence[tuple[str, float, int, int]] = (),
        files: Sequence[Path] = (),
        started_ms: int | None = None,
        ended_ms: int | None = None,
        failed: bool = False,
    ) -> str:
        """Write one whole run: identity, history of metrics as (name, value, step, ms), files, and last its complete tag.

        Raises:
            StoreError: the store refused or is away.
        """
        from mlflow.entities import Metric as MlflowMetric
        from mlflow.entities import Param as MlflowParam
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        now = int(time.time() * 1000)
        end = ended_ms if ended_ms is not None else now
        metrics = [MlflowMetric(key, float(value), stamp, step) for key, value, step, stamp in history]
        entities = [MlflowParam(key, str(value)[:PARAM_LIMIT]) for key, value in (params or {}).items()]
        try:
            run = self.client.create_run(
                self.experiment_id,
                start_time=started_ms if started_ms is not None else now,
                tags={key: str(value)[:TAG_LIMIT] for key, value in tags.items()},
                run_name=name,
            )
            run_id = str(run.info.run_id)
            for start in range(0, max(len(metrics), len(entities), 1), _BATCH):
                self.client.log_batch(
                    run_id,
                    metrics=metrics[start : start + _BATCH],
                    params=entities[start : start + 100] if not start else [],
                )
            for file in files:
                if file.exists():
                    self.client.log_artifact(run_id, str(file))
            self.client.set_tag(run_id, Tag.COMPLETE, "true")
            self.client.set_terminated(run_id, status="FAILED" if failed else "FINISHED", end_time=end)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise StoreError(
                f"the tracking store {redact(self.uri)} did not take a run ({_first_line(error)}); "
                "results wait on disk and the next run uploads them",
                uri=redact(self.uri),
            ) from error
        return run_id

    def has_attempt(self, key: str, attempt: str) -> bool:
        """Whether a whole run of this attempt is already there."""
        found = self._search(f"tags.`{Tag.KEY}` = '{key}' and tags.`{Tag.ATTEMPT}` = '{attempt}'")
        return any(run.data.tags.get(Tag.COMPLETE) == "true" for run in found)

    def discard_half_written(self) -> int:
        """Settle runs an interrupted writer left RUNNING: whole ones are ended, others deleted; returns how many.

        Only the holder of ``exclusive_writer`` may call this.
        """
        found = self._search("attributes.status = 'RUNNING'")
        for run in found:
            if run.data.tags.get(Tag.COMPLETE) == "true":
                failed = run.data.tags.get(Tag.STATE) == State.FAILED
                self.client.set_terminated(run.info.run_id, status="FAILED" if failed else "FINISHED")
            elif Tag.KIND in run.data.tags:
                self.client.delete_run(run.info.run_id)
        return len(found)

    def summary_keys(self, kind: Kind) -> dict[str, str]:
        """Key -> run id of the whole summary runs of a kind."""
        found = self._search(f"tags.`{Tag.KIND}` = '{kind}'")
        return {run.data.tags[Tag.KEY]: str(run.info.run_id) for run in found if Tag.KEY in run.data.tags}

    def delete_runs(self, filter_string: str) -> int:
        """Delete the runs a filter finds (they stay in MLflow's trash); returns how many."""
        found = self._search(filter_string)
        for run in found:
            self.client.delete_run(run.info.run_id)
        return len(found)

    def _search(self, filter_string: str) -> list[Any]:
        """All runs a filter finds, newest first."""
        runs: list[Any] = []
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                filter_string=filter_string,
                max_results=1000,
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
            runs.extend(page)
            token = page.token
            if not token:
                return runs


def curve_text(curve: Sequence[tuple[int, float, float]]) -> str:
    """Validation curve as JSON [[examples, score], ...] that fits a tag (fewer digits when it would not)."""
    text = json.dumps([[seen, score] for seen, score, _ in curve], separators=(",", ":"))
    if len(text) <= TAG_LIMIT:
        return text
    return json.dumps([[seen, float(f"{score:.5g}")] for seen, score, _ in curve], separators=(",", ":"))[:TAG_LIMIT]
