"""One attempt at a multitask training: several tokenised tasks, one model kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ray_app.sweeps.attempt import Attempt
from ray_app.training.finetune import Finetuning
from ray_app.training.multitask import MultitaskFinetuning, load_joint
from ray_app.training.settings import FinetuneConfig
from ray_app.training.tokens import EncodedTask
from tracking.records import write_atomically

_PARTS = "tasks.json"


def write_joint(folder: Path, parts: Sequence[Path]) -> Path:
    """A folder that stands for several tokenised tasks, by their names beside it; returns it.

    Raises:
        StorageError: it cannot be written.
    """
    write_atomically(folder / _PARTS, json.dumps([part.name for part in parts]).encode())
    return folder


def is_joint(folder: Path) -> bool:
    """Whether a folder stands for several tokenised tasks."""
    return (folder / _PARTS).exists()


class MultitaskAttempt(Attempt):
    """A multitask training as a cell: stored, resumed, recorded and kept as any finetune is."""

    def _make(self) -> Finetuning:
        order = self.order
        assert isinstance(order.config, FinetuneConfig)
        self.stage = "load data"
        names = json.loads((order.encoded / _PARTS).read_text())
        tasks = [EncodedTask(order.encoded.parent / name) for name in names]
        self.stage = "load model"
        loaded = load_joint(order.base, tasks, order.family)
        self._loaded = loaded.parts[0]  # what is kept: the shared backbone, under the first head
        return MultitaskFinetuning(loaded, tasks, order.config, order.execution, seed=order.seed, device=self.device)
