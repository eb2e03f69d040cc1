"""Settings that make no sense are told by name, all at once."""

from __future__ import annotations

import json
import math
from dataclasses import fields

import pytest

from ray_app.training.settings import ExecutionConfig, FinetuneConfig, Precision


def test_the_protocol_of_the_paper_is_the_default() -> None:
    # "Where to start?", App. B, RoBERTa
    config = FinetuneConfig()
    assert config.faults() == ExecutionConfig().faults() == []
    assert (config.learning_rate, config.batch_size, config.max_epochs, config.warmup_fraction) == (
        5e-5,
        256,
        10,
        0.006,
    )
    assert (config.validate_every_examples, config.patience_examples) == (50 * 256, 20 * 50 * 256)
    assert (config.early_stop_epsilon, config.weight_decay) == (0.001, 0.01)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_everything_wrong_is_told_at_once(value: float) -> None:
    names = ["learning_rate", "batch_size", "max_epochs", "validate_every_examples", "patience_examples", "max_length"]
    found = FinetuneConfig(**dict.fromkeys(names, value)).faults()  # type: ignore[arg-type]
    assert [fault.split(":")[0] for fault in found] == names
    assert all(str(value) in fault for fault in found)


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_amounts_may_be_zero_but_not_below(value: float) -> None:
    names = ["weight_decay", "early_stop_epsilon", "max_grad_norm", "distance_penalty"]
    assert FinetuneConfig(**dict.fromkeys(names, 0.0)).faults() == []  # type: ignore[arg-type]
    found = FinetuneConfig(**dict.fromkeys(names, value)).faults()  # type: ignore[arg-type]
    assert [fault.split(":")[0] for fault in found] == names


@pytest.mark.parametrize(
    ("value", "wrong"), [(0.0, False), (1.0, False), (1.01, True), (-0.01, True), (math.nan, True)]
)
def test_warmup_is_a_share(value: float, wrong: bool) -> None:
    assert bool(FinetuneConfig(warmup_fraction=value).faults()) is wrong


@pytest.mark.parametrize("name", [field.name for field in fields(ExecutionConfig)])
def test_execution_needs_something_of_everything(name: str) -> None:
    assert len(ExecutionConfig(**{name: 0}).faults()) == 1


def test_hyperparameters_are_plain_values_and_all_of_them() -> None:
    found = FinetuneConfig(precision=Precision.bf16, freeze_backbone=True, stages=5).hyperparameters()
    assert found["precision"] == "bf16"
    assert set(found) == {field.name for field in fields(FinetuneConfig)}
    assert json.loads(json.dumps(found)) == found


def test_what_came_later_leaves_older_keys_alone_while_it_is_off() -> None:
    later = {"freeze_backbone", "stages"}
    found = FinetuneConfig().hyperparameters()
    assert set(found) == {field.name for field in fields(FinetuneConfig)} - later
    assert found["distance_penalty"] == 0.0


def test_stages_are_none_or_some() -> None:
    assert FinetuneConfig(stages=0).faults() == FinetuneConfig(stages=1).faults() == []
    assert FinetuneConfig(stages=-1).faults() == ["stages: -1; it must be 0 (none) or more"]
