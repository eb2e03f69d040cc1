"""The record of one attempt at a cell: a JSON file a trial leaves on the sweep's storage, to be uploaded once.

Workers never talk to MLflow. A trial that ended writes its predictions and then its record, each to a temporary name that
is renamed, so that a record that exists is whole. The uploader turns records into MLflow runs and removes them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tracking.errors import StorageError, TableError
from tracking.schema import SCORED_STATES, State

RECORD_VERSION = 1
_SUFFIX = ".record.json"
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


@dataclass(frozen=True, kw_only=True)
class CellRecord:
    """Everything about one attempt that MLflow will hold."""

    key: str
    attempt: str
    state: State
    arch: str
    params: Mapping[str, str]
    """Identity, by the names of ``schema.Param``."""
    tags: Mapping[str, str]
    """State, by the names of ``schema.Tag``."""
    metrics: Mapping[str, float]
    """Measurements, by the names of ``schema.Metric``."""
    curve: tuple[tuple[int, float, float], ...] = ()
    """(training examples seen, validation score, validation loss), in order."""
    started_ms: int
    """Start of the attempt, ms since epoch."""
    ended_ms: int
    """End of the attempt, ms since epoch."""
    artifacts: tuple[str, ...] = ()
    """Files beside the record to attach to the run."""
    version: int = field(default=RECORD_VERSION)

    @property
    def file_name(self) -> str:
        """Name of its file: key and attempt."""
        return f"{self.key}-{self.attempt}{_SUFFIX}"


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is either whole or absent, also after a crash (flushed, then renamed).

    Raises:
        StorageError: disk full or folder unwritable.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageError(
            f"cannot write {path} ({error.strerror or error}); free space or choose another folder with OUT=dir",
            path=str(path),
        ) from error


def write_record(folder: Path, record: CellRecord) -> Path:
    """Leave ``record`` in ``folder``; returns its path.

    Raises:
        StorageError: disk full or folder unwritable.
    """
    path = folder / record.file_name
    write_atomically(path, json.dumps(asdict(record), allow_nan=True).encode())
    return path


def read_record(path: Path) -> CellRecord:
    """Read a record back.

    Raises:
        TableError: the file is no record, is damaged or of a newer version.
    """
    try:
        raw = json.loads(path.read_text())
        version = raw["version"]
        if version > RECORD_VERSION:
            raise TableError(
                f"{path} is a record of version {version}, this Startline reads up to {RECORD_VERSION}; update Startline",
                path=str(path),
            )
        raw["state"] = State(raw["state"])
        raw["curve"] = tuple((int(seen), float(score), float(loss)) for seen, score, loss in raw["curve"])
        raw["artifacts"] = tuple(raw["artifacts"])
        record = CellRecord(**raw)
        _check_names(record)
        return record
    except (ValueError, KeyError, TypeError) as error:
        raise TableError(
            f"{path} is not a readable record ({error}); remove it and run the sweep again to redo its cell",
            path=str(path),
        ) from error


def _check_names(record: CellRecord) -> None:
    """Refuse a record that names files of others: they would be uploaded, and removed."""
    for name in (record.key, record.attempt):
        if not _PLAIN.fullmatch(name):
            raise ValueError(f"{name[:80]!r} is no plain name")
    for name in record.artifacts:
        if not _PLAIN.fullmatch(name) or not name.startswith(f"{record.key}-{record.attempt}."):
            raise ValueError(f"its file {name[:80]!r} is not one of its own")


def pending_records(folder: Path) -> Iterator[Path]:
    """Paths of the records in ``folder`` not uploaded yet, in the order in which they were written."""
    if folder.is_dir():
        yield from sorted(folder.glob(f"*{_SUFFIX}"), key=lambda path: (_written_ns(path), path.name))


def key_of(path: Path) -> str:
    """Key of the cell whose record this is, by its name."""
    return path.name.partition("-")[0]


def _written_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0  # uploaded and removed meanwhile


def holds_score(folder: Path, key: str) -> bool:
    """Whether a whole record with a score of this cell waits in ``folder``."""
    for path in folder.glob(f"{key}-*{_SUFFIX}"):
        try:
            if read_record(path).state in SCORED_STATES:
                return True
        except (OSError, TableError):
            continue
    return False


def remove_record(path: Path) -> None:
    """Remove an uploaded record and the files beside it (the record last, so that a crash leaves it whole)."""
    record = read_record(path)
    for name in record.artifacts:
        (path.parent / name).unlink(missing_ok=True)
    path.unlink(missing_ok=True)
