"""How checkpoints are fused (`make fuse`): the rule and its numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path


class Rule(Enum):
    """What becomes of the sources' values of one parameter; definitions in `ray_app.fusion.rules`.

    The lower-case names are aliases: the configuration library looks a string up among the member names.
    """

    MEAN = "mean"
    WEIGHTED_MEAN = "weighted_mean"
    FISHER = "fisher"
    TASK_ARITHMETIC = "task_arithmetic"
    TIES = "ties"
    DARE = "dare"
    GREEDY_SOUP = "greedy_soup"
    mean = "mean"
    weighted_mean = "weighted_mean"
    fisher = "fisher"
    task_arithmetic = "task_arithmetic"
    ties = "ties"
    dare = "dare"
    greedy_soup = "greedy_soup"


NEEDS_PRETRAINED = (Rule.TASK_ARITHMETIC, Rule.TIES, Rule.DARE)
"""Rules over task vectors: source minus pretrained model."""


@dataclass(kw_only=True)
class FusionConfig:
    """How checkpoints are fused."""

    rule: Rule = Rule.MEAN
    """Fusing rule (RULE=)."""
    weights: dict[str, float] = field(default_factory=dict)
    """Weight by source name; empty: all equal. Means divide by their sum; task vectors are taken times their weight."""
    scaling: float = 1.0
    """Lambda: the merged task vector is added to the pretrained model times this (task_arithmetic, ties, dare)."""
    density: float = 0.2
    """Share of each task vector that is kept, in (0, 1] (ties: the largest; dare: drawn by chance)."""
    seed: int = 0
    """Seed of what DARE drops."""
    fisher: dict[str, Path] = field(default_factory=dict)
    """Safetensors file with the diagonal Fisher of a source, by source name (fisher)."""
    threads: int = 2
    """Threads that read and fuse; the result does not depend on it."""

    def faults(self) -> list[str]:
        """Everything wrong with these settings."""
        found = []
        for name, weight in self.weights.items():
            if not math.isfinite(weight):
                found.append(f"weights: {name} has weight {weight}; it must be a finite number")
            elif weight < 0 and self.rule not in NEEDS_PRETRAINED:
                found.append(f"weights: {name} has weight {weight}; under {self.rule.value} it must be 0 or more")
        if self.weights and self.rule in (Rule.MEAN, Rule.GREEDY_SOUP):
            found.append(f"weights: {self.rule.value} weighs all alike; take rule=weighted_mean, or give no weights")
        if not math.isfinite(self.scaling):
            found.append(f"scaling: {self.scaling}; it must be a finite number")
        if not 0 < self.density <= 1:
            found.append(f"density: {self.density}; it must be above 0 and at most 1")
        if self.threads < 1:
            found.append(f"threads: {self.threads}; it must be 1 or more")
        return found
