"""How a cluster is started, and how commands reach it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class LaunchKind(Enum):
    """Who starts the nodes. The lower-case names are aliases: the configuration library looks a string up among the names."""

    RAY_UP = "ray_up"
    KUBERAY = "kuberay"
    RAYJOB = "rayjob"
    SLURM = "slurm"
    ray_up = "ray_up"
    kuberay = "kuberay"
    rayjob = "rayjob"
    slurm = "slurm"


@dataclass(kw_only=True)
class LaunchConfig:
    """A cluster that is made for the work: `make cluster-up`, `cluster-status`, `cluster-down`."""

    kind: LaunchKind
    """Who starts the nodes: `ray up`, KubeRay (a RayCluster, or a RayJob of its own for every command), or Slurm."""
    template: str
    """Name of the template under conf/launch."""
    account: dict[str, str | None] = field(default_factory=dict)
    """What is yours: ``FILL_IN_<NAME>`` in the template is replaced by ``account.<name>``; null must be filled in first."""
    zones: list[str] = field(default_factory=list)
    """Zones that are tried one after the other where the provider keeps a cluster in one (GCP); replaces FILL_IN_ZONE."""

    def faults(self) -> list[str]:
        """Everything wrong with these settings; what is still to be filled in is told when the cluster is used."""
        wrong = [name for name in self.account if not (name.isidentifier() and name.islower())]
        return [f"account.{name}: a name is lower-case letters, digits and '_'" for name in wrong]
