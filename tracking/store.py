"""Writing to MLflow: one writer per store, idempotent, in few calls a run (about 20 ms each on SQLite)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tracking.client import open_client, speaking
from tracking.errors import StorageError, StoreError
from tracking.records import CellRecord, write_atomically
from tracking.schema import Kind, Metric, State, Tag, experiment_name
from tracking.secrets import redact_forms

PARAM_LIMIT = 6000
"""Longest param value MLflow takes, characters."""
TAG_LIMIT = 7900
"""Longest tag value every backend takes, characters."""
_BATCH = 900


@contextlib.contextmanager
def exclusive_writer(folder: Path) -> Iterator[None]:
    """Hold the right to write to the store of ``folder``; released by the system when the process ends, however it ends.

    Raises:
        StoreError: another process holds it (its pid is named).
        StorageError: the folder cannot be made or written.
    """
    path = folder / "writer.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = path.open("a+")
    except OSError as error:
        raise StorageError(
            f"the folder {folder} cannot be written ({error.strerror}); choose another with OUT=dir", path=str(folder)
        ) from error
    with held as file:
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


def writer_id(folder: Path) -> str:
    """Name under which ``folder`` writes to a store that it may share with others; made once, kept in the folder.

    Raises:
        StorageError: the folder cannot be written.
    """
    path = folder / "writer.id"
    try:
        found = path.read_text().strip()
    except OSError:
        found = ""
    if not found:
        found = secrets.token_hex(8)
        write_atomically(path, found.encode())
    return found


class TrackingStore:
    """The MLflow store of one architecture.

    Args:
        uri: MLflow tracking URI.
        arch: architecture.
        artifact_root: where a new experiment keeps its artifacts; None: where the server does.
        writer: this writer's name among those that share the store (``writer_id``); its half-written runs are its own to settle.
    """

    def __init__(self, uri: str, arch: str, *, artifact_root: str | None = None, writer: str = "") -> None:
        """Open the store and its experiment, making both where they are not there yet.

        Raises:
            StoreError: the store cannot be opened, or its experiment was deleted in the UI.
        """
        self.uri = uri
        self.arch = arch
        self.writer = writer
        self.client = open_client(uri)
        self._stamp = 0
        self.experiment_id = self._experiment(artifact_root)

    def _experiment(self, artifact_root: str | None) -> str:
        """Id of the experiment; made where it is not there yet, also while another writer makes it."""
        from mlflow.exceptions import MlflowException

        name = experiment_name(self.arch)
        with speaking(self.uri, "opened"):
            experiment = self.client.get_experiment_by_name(name)
            if experiment is None:
                location = f"{artifact_root.rstrip('/')}/{name}" if artifact_root else None
                try:
                    return str(self.client.create_experiment(name, artifact_location=location))
                except MlflowException:
                    experiment = self.client.get_experiment_by_name(name)
                    if experiment is None:
                        raise
        if experiment.lifecycle_stage != "active":
            raise StoreError(
                f"experiment {name} was deleted in MLflow; restore it in the UI, or use another tracking.uri",
                experiment=name,
            )
        return str(experiment.experiment_id)

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
        """Write one whole run: files, identity, history of metrics as (name, value, step, ms), complete tag, and last its end.

        Raises:
            StoreError: the store refused or is away.
        """
        from mlflow.entities import Metric as MlflowMetric
        from mlflow.entities import Param as MlflowParam
        from mlflow.entities import RunTag

        now = int(time.time() * 1000)
        metrics = [MlflowMetric(key, float(value), stamp, step) for key, value, step, stamp in history]
        metrics.append(MlflowMetric(Metric.UPLOADED_MS, float(self._next_stamp(now)), now, 0))
        params_given = [
            MlflowParam(key, redact_forms(str(value))[:PARAM_LIMIT]) for key, value in (params or {}).items()
        ]
        with speaking(
            self.uri, "written to", "results wait on disk and `make tracking-sync` or the next run uploads them"
        ):
            run = self.client.create_run(
                self.experiment_id,
                start_time=started_ms if started_ms is not None else now,
                tags={k: redact_forms(str(v))[:TAG_LIMIT] for k, v in {**tags, Tag.WRITER: self.writer}.items()},
                run_name=name,
            )
            run_id = str(run.info.run_id)
            for file in files:
                if file.exists():
                    self.client.log_artifact(run_id, str(file))
            last = max(0, len(metrics) - 1) // _BATCH * _BATCH
            for start in range(0, last + 1, _BATCH):
                self.client.log_batch(
                    run_id,
                    metrics=metrics[start : start + _BATCH],
                    params=[] if start else params_given,
                    tags=[RunTag(Tag.COMPLETE, "true")] if start == last else [],
                )
            end = ended_ms if ended_ms is not None else now
            self.client.set_terminated(run_id, status="FAILED" if failed else "FINISHED", end_time=end)
        return run_id

    def know_stamp(self, newest_ms: int) -> None:
        """Stamp uploads later than ``newest_ms``, the newest stamp known, also where this clock was set back since."""
        self._stamp = max(self._stamp, newest_ms)

    def _next_stamp(self, now_ms: int) -> int:
        self._stamp = max(self._stamp, now_ms)
        return self._stamp

    def has_attempt(self, key: str, attempt: str) -> bool:
        """Whether a whole run of this attempt is already there."""
        found = self._search(f"tags.`{Tag.KEY}` = '{key}' and tags.`{Tag.ATTEMPT}` = '{attempt}'")
        return any(run.data.tags.get(Tag.COMPLETE) == "true" and run.info.status != "RUNNING" for run in found)

    def discard_half_written(self) -> int:
        """Delete runs that this writer, interrupted, left RUNNING; returns how many. Their records are still there.

        Runs of other writers of a shared store are left alone. Only the holder of ``exclusive_writer`` may call this.

        Raises:
            StoreError: the store is away.
        """
        found = [run for run in self._search("attributes.status = 'RUNNING'") if self._is_own(run.data.tags)]
        with speaking(self.uri, "written to"):
            for run in found:
                self.client.delete_run(run.info.run_id)
        return len(found)

    def _is_own(self, tags: Mapping[str, str]) -> bool:
        return Tag.KIND in tags and tags.get(Tag.WRITER, "") in ("", self.writer)

    def summary_keys(self, kind: Kind) -> dict[str, str]:
        """Key -> run id of the whole summary runs of a kind."""
        found = self._search(f"tags.`{Tag.KIND}` = '{kind}'")
        return {run.data.tags[Tag.KEY]: str(run.info.run_id) for run in found if Tag.KEY in run.data.tags}

    def delete_runs(self, filter_string: str) -> int:
        """Delete the runs a filter finds (they stay in MLflow's trash); returns how many."""
        found = self._search(filter_string)
        with speaking(self.uri, "written to"):
            for run in found:
                self.client.delete_run(run.info.run_id)
        return len(found)

    def _search(self, filter_string: str) -> list[Any]:
        """All runs a filter finds, newest first."""
        runs: list[Any] = []
        token: str | None = None
        with speaking(self.uri, "read"):
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
