"""State and outcome of a finetune as plain numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ray_app.training.scoring import Evaluation


@dataclass(frozen=True)
class CurvePoint:
    """One validation."""

    examples_seen: int
    score: float
    loss: float


@dataclass
class Seconds:
    """Where the time of a cell went, summed over attempts."""

    load: float = 0.0
    train: float = 0.0
    validate: float = 0.0
    test: float = 0.0
    wall: float = 0.0
    """All of it, up to the last checkpoint."""


@dataclass
class Progress:
    """All state of a finetune besides weights and optimiser; small and plain, so that it can be stored as JSON."""

    step: int = 0
    """Optimiser steps done."""
    examples_seen: int = 0
    finished: bool = False
    diverged: bool = False
    best_score: float = -math.inf
    """Validation score of the kept weights."""
    progress_score: float = -math.inf
    """Score that the next progress is measured against."""
    progress_at: int = 0
    """Examples seen at the last progress."""
    curve: list[CurvePoint] = field(default_factory=list)
    seconds: Seconds = field(default_factory=Seconds)
    peak_mem_bytes: int = 0
    micro_batch_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """What a finetune is worth."""

    test: Evaluation
    best_validation_score: float
    """Validation score of the weights that were tested."""
    diverged: bool
    curve: tuple[CurvePoint, ...]
    examples_seen: int
    seconds: Seconds
    peak_mem_bytes: int
