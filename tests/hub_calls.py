"""Calls that the hub tests make, with waits of milliseconds."""

from __future__ import annotations

from pathlib import Path

from ray_app.hub.checkpoints import Checkpoint, ModelRef, find_checkpoint
from ray_app.hub.patience import Patience

FAST = Patience(first_wait_s=0.01, longest_wait_s=0.02, longest_named_wait_s=0.3, attempts=4, away_s=0.0)
TOKEN = "hf_" + "Secret" * 5


def find(
    tmp_path: Path,
    *,
    model_id: str = "org/tiny",
    revision: str | None = None,
    offline: bool = False,
    min_free_bytes: int = 0,
    patience: Patience = FAST,
) -> Checkpoint:
    return find_checkpoint(
        ModelRef(id=model_id, revision=revision),
        mirror=None,
        cache_dir=tmp_path / "cache",
        expected_model_types=["bert"],
        offline=offline,
        min_free_bytes=min_free_bytes,
        patience=patience,
    )
