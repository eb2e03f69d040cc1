"""`make cluster-down CLUSTER=aws`: end a cluster; results on its storage stay."""

from __future__ import annotations

from ray_app.cluster.submission import launcher_of
from ray_app.commands.console import console
from ray_app.config import AppConfig


def run(config: AppConfig) -> int:
    """End the cluster with everything that runs on it.

    Raises:
        ConfigError: the cluster is one that is not started from here.
        ClusterError: it cannot be ended; it may still cost money.
    """
    launcher = launcher_of(config, say=console.print)
    if config.dry:
        console.print(f"would end cluster {config.cluster.name} and everything that runs on it")
        return 0
    launcher.down()
    console.print(f"cluster {config.cluster.name} is down; results on its storage stay")
    return 0
