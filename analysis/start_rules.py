"""What a search for a starting point is told (apart from the policy, so that reading a configuration stays cheap)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True)
class StartRules:
    """How `make start` spends its budget."""

    budget: int = 12
    """Most finetunes to run, those that make a base model included; what is complete already costs nothing."""
    level: float = 0.95
    """Probability that all intervals of the models tried hold together (Bonferroni)."""
    worthwhile: float = 1.0
    """Points; a target on which the top-ranked model surely gains less counts as not sensitive, and the search ends."""
    round_models: int = 1
    """Base models tried together in a round, after the first."""

    def faults(self) -> list[str]:
        """Everything wrong with these settings."""
        found = [] if self.budget >= 1 else [f"budget: {self.budget}; it must be at least 1 finetune"]
        if not 0 < self.level < 1:
            found.append(f"level: {self.level}; it must be a probability between 0 and 1")
        if not self.worthwhile >= 0:
            found.append(f"worthwhile: {self.worthwhile}; it must be points of at least 0")
        if self.round_models < 1:
            found.append(f"round_models: {self.round_models}; it must be at least 1")
        return found
