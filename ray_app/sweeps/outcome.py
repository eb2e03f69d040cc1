"""How the cells of a sweep ended."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class SweepOutcome:
    """How the cells of a sweep ended."""

    complete: list[str] = field(default_factory=list)
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Key -> (stage, reason)."""
    train_s: float = 0.0
    """Seconds in training steps, all cells."""
    step_s: float = 0.0
    """Seconds in training, validation and test steps, all cells."""
    interrupted: bool = False
