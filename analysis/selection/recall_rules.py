"""Settings of clusters and coarse recall; imports nothing, for every command reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum


class ThresholdRule(Enum):
    """How the distance under which clusters merge is found.

    The lower-case names are aliases: the configuration library looks a string up among the member names.
    """

    MEDIAN = "median"
    """Two thirds of the median distance, to one significant digit: 0.09 for the published text matrix and 0.03 for the vision
    matrix, which are the numbers in the reference code."""
    SILHOUETTE = "silhouette"
    """The merge after which scikit-learn's silhouette is largest."""
    median = "median"
    silhouette = "silhouette"


class RecallVariant(Enum):
    """Where paper and reference code differ.

    The lower-case names are aliases: the configuration library looks a string up among the member names.
    """

    PAPER = "paper"
    """The representative's proxy score for its whole cluster; singletons weighted by Eq. 1's similarity."""
    REFERENCE_CODE = "reference_code"
    """Every member of a cluster by its own proxy score; singletons weighted by the cosine of score vectors."""
    paper = "paper"
    reference_code = "reference_code"


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
