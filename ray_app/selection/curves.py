"""Curves of cells that a selection has trained in part: one small file a cell, so that nothing is trained twice after a kill.

A curve belongs to its cell's key and to nothing else: any later selection over the same cell goes on from it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from tracking.records import write_atomically

logger = logging.getLogger(__name__)


class CurveStore:
    """Validation scores by cell key.

    Args:
        folder: where the files lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def read(self, key: str) -> tuple[float, ...]:
        """Scores at stages 1, 2, ...; empty where none are stored, or the file is damaged (the cell then tells them anew)."""
        try:
            return tuple(float(score) for score in json.loads(self._path(key).read_text()))
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, TypeError) as error:
            logger.warning("curve %s left aside: %s", self._path(key), error)
            return ()

    def write(self, key: str, curve: Sequence[float]) -> None:
        """Store a curve, whole or not at all.

        Raises:
            StorageError: disk full or folder unwritable.
        """
        write_atomically(self._path(key), json.dumps(list(curve)).encode())

    def remove(self, key: str) -> None:
        """Forget a cell whose curve is in MLflow by now."""
        self._path(key).unlink(missing_ok=True)
