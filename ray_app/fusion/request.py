"""What `make fuse` is told."""

from __future__ import annotations

from dataclasses import dataclass, field

from ray_app.fusion.settings import FusionConfig, Rule
from ray_app.hub.mirror import check_hub_id, faults_of


@dataclass(kw_only=True)
class FuseConfig:
    """Models to fuse and how; what is given for each model stands in the order of ``models``."""

    models: list[str] = field(default_factory=list)
    """Hub ids (org/name or org/name@revision), folders (./x, /x), models made here (startline/...) (MODELS=)."""
    name: str = ""
    """Name of the result, startline/<name>; empty: made of architecture, rule and a digest (NAME=)."""
    weights: list[float] = field(default_factory=list)
    """Weight of each model; empty: all equal (WEIGHTS=)."""
    fisher: list[str] = field(default_factory=list)
    """Rule fisher: for each model a safetensors file with its diagonal Fisher, or a task to estimate it on (FISHER=); one for all."""
    fisher_rows: int = 256
    """Most training rows that a Fisher is estimated on."""
    fusion: FusionConfig = field(default_factory=FusionConfig)
    """Rule (RULE=) and its numbers."""

    def faults(self) -> list[str]:
        """Everything wrong with these settings by themselves; what the models are is asked when they are there."""
        found = [f"models: {name} is named twice; name it once and give it WEIGHTS" for name in _repeated(self.models)]
        if self.models and len(self.models) < 2:
            found.append(f"models: {self.models[0]} alone is nothing to fuse; name two at least, MODELS=a,b")
        if self.weights and len(self.weights) != len(self.models):
            found.append(
                f"weights: {len(self.weights)} for {len(self.models)} models; give one for each, in the order of MODELS"
            )
        if len(self.fisher) > 1 and len(self.fisher) != len(self.models):
            found.append(f"fisher: {len(self.fisher)} for {len(self.models)} models; give one for each, or one for all")
        if self.name:
            found += [f"name: {text}" for text in faults_of(check_hub_id, f"startline/{self.name}")]
        if self.fisher_rows < 1:
            found.append(f"fisher_rows: {self.fisher_rows}; it must be 1 or more")
        if self.fusion.rule is Rule.FISHER and self.models and not self.fisher:
            found.append("fisher: none given; name a safetensors file or a task for each model, FISHER=mnli,rte")
        if self.fusion.rule is Rule.WEIGHTED_MEAN and self.models and not self.weights:
            found.append("weights: none given; weighted_mean needs one for each model, WEIGHTS=2,1")
        if self.weights and self.fusion.rule in (Rule.MEAN, Rule.GREEDY_SOUP):
            found.append(
                f"weights: {self.fusion.rule.value} weighs all alike; take RULE=weighted_mean, or give no WEIGHTS"
            )
        if self.fusion.weights or self.fusion.fisher:
            found.append(
                "fusion: weights and fisher are given in the order of MODELS here, WEIGHTS=2,1 and FISHER=mnli,rte"
            )
        return found


def _repeated(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
