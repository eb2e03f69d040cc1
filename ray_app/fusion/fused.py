"""What came of fusing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Fused:
    """A fused checkpoint on disk and how it came about."""

    folder: Path
    """In hub format: model.safetensors (float32, no head), config, tokenizer, README.md with the lineage."""
    used: tuple[str, ...]
    """Names of the sources that are in it, in the order given."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Sources that are not in it (non-finite values; refused by the greedy soup), with the reason."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Weight each used source had, after normalising where the rule normalises."""
    dropped: tuple[str, ...] = ()
    """Tensors of the sources that are not fused: heads, and buffers that are computed."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Greedy soup: held-out score of each source by itself."""
    score: float | None = None
    """Greedy soup: held-out score of the result."""
    n_tensors: int
    n_parameters: int
    bytes_read: int
    """Bytes of tensors read from the sources."""
    wall_s: float
    """Time of fusing, saving included."""
