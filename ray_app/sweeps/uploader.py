"""The one uploader beside the driver: records from storage become MLflow runs, each once; training never waits for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tracking.errors import StartlineError, StorageError, StoreError, TableError
from tracking.records import key_of, pending_records, read_record, remove_record
from tracking.schema import SCORED_STATES
from tracking.store import TrackingStore

logger = logging.getLogger(__name__)

_PAUSE_S = 0.5
_AWAY_PAUSE_S = 5.0


class Uploader:
    """Uploads the records of one architecture in a thread until stopped, in the order in which they were written.

    Args:
        store: where runs are written.
        folder: where records appear.
        complete: keys that MLflow holds a scored run of; a second scored attempt at one of them is not uploaded.
        writers: how many records are on their way at once; those of one cell never are.
    """

    def __init__(self, store: TrackingStore, folder: Path, *, complete: Iterable[str], writers: int = 1) -> None:
        self.store = store
        self.folder = folder
        self.complete = set(complete)
        self.writers = writers
        self.uploaded = 0
        self.last_error: StartlineError | None = None
        self.unreadable: list[str] = []
        self._told = False
        self._of_others: set[str] = set()
        self._stop = threading.Event()
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="uploader", daemon=True)

    def start(self) -> None:
        """Begin uploading in the background."""
        self._thread.start()

    def stop(self, *, patience_s: float = 60.0) -> int:
        """Upload what is left, for at most ``patience_s`` seconds, also where the store is away; returns how many still wait."""
        self._stop.set()
        deadline = time.monotonic() + patience_s
        if self._thread.is_alive():
            self._thread.join(patience_s)
        while self._left() and not self._thread.is_alive():
            self.drain()
            if time.monotonic() >= deadline:
                break
            if self.last_error is not None:
                time.sleep(min(_PAUSE_S, patience_s))
        return self._left()

    def wait(self, *, patience_s: float = 60.0) -> int:
        """Give the background thread time to upload what is there; returns how many records still wait on disk."""
        deadline = time.monotonic() + patience_s
        while self._left() and self.last_error is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return self._left()

    def _waiting(self) -> list[Path]:
        """Records that may be uploaded, in order."""
        passed_over = self._of_others.union(self.unreadable)
        return [path for path in pending_records(self.folder) if str(path) not in passed_over]

    def _left(self) -> int:
        return len(self._waiting())

    def _loop(self) -> None:
        while not self._stop.is_set():
            self.drain()
            self._stop.wait(_AWAY_PAUSE_S if self.last_error else _PAUSE_S)

    def drain(self, *, check: bool = False) -> None:
        """Upload every record that waits now; stops at the first that the store does not take.

        Args:
            check: ask the store whether it has the attempt already (for records an interrupted upload may have left).
        """
        broken_off = self.last_error is not None
        waiting = self._waiting()
        if not waiting:
            return
        self.last_error = None
        cells: dict[str, list[Path]] = {}
        for path in waiting:
            cells.setdefault(key_of(path), []).append(path)
        try:
            if broken_off:
                self.store.discard_half_written()
        except StoreError as error:
            self._note(error)
            return
        if self.writers == 1 or len(cells) == 1:
            for paths in cells.values():
                self._upload_all(paths, check=check or broken_off)
        else:
            with ThreadPoolExecutor(self.writers, thread_name_prefix="writer") as pool:
                list(pool.map(lambda paths: self._upload_all(paths, check=check or broken_off), cells.values()))

    def _upload_all(self, paths: list[Path], *, check: bool) -> None:
        """Upload the records of one cell, unless an upload failed meanwhile."""
        for path in paths:
            if self.last_error is not None:
                return
            try:
                self._upload(path, check=check)
            except TableError as error:
                logger.warning("%s", error.message)
                self.unreadable.append(str(path))
            except StartlineError as error:
                self._note(error)
            except OSError as error:
                self._note(
                    StorageError(
                        f"cannot read or remove {path} ({error.strerror}); is {self.folder} there?", path=str(path)
                    )
                )

    def _note(self, error: StartlineError) -> None:
        """Stop this round; an outage is told once."""
        logger.log(logging.DEBUG if self._told else logging.WARNING, "%s", error.message)
        self._told = True
        self.last_error = error

    def _upload(self, path: Path, *, check: bool) -> None:
        record = read_record(path)
        if record.arch != self.store.arch:
            self._of_others.add(str(path))
            return
        scored = record.state in SCORED_STATES
        known = scored and record.key in self.complete
        if not known and not (check and self.store.has_attempt(record.key, record.attempt)):
            self.store.write_cell(record, folder=self.folder)
            self._told = False
            with self._counting:
                self.uploaded += 1
        if scored:
            self.complete.add(record.key)
        remove_record(path)
