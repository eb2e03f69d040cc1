"""What `make fuse` is told: variables to settings, and the faults of settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_app.commands import fuse
from ray_app.config import load_config
from ray_app.fusion.request import FuseConfig
from ray_app.fusion.settings import Rule
from ray_app.variables import to_overrides
from tracking.errors import ConfigError


def _config(*arguments: str) -> FuseConfig:
    return load_config(to_overrides(["ARCH=minilm", *arguments])).fuse


def test_variables_become_settings() -> None:
    found = _config(
        "MODELS=org/a@main, ./b c ,startline/d", "RULE=ties", "WEIGHTS=2,1,0.5", "FISHER=mnli", "NAME=soup.1"
    )
    assert found.models == ["org/a@main", "./b c", "startline/d"]
    assert found.fusion.rule is Rule.TIES and found.weights == [2.0, 1.0, 0.5] and found.fisher == ["mnli"]
    assert found.name == "soup.1"


@pytest.mark.parametrize("rule", [rule.value for rule in Rule])
def test_every_rule_can_be_asked_for(rule: str) -> None:
    more = {"weighted_mean": ["WEIGHTS=2,1"], "fisher": ["FISHER=mnli"]}.get(rule, [])
    assert _config("MODELS=a,b", f"RULE={rule}", *more).fusion.rule.value == rule


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["MODELS=a"], "a alone is nothing to fuse"),
        (["MODELS=a,b,a"], "models: a is named twice"),
        (["MODELS=a,b", "WEIGHTS=1"], "weights: 1 for 2 models"),
        (["MODELS=a,b", "WEIGHTS=1,2"], "mean weighs all alike; take RULE=weighted_mean"),
        (["MODELS=a,b", "RULE=weighted_mean"], "weighted_mean needs one for each model, WEIGHTS=2,1"),
        (["MODELS=a,b", "RULE=fisher"], "fisher: none given"),
        (["MODELS=a,b,c", "FISHER=x,y"], "fisher: 2 for 3 models"),
        (["MODELS=a,b", "RULE=median"], "median"),
        (["MODELS=a,b", "WEIGHTS=1,much"], "much"),
        (["MODELS=a,b", "NAME=../x"], "name: "),
        (["MODELS=a,b", "fuse.fisher_rows=0"], "fisher_rows: 0"),
        (["MODELS=a,b", "fuse.fusion.density=2"], "fuse.fusion.density: 2"),
        (["MODELS=a,b", "fuse.fusion.lambda=2"], "lambda"),
    ],
)
def test_faults_are_told_with_their_place(arguments: list[str], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _config(*arguments)
    assert any(text in fault and fault.startswith("fuse") for fault in caught.value.faults), caught.value.faults


def test_models_and_a_task_for_the_soup_are_asked_for_first(tmp_path: Path) -> None:
    out = [f"OUT={tmp_path}", "ARCH=minilm"]
    with pytest.raises(ConfigError, match="name two models at least"):
        fuse.run(load_config(to_overrides(out)))
    with pytest.raises(ConfigError, match="greedy_soup needs a task to score soups on"):
        fuse.run(load_config(to_overrides([*out, "MODELS=a,b", "RULE=greedy_soup"])))
    assert not list(tmp_path.iterdir())
