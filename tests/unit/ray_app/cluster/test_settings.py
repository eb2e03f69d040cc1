"""What is wrong with a cluster's settings is told before anything starts."""

from __future__ import annotations

import pytest

from ray_app.__main__ import main
from ray_app.config import load_config
from tracking.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["cluster.workers_per_cell=0"], "workers_per_cell: 0"),
        (["cluster.gpus_per_cell=4", "cluster.workers_per_cell=3"], "leave it null"),
        (["cluster.jobs=localhost:8265", "cluster.storage=/tmp"], "address of a job server"),
        (["cluster.jobs=http://127.0.0.1:8265"], "cluster.storage"),
        (["cluster=aws", "cluster.launch.kind=magic"], "cluster.launch.kind"),
        (["cluster=aws", "cluster.launch.account.Region=x"], "account.Region"),
        (["cluster=aws", "cluster.launch.zones=here"], "zones"),
        (["cluster=azure"], "cluster: there is no 'azure'"),
    ],
)
def test_bad_settings(overrides: list[str], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(overrides)
    assert any(text in fault for fault in caught.value.faults), caught.value.faults


def test_how_many_train_a_cell_together() -> None:
    teams = {name: load_config([f"cluster.gpus_per_cell={name}"]).cluster.team for name in ("0", "0.25", "1", "4")}
    assert teams == {"0": 1, "0.25": 1, "1": 1, "4": 4}
    assert load_config(["cluster.workers_per_cell=2"]).cluster.team == 2


@pytest.mark.parametrize("command", ["cluster-up", "cluster-status", "cluster-down"])
def test_a_cluster_that_is_not_started_from_here(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command]) == 2
    assert "CLUSTER=aws" in capsys.readouterr().err
