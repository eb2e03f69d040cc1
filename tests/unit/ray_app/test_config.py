"""Configuration: every choice loads, every fault is named at once, variables become overrides."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ray_app.__main__ import COMMANDS, main
from ray_app.config import CONF, GROUPS, AppConfig, known_names, load_config
from ray_app.variables import VARIABLES, to_overrides
from tracking.errors import ConfigError

CHOICES = [(group, name) for group in GROUPS for name in known_names(group)]


def test_there_are_choices_in_every_group() -> None:
    assert {group for group, _ in CHOICES} == set(GROUPS)
    assert len(CHOICES) >= 30


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_composes(group: str, name: str) -> None:
    assert isinstance(load_config([f"{group}={name}"]), AppConfig)


@pytest.mark.parametrize(
    ("arch", "rate", "decay", "pretrained"),
    [
        ("roberta-base", 5e-5, 0.01, "FacebookAI/roberta-base"),
        ("bert-base-uncased", 2e-5, 0.0, "google-bert/bert-base-uncased"),
        ("t5-small", 1e-4, 0.0, "google-t5/t5-small"),
        ("google/t5-v1_1-base", 1e-4, 0.0, "google/t5-v1_1-base"),
    ],
)
def test_the_papers_protocol(arch: str, rate: float, decay: float, pretrained: str) -> None:
    """App. B: learning rates, batch, warm-up, validation interval, patience, epochs."""
    config = load_config([f"arch={arch}"])
    method = config.method
    assert (method.learning_rate, method.weight_decay, config.arch.pretrained.id) == (rate, decay, pretrained)
    assert (method.batch_size, method.warmup_fraction, method.max_epochs) == (256, 0.006, 10)
    assert (method.validate_every_examples, method.patience_examples) == (50 * 256, 20 * 50 * 256)
    assert method.early_stop_epsilon == 0.001


def test_all_faults_at_once_with_paths_and_near_names() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(
            [
                "arch=robrta-base",
                "methd.x=1",
                "method.learning_rat=2",
                "seeds=[0,0]",
                "method.batch_size=-1",
                "suite.tasks=[colla]",
            ]
        )
    faults = caught.value.faults
    assert len(faults) == 6
    wanted = ("roberta-base", "nearest: method", "learning_rate", "seeds: [0, 0]", "method.batch_size: -1", "cola")
    for text in wanted:
        assert any(text in fault for fault in faults), text


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("method.batch_size=many", "method.batch_size"),
        ("method.precision=fp16", "FP32"),
        ("seeds=3", "seeds"),
        ("arch", "not an override"),
        ("~arch", "deletions"),
        ("method.learning_rate=1,2", "sweeps"),
        ("mirror=/nowhere/at/all", "not a folder"),
        ("cluster.gpus_per_cell=1.5", "cluster.gpus_per_cell"),
        ("debug.log_level=loud", "debug.log_level"),
        ("candidates.sources.0.x=1", "candidates"),
    ],
)
def test_bad_values_are_one_fault(override: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config([override])
    assert any(text in fault for fault in caught.value.faults), caught.value.faults


def test_an_architecture_is_added_by_one_file(tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf)
    (conf / "arch" / "mine.yaml").write_text(
        "# @package _global_\narch:\n  name: mine\n  family: encoder\n  pretrained: {id: me/mine}\n  model_types: [electra]\n"
    )
    assert load_config(["arch=mine"], conf).arch.pretrained.id == "me/mine"


def test_an_architecture_without_a_file_can_be_read_but_not_trained() -> None:
    assert load_config(["arch=org/new-arch"], any_arch=True).arch.name == "org/new-arch"
    with pytest.raises(ConfigError):
        load_config(["arch=org/new-arch"])


def test_variables() -> None:
    given = [
        "ARCH=t5-small",
        "SEEDS=3",
        "MIRROR=a b/c",
        "DRY=1",
        "OUT=",
        'ARGS=method.max_epochs=1 suite.name="x y"',
        "seeds=[5]",
    ]
    assert to_overrides(given) == [
        "arch=t5-small", "seeds=[0,1,2]", "mirror='a b/c'", "dry=true", "method.max_epochs=1", "suite.name=x y", "seeds=[5]",
    ]  # fmt: skip
    assert to_overrides(["SEEDS=0,7"]) == ["seeds=[0,7]"]


@pytest.mark.parametrize("given", ["SEEDS=x", "SEEDS=0", "SEEDS=1,", "DRY=maybe", "ARHC=t5-small"])
def test_bad_variables(given: str) -> None:
    with pytest.raises(ConfigError):
        to_overrides([given])


def test_the_front_door(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in [*COMMANDS, *VARIABLES])
    assert main(["swep"]) == 2
    assert "sweep" in capsys.readouterr().err
    assert main(["sweep", "ARCH=nope"]) == 2
    assert capsys.readouterr().err.count("\n") == 2
    assert main([]) == 2


def test_the_makefile_knows_every_command_and_variable() -> None:
    makefile = (CONF.parent / "Makefile").read_text()
    missing = [name for name in COMMANDS if name not in ("config", "licenses") and name not in makefile]
    assert not missing
    missing_variables = [name for name in VARIABLES if name not in makefile.split()]
    assert not missing_variables
