"""`make cluster-status CLUSTER=aws`: nodes, demand and jobs of a cluster."""

from __future__ import annotations

from ray_app.cluster.submission import launcher_of
from ray_app.commands.console import console
from ray_app.config import AppConfig


def run(config: AppConfig) -> int:
    """Print what the cluster says of itself.

    Raises:
        ConfigError: the cluster is one that is not looked at from here.
        ClusterError: it is not up, or cannot be reached.
    """
    if config.cluster.jobs is not None:
        from ray_app.cluster.jobs import JobServer

        console.print(JobServer(config.cluster.jobs).report())
        return 0
    console.print(launcher_of(config, say=console.print).status())
    return 0
