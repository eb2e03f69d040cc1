"""What `make matrix` and `make select` are told."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from analysis.proxies import PROXIES
from analysis.selection.policies import POLICIES

if TYPE_CHECKING:
    from ray_app.config import AppConfig

ASHA = "asha"
"""Ray's own scheduler, beside the policies."""
SCHEDULERS = (*POLICIES, ASHA)
"""Names that POLICY= takes."""


@dataclass(kw_only=True)
class SelectConfig:
    """How a starting model is selected for a target."""

    k: int = 10
    """Candidates that coarse recall hands on (K=)."""
    policy: str = "fine_selection"
    """Who is trained further (POLICY=): a policy of ``analysis.selection``, or asha."""
    proxy: str = "leep"
    """Transferability score that recall reads: one of ``analysis.proxies``."""
    targets: list[str] = field(default_factory=list)
    """Targets where TASK= names none."""

    def faults(self) -> list[str]:
        """Everything wrong with these settings."""
        found = [] if self.k >= 1 else [f"k: {self.k}; recall hands on at least one candidate (K=10)"]
        if self.policy not in SCHEDULERS:
            found.append(f"policy: {self.policy!r}; known: {', '.join(SCHEDULERS)}")
        if self.proxy not in PROXIES:
            found.append(f"proxy: {self.proxy!r}; known: {', '.join(PROXIES)}")
        if len(set(self.targets)) < len(self.targets):
            found.append(f"targets: {', '.join(self.targets)} names one twice")
        return found


def staged(config: AppConfig) -> AppConfig:
    """The request with its finetunes in equal stages, ``method.stages`` of them or one an epoch; sources are made as ever."""
    stages = config.method.stages or max(1, round(config.method.max_epochs))
    sources = [dataclasses.replace(group, method={"stages": 0, **group.method}) for group in config.candidates.sources]
    return dataclasses.replace(
        config,
        method=dataclasses.replace(config.method, stages=stages),
        candidates=dataclasses.replace(config.candidates, sources=sources),
    )
