"""What of a cluster a cell is given: CPUs, a GPU, a share of one, or a team of processes with a GPU each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray_app.sweeps.orders import Order
from ray_app.sweeps.settings import ClusterConfig
from ray_app.sweeps.traces import Traces

if TYPE_CHECKING:
    from ray.tune import PlacementGroupFactory

_WAITING_BYTES = 256 * 2**20
"""Memory of a trial that only waits for its team; it takes no CPU from it."""
_MOST_TEAMS = 16
"""Teams that wait for GPUs at the same time where the cluster may grow; each waits in a process of its own."""


def allotted(order: Order, cluster: ClusterConfig, traces: Traces) -> Order:
    """The order with its CPUs and GPUs: the cluster's, or a whole one where the cell ran out of memory on a share."""
    gpus = cluster.gpus_per_cell
    if 0 < gpus < 1 and traces.outgrew_share(order.key):
        gpus = 1.0
    return dataclasses.replace(order, cpus=cluster.cpus_per_cell, gpus=gpus, team=cluster.team)


def resources_of(cluster: ClusterConfig) -> Callable[[dict[str, Any]], PlacementGroupFactory]:
    """What Tune reserves for a trial, by its config; a team's processes reserve theirs themselves, all or none."""
    from ray.tune import PlacementGroupFactory

    def reserve(config: dict[str, Any]) -> PlacementGroupFactory:
        if cluster.team > 1:
            return PlacementGroupFactory([{"memory": _WAITING_BYTES}])
        bundle = {"CPU": cluster.cpus_per_cell}
        gpus = config.get("order", {}).get("gpus", cluster.gpus_per_cell)
        return PlacementGroupFactory([bundle | {"GPU": gpus} if gpus else bundle])

    return reserve


def most_trials(cluster: ClusterConfig) -> int | None:
    """How many trials may run at once, where that is not for their resources to say; None: it is."""
    import ray

    if cluster.team == 1:
        return None
    if cluster.address is not None:
        return _MOST_TEAMS
    name, needed = ("GPU", cluster.gpus_per_cell) if cluster.gpus_per_cell else ("CPU", cluster.cpus_per_cell)
    return max(1, int(ray.cluster_resources().get(name, 0) // needed))


def trial_class(cluster: ClusterConfig) -> type:
    """What runs a cell: one process, or one that starts a team and waits for it."""
    if cluster.team > 1:
        from ray_app.sweeps.team_trial import TeamTrial

        return TeamTrial
    from ray_app.sweeps.trial import CellTrial

    return CellTrial
