"""The one uploader beside the driver: records from storage become MLflow runs, each once; training never waits for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from tracking.errors import StartlineError, StoreError, TableError
from tracking.records import pending_records, read_record, remove_record
from tracking.schema import SCORED_STATES
from tracking.store import TrackingStore

logger = logging.getLogger(__name__)

_PAUSE_S = 0.5
_AWAY_PAUSE_S = 5.0


class Uploader:
    """Uploads the records of one architecture in a thread until stopped.

    Args:
        store: where runs are written.
        folder: where records appear.
        complete: keys that MLflow holds a scored run of; a second scored attempt at one of them is not uploaded.
    """

    def __init__(self, store: TrackingStore, folder: Path, *, complete: Iterable[str]) -> None:
        self.store = store
        self.folder = folder
        self.complete = set(complete)
        self.uploaded = 0
        self.last_error: StoreError | None = None
        self.unreadable: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="uploader", daemon=True)

    def start(self) -> None:
        """Begin uploading in the background."""
        self._thread.start()

    def stop(self, *, patience_s: float = 60.0) -> int:
        """Upload what is left, for at most ``patience_s`` seconds; returns how many records still wait on disk."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(patience_s)
        deadline = time.monotonic() + patience_s
        while self._left() and time.monotonic() < deadline and not self._thread.is_alive():
            self.drain()
            if self.last_error is not None:
                break
        return self._left()

    def wait(self, *, patience_s: float = 60.0) -> int:
        """Give the background thread time to upload what is there; returns how many records still wait on disk."""
        deadline = time.monotonic() + patience_s
        while self._left() and self.last_error is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return self._left()

    def _left(self) -> int:
        return sum(1 for path in pending_records(self.folder) if str(path) not in self.unreadable)

    def _loop(self) -> None:
        while not self._stop.is_set():
            self.drain()
            self._stop.wait(_AWAY_PAUSE_S if self.last_error else _PAUSE_S)

    def drain(self, *, check: bool = False) -> None:
        """Upload every record that waits now; stops at the first that the store does not take.

        Args:
            check: ask the store whether it has the attempt already (for records an interrupted upload may have left).
        """
        for path in pending_records(self.folder):
            if str(path) in self.unreadable:
                continue
            try:
                self._upload(path, check=check or self.last_error is not None)
                self.last_error = None
            except TableError as error:
                logger.warning("%s", error.message)
                self.unreadable.append(str(path))
            except StoreError as error:
                logger.warning("%s", error.message)
                self.last_error = error
                return
            except StartlineError as error:
                logger.warning("%s", error.message)
                return

    def _upload(self, path: Path, *, check: bool) -> None:
        record = read_record(path)
        if record.arch != self.store.arch:
            return
        scored = record.state in SCORED_STATES
        known = scored and record.key in self.complete
        if not known and not (check and self.store.has_attempt(record.key, record.attempt)):
            self.store.write_cell(record, folder=self.folder)
            self.uploaded += 1
        if scored:
            self.complete.add(record.key)
        remove_record(path)
