"""Settings of clusters and coarse recall."""

from __future__ import annotations

import math
from dataclasses import dataclass

from analysis.selection.clustering import ThresholdRule
from analysis.selection.recall import RecallVariant


@dataclass(kw_only=True)
class RecallRules:
    """How base models are clustered and recalled."""

    differences: int = 5
    """k of Eq. 1: how many of the largest score differences make the distance."""
    threshold: float | None = None
    """Largest mean distance at which clusters merge (THRESHOLD=), a fraction; None: by ``rule``."""
    rule: ThresholdRule = ThresholdRule.MEDIAN
    """How the threshold is found where none is given."""
    variant: RecallVariant = RecallVariant.PAPER
    """Where paper and reference code differ (VARIANT=)."""

    def faults(self) -> list[str]:
        """Everything wrong with these settings."""
        found = (
            [] if self.differences >= 1 else [f"differences: {self.differences}; expected at least 1 (the paper: 5)"]
        )
        if self.threshold is not None and not (math.isfinite(self.threshold) and 0 <= self.threshold <= 1):
            found.append(f"threshold: {self.threshold}; expected a distance from 0 to 1 (THRESHOLD=0.09)")
        return found
