"""What a base model on disk is: found, checked, ready to be loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(kw_only=True)
class ModelRef:
    """How the configuration names a base model."""

    id: str
    """Hub id (org/name), or a plain name for a local one."""
    revision: str | None = None
    """40-hex commit; None: resolved at prefetch and recorded."""
    path: str | None = None
    """Local folder in hub format, instead of the hub."""
    package: str | None = None
    """'module:folder': an installed Python package that carries the checkpoint, instead of the hub."""
    licence: str = ""
    """Licence, where known."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A base model found and checked: everything a worker needs, offline."""

    model_id: str
    revision: str
    """Hub commit, or 'sha256:<16 hex>' of config, tokenizer and weights for local folders."""
    path: Path
    """Folder in hub format."""
    model_type: str
    """``model_type`` of config.json."""
    size_bytes: int
    """Bytes of its weights."""
    n_parameters: int
    """Parameters counted in the safetensors headers."""
