"""What selection is told, and how a request is put into stages."""

from __future__ import annotations

import pytest

from ray_app.config import load_config
from ray_app.selection.settings import SelectConfig, staged, unknown_names
from tracking.errors import ConfigError


def test_a_stage_is_an_epoch_unless_told_otherwise() -> None:
    assert staged(load_config(["arch=minilm", "method.max_epochs=4"])).method.stages == 4
    assert staged(load_config(["arch=minilm", "method.max_epochs=0.3"])).method.stages == 1
    assert staged(load_config(["arch=minilm", "method.stages=7"])).method.stages == 7


def test_sources_are_made_as_ever() -> None:
    config = staged(load_config(["experiment=two_phase_minilm"]))
    assert [group.method["stages"] for group in config.candidates.sources] == [0, 0, 0]
    assert config.method.stages == 5


def test_the_small_experiment_holds_its_targets_out() -> None:
    config = load_config(["experiment=two_phase_minilm"])
    made_from = {task for group in config.candidates.sources for task in group.tasks}
    assert len(config.select.targets) == 3 and len(config.suite.tasks) == 10 and len(made_from) == 11
    assert not set(config.select.targets) & (made_from | set(config.suite.tasks))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["select.k=0"], "select.k: 0; recall hands on at least one candidate"),
        (["select.proxies=[]"], "select.proxies: empty"),
        (["select.targets=[rte,rte]"], "select.targets: rte, rte names one twice"),
        (["method.stages=-1"], "method.stages: -1; it must be 0"),
    ],
)
def test_what_cannot_be_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("[", r"\[")):
        load_config(["arch=minilm", *overrides])


def test_names_of_registries_are_checked_with_what_is_known() -> None:
    assert unknown_names(SelectConfig()) == [] == unknown_names(SelectConfig(policy="asha"))
    found = unknown_names(SelectConfig(policy="halfing", proxies=["leep", "magic"]))
    assert len(found) == 2 and "successive_halving" in found[0] and "asha" in found[0] and "logme" in found[1]
