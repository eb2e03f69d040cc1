"""The debug size of experiments, and that every experiment composes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_app.config import AppConfig, load_config

ROOT = Path(__file__).resolve().parents[3]
EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))
STUDIES = [name for name in EXPERIMENTS if name not in ("plain", "off_the_shelf")]


def loaded(*overrides: str) -> AppConfig:
    return load_config(["arch=minilm", *overrides])


def test_the_experiments_of_the_issue_are_all_there() -> None:
    named = {
        "in_house", "off_the_shelf", "source_size", "target_size", "source_seeds", "weight_decay", "distance_regularised",
        "linear_probe",
    }  # fmt: skip
    assert named <= set(EXPERIMENTS) and len(EXPERIMENTS) >= 10


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_and_opens_with_command_and_source(name: str) -> None:
    config = loaded(f"experiment={name}")
    assert config.experiment.name == name
    text = (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text()
    assert "make " in text.splitlines()[0] + text.splitlines()[1]
    if name != "plain":
        assert "# Source:" in text and "# Expected" in text


def test_in_house_has_the_size_of_the_paper() -> None:
    config = loaded("experiment=in_house")
    assert len(config.suite.tasks) == len(set(config.suite.tasks)) == 22
    assert config.candidates.sources[0].tasks == config.suite.tasks and len(config.seeds) == 5


def test_size_experiments_have_the_sizes_of_the_paper() -> None:
    sources = loaded("experiment=source_size").candidates.sources
    assert [group.caps.train for group in sources] == [50, 100, 200, 400, 800, 1600, 3200]
    assert {tuple(group.tasks) for group in sources} == {("anli", "mnli", "multirc", "qqp")}
    suite = loaded("experiment=target_size").suite
    assert [caps.train for caps in suite.variants()] == suite.train_sizes == [50, 100, 200, 400, 800, 1600]


def test_source_seeds_are_twenty_models_of_their_own() -> None:
    (group,) = loaded("experiment=source_seeds").candidates.sources
    assert group.tasks == ["mnli"] and group.seeds == list(range(20)) and not group.pair_seeds


def test_conditions_differ_in_one_hyperparameter() -> None:
    decay = loaded("experiment=weight_decay").candidates.sources
    assert [(group.label, group.method) for group in decay] == [
        ("decay1", {"weight_decay": 1.0}),
        ("decay0", {"weight_decay": 0.0}),
    ]
    near = loaded("experiment=distance_regularised").candidates.sources
    assert [(group.label, group.method) for group in near] == [("", {}), ("near", {"distance_penalty": 0.1})]


def test_the_probe_of_the_paper_trains_the_head_and_finetunes_its_sources_whole() -> None:
    config = loaded("experiment=linear_probe")
    assert config.method.freeze_backbone and config.suite.tasks == ["mnli"]
    assert config.candidates.sources[0].method == {"freeze_backbone": False}


@pytest.mark.parametrize("name", STUDIES)
def test_the_debug_size_is_small_and_keeps_the_study(name: str) -> None:
    config = loaded(f"experiment={name}", "debug=small")
    assert len(config.suite.tasks) <= 3 and len(config.seeds) <= 2 and config.method.max_epochs == 1
    for caps in (*config.suite.variants(), *(group.caps for group in config.candidates.sources)):
        assert caps.train is not None and caps.train <= 200 and (caps.test or 0) <= 100
    made = [
        (group.label, task, seed) for group in config.candidates.sources for task in group.tasks for seed in group.seeds
    ]
    by_loop = name.startswith("cold_fusion")  # its base models are made by the loop, of at most so many contributors
    assert (0 if by_loop else 1) <= len(made) <= 9 and len(made) == len(set(made))
    assert not by_loop or config.cold_fusion.contributors <= 8


def test_limits_keep_three_sizes_and_three_source_seeds() -> None:
    sizes = loaded("experiment=source_size", "debug=small").candidates.sources
    assert [(group.label, group.caps.train) for group in sizes] == [("n50", 50), ("n100", 100), ("n200", 200)]
    assert loaded("experiment=target_size", "debug=small").suite.train_sizes == [50, 100, 200]
    assert loaded("experiment=source_seeds", "debug=small").candidates.sources[0].seeds == [0, 1, 2]


def test_without_a_limit_nothing_changes() -> None:
    assert loaded("experiment=source_size").candidates.sources[0].caps.test is None
    assert loaded("experiment=source_size").suite.caps.train is None
