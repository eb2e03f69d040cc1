"""Who contributes, who is held out, and requests that cannot be."""

from __future__ import annotations

import pytest

from ray_app.config import load_config
from ray_app.fusion.contributors import draw_tasks
from ray_app.fusion.experiment import split_tasks
from tracking.errors import ConfigError

TASKS = "suite.tasks=[cola,rte,mrpc,wic,sst2,cb,copa,wnli]"


def test_without_names_a_quarter_of_the_suite_is_held_out() -> None:
    split = split_tasks(load_config(["arch=minilm", TASKS, "cold_fusion.contributors=6"]))
    assert len(split.unseen) == 2 and len(split.seen) == 6
    assert sorted([*split.seen, *split.unseen]) == sorted(["cola", "rte", "mrpc", "wic", "sst2", "cb", "copa", "wnli"])
    other = split_tasks(load_config(["arch=minilm", TASKS, "cold_fusion.contributors=6", "cold_fusion.split_seed=1"]))
    assert other.unseen != split.unseen


def test_named_datasets_contribute_and_targets_among_them_are_seen() -> None:
    config = load_config(["experiment=cold_fusion_minilm"])
    split = split_tasks(config)
    assert len(split.seen) == 11 and len(split.unseen) == 6
    assert set(config.suite.tasks) - set(split.unseen) == {"cola", "mrpc", "trec_coarse", "tweet_ev_emotion"}


def test_the_published_experiment_has_35_datasets_to_draw_from_but_for_what_is_held_out() -> None:
    split = split_tasks(load_config(["experiment=cold_fusion", "arch=roberta-base"]))
    assert len(split.seen) + len(split.unseen) == 36 and len(split.unseen) == 9


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["cold_fusion.contributors=9"], "9 for 6 datasets"),
        (["cold_fusion.contributors=6", "cold_fusion.probe_tasks=[rte]"], "what decides may not be judged by"),
        (["cold_fusion.tasks=[cola,colla]", "cold_fusion.contributors=2"], "nearest: cola"),
        (
            ["cold_fusion.tasks=[cola,rte]", "cold_fusion.contributors=2", "cold_fusion.unseen=[rte]"],
            "a contributor's dataset too",
        ),
        (["cold_fusion.contributors=2", "cold_fusion.unseen=[mnli]"], "none of the targets"),
    ],
)
def test_requests_that_cannot_be(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        split_tasks(load_config(["arch=minilm", TASKS, *overrides]))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("cold_fusion.contributors=1", "one contributor is not fused"),
        ("cold_fusion.variants={p: {rollback: sometimes}}", "rollback"),
        ("cold_fusion.variants={p: {modus: synchronous}}", "modus"),
        ("cold_fusion.iterations=many", "iterations"),
    ],
)
def test_settings_that_cannot_be(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(["arch=minilm", override])


def test_every_draw_is_without_repetition_and_by_seed_and_iteration() -> None:
    names = [f"task{place}" for place in range(35)]
    draws = {
        (seed, number): draw_tasks(names, 8, seed=seed, iteration=number) for seed in (0, 1) for number in (1, 2, 3)
    }
    assert all(len(set(drawn)) == 8 for drawn in draws.values())
    assert len({tuple(drawn) for drawn in draws.values()}) == 6
    assert draw_tasks(names, 8, seed=0, iteration=1) == draws[0, 1]
    assert draw_tasks(names, 4, seed=0, iteration=1) == draws[0, 1][:4], "fewer contributors are the first of more"
    with pytest.raises(ValueError, match="36 contributors"):
        draw_tasks(names, 36, seed=0, iteration=1)
