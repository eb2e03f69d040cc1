"""What a cell leaves on the sweep's storage, for telling how far one got whose worker was lost."""

from __future__ import annotations

import contextlib
from collections.abc import Collection

from ray_app.sweeps.orders import Storage
from tracking.errors import TableError
from tracking.records import CellRecord, holds_score, key_of, pending_records, read_record
from tracking.schema import SCORED_STATES

_OUTGREW = "outgrew-share"


def note_outgrown(storage: Storage, key: str) -> None:
    """Leave word that a cell ran out of memory on its share of a GPU, and needs one of its own."""
    folder = storage.checkpoints / key
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _OUTGREW).touch()


class Traces:
    """Looks after cells whose workers can no longer be asked.

    Args:
        storage: folders that driver and workers share.
        uploaded: keys whose score is in MLflow; may grow meanwhile.
    """

    def __init__(self, storage: Storage, uploaded: Collection[str] = ()) -> None:
        self._storage = storage
        self._uploaded = uploaded

    def has_ended(self, key: str) -> bool:
        """Whether a score of the cell waits on disk or was uploaded."""
        return key in self._uploaded or holds_score(self._storage.records, key) or key in self._uploaded

    def record(self, key: str) -> CellRecord | None:
        """The scored record of a cell that waits on disk; None without one, or where it was uploaded just now."""
        for path in pending_records(self._storage.records):
            if key_of(path) == key:
                with contextlib.suppress(OSError, TableError):
                    found = read_record(path)
                    if found.state in SCORED_STATES:
                        return found
        return None

    def newest_checkpoint(self, key: str) -> str:
        """Name of its newest checkpoint, which tells the step; empty without one."""
        return max((path.name for path in (self._storage.checkpoints / key).glob("step-*")), default="")

    def outgrew_share(self, key: str) -> bool:
        """Whether the cell ran out of memory on a share of a GPU."""
        return (self._storage.checkpoints / key / _OUTGREW).exists()
