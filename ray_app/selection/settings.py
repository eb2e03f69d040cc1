"""What `make matrix` and `make select` are told."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_app.config import AppConfig

ASHA = "asha"
"""Ray's own scheduler, beside the policies."""


@dataclass(kw_only=True)
class SelectConfig:
    """How a starting model is selected for a target."""

    k: int = 10
    """Candidates that coarse recall hands on (K=)."""
    policy: str = "fine_selection"
    """Who is trained further (POLICY=): a policy of ``analysis.selection``, or asha."""
    proxies: list[str] = field(default_factory=lambda: ["leep"])
    """Transferability scores that recall reads, of ``analysis.proxies``; several count by their mean place."""
    targets: list[str] = field(default_factory=list)
    """Targets where TASK= names none."""

    def faults(self) -> list[str]:
        """Everything wrong with these settings."""
        found = [] if self.k >= 1 else [f"k: {self.k}; recall hands on at least one candidate (K=10)"]
        if not self.proxies:
            found.append("proxies: empty; recall reads one transferability score at least (leep)")
        if len(set(self.targets)) < len(self.targets):
            found.append(f"targets: {', '.join(self.targets)} names one twice")
        return found


def unknown_names(config: SelectConfig) -> list[str]:
    """Faults of the names, which only the commands that use them can tell: the registries take long to import."""
    from analysis.proxies import PROXIES
    from analysis.selection.policies import POLICIES

    schedulers = (*POLICIES, ASHA)
    found = []
    if config.policy not in schedulers:
        found.append(f"POLICY: there is no {config.policy!r}; known: {', '.join(schedulers)}")
    found += [
        f"select.proxies: there is no {name!r}; known: {', '.join(PROXIES)}"
        for name in config.proxies
        if name not in PROXIES
    ]
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
