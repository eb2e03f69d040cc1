"""A fused model as a run in MLflow: what it was made of, by which rule, and what became of every source."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray_app.fusion.fused import Fused
from ray_app.fusion.settings import FusionConfig
from ray_app.hub.checkpoints import Checkpoint
from tracking.cells import digest
from tracking.schema import Kind, Metric, Param, State, Tag
from tracking.store import TrackingStore


def fusion_identity(
    config: FusionConfig, models: Mapping[str, Checkpoint], pretrained: Checkpoint, *, held_out: str | None = None
) -> dict[str, Any]:
    """Everything that decides the weights of a fused model: rule, numbers, the content of what goes in, the task a soup is scored on."""
    return {
        "rule": config.rule.value,
        "sources": {text: model.revision for text, model in models.items()},
        "pretrained": pretrained.revision,
        "weights": dict(config.weights),
        "scaling": config.scaling,
        "density": config.density,
        "seed": config.seed,
        "fisher": {text: _digest_of(path) for text, path in config.fisher.items()},
        "held_out": held_out,
    }


def write_fusion_run(
    store: TrackingStore,
    fused: Fused,
    identity: Mapping[str, Any],
    *,
    name: str,
    revision: str,
    tags: Mapping[str, str],
) -> str | None:
    """Write the run, unless one of the same model is there; returns its id, or None where it was there.

    Args:
        store: of the architecture.
        fused: what came of fusing.
        identity: of `fusion_identity`.
        name: of the fused model, startline/...
        revision: digest of its content.
        tags: commit and environment.

    Raises:
        StoreError: the store refused or is away.
    """
    key = digest([name, revision, dict(identity)])
    if key in store.summary_keys(Kind.FUSION):
        return None
    now = int(time.time() * 1000)
    numbers = {
        Metric.N_CONTRIBUTIONS: len(identity["sources"]),
        Metric.N_USED: len(fused.used),
        Metric.FUSE_S: fused.wall_s,
        Metric.N_PARAMETERS: fused.n_parameters,
        Metric.BYTES_READ: fused.bytes_read,
    }
    if fused.score is not None:
        numbers[Metric.VALIDATION_SCORE] = fused.score
    settings = {f"{Param.HYPERPARAMETER}{part}": str(identity[part]) for part in ("scaling", "density", "seed")}
    used = [[text, identity["sources"][text], fused.weights[text]] for text in fused.used]
    return store.write_run(
        name=f"{name} ({identity['rule']} of {len(fused.used)})",
        tags={
            **tags,
            Tag.KIND: Kind.FUSION,
            Tag.KEY: key,
            Tag.STATE: State.COMPLETE,
            Tag.CHECKPOINT: str(fused.folder),
            Tag.LEFT_OUT: json.dumps(dict(fused.left_out), ensure_ascii=False),
        },
        params={
            Param.ARCH: store.arch,
            Param.BASE_MODEL: name,
            Param.BASE_REVISION: revision,
            Param.RULE: identity["rule"],
            Param.SOURCES: json.dumps(used, ensure_ascii=False),
            **settings,
        },
        history=[(metric, float(value), 0, now) for metric, value in numbers.items()],
        files=[fused.folder / "README.md"],
        started_ms=now - int(1000 * fused.wall_s),
    )


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
