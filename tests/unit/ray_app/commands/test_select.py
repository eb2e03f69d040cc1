"""Requests for a selection that cannot be: refused before anything is read or written."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_app.commands import select
from ray_app.config import load_config
from tracking.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], "TASK: not given; name the new target"),
        (["task=' , '"], "TASK: not given"),
        (["task='rte,coala'"], "TASK: there is no task 'coala'; nearest: cola"),
        (
            ["task=rte", "select.policy=halfing"],
            "POLICY: there is no 'halfing'; known: brute_force, successive_halving",
        ),
        (["task=rte", "select.proxies=[magic]"], "select.proxies: there is no 'magic'; known: leep"),
        (["task=rte", "cluster.workers_per_cell=2"], "a team of 2 processes would train a candidate"),
    ],
)
def test_what_cannot_be_is_said(overrides: list[str], said: str, tmp_path: Path) -> None:
    config = load_config(["arch=minilm", f"out={tmp_path / 'out'}", *overrides])
    with pytest.raises(ConfigError) as caught:
        select.run(config)
    assert said in caught.value.message
    assert not (tmp_path / "out").exists()


def test_targets_of_the_experiment_stand_in_for_task() -> None:
    config = load_config(["experiment=two_phase_minilm"])
    assert select.targets_of(config) == ["rte", "rotten_tomatoes", "tweet_ev_irony"]
    config = load_config(["experiment=two_phase_minilm", "task='cola, rte,cola'"])
    assert select.targets_of(config) == ["cola", "rte"]
