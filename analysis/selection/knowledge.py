"""What a policy may be told before the first round, and its settings."""

from __future__ import annotations

import math
from dataclasses import dataclass

from analysis.selection.performance import PerformanceMatrix


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """What is known of candidates and target before anything is trained on it."""

    record: PerformanceMatrix | None = None
    """Benchmark tasks, the target not among them; None where nothing is recorded."""
    n_validation: int | None = None
    """Rows of the target's validation set; None where unknown."""


@dataclass(kw_only=True)
class RoundRules:
    """Settings of fine-selection."""

    threshold: float = 0.0
    """Predicted test scores must differ by more than this (fraction) for the lower one to be filtered (Table IV)."""
    n_trends: int = 4
    """Convergence trends per model and stage: groups of benchmark tasks by validation score (Fig. 4 shows four)."""
    tie_level: float = 0.9
    """Confidence at which two candidates count as different, for the policies that keep ties."""
    epochs_per_stage: float = 1.0
    """Epochs of a stage, for the cost of a replay; one in the paper."""

    def faults(self) -> list[str]:
        """What cannot be."""
        found = []
        if not (math.isfinite(self.threshold) and self.threshold >= 0):
            found.append(f"threshold: {self.threshold} (expected a fraction from 0 up, such as 0.01 for one point)")
        if self.n_trends < 1:
            found.append(f"n_trends: {self.n_trends} (expected at least one)")
        if not 0.5 <= self.tie_level < 1:
            found.append(f"tie_level: {self.tie_level} (expected a confidence from 0.5 to below 1)")
        if not (math.isfinite(self.epochs_per_stage) and self.epochs_per_stage > 0):
            found.append(f"epochs_per_stage: {self.epochs_per_stage} (expected more than 0)")
        return found
