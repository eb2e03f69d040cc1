"""`make cluster-up CLUSTER=aws`: start the cluster that a YAML under conf/cluster describes."""

from __future__ import annotations

from ray_app.cluster.submission import launcher_of
from ray_app.commands.console import console
from ray_app.config import AppConfig


def run(config: AppConfig) -> int:
    """Start the cluster, or bring a running one up to date; a dry run says what is filled in.

    Raises:
        ConfigError: something of the account is not filled in.
        ClusterError: the cluster cannot be started.
    """
    launcher = launcher_of(config, say=console.print)
    if config.dry:
        launcher.check()
        console.print(f"would start {config.cluster.name} from {launcher.where}; everything is filled in")
        return 0
    launcher.up()
    console.print(f"next: make sweep CLUSTER={config.cluster.name} ..., make cluster-status, make cluster-down")
    return 0
