"""What `make probe` and `make proxies` make of scores: gains, ranks, order, and the tasks they choose."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_app.commands.probe import ProbeRow, _ranked, choose_tasks
from ray_app.commands.proxies import known_downloads
from ray_app.config import load_config
from tracking.errors import ConfigError


def _row(name: str, score: float | None, *, baseline: bool = False) -> ProbeRow:
    return ProbeRow(
        base_model=name,
        task="rte",
        score=score,
        gain=None,
        rank=None,
        n_eval=50,
        n_seeds=1,
        seconds=1.0,
        baseline=baseline,
    )


def test_gains_are_over_the_pretrained_model_and_equal_scores_share_a_rank() -> None:
    rows = [_row("b", 0.5), _row("start", 0.6, baseline=True), _row("c", 0.7), _row("a", 0.7), _row("gone", None)]
    ranked = _ranked(rows)
    assert [row.base_model for row in ranked] == ["a", "c", "start", "b", "gone"]
    assert [row.rank for row in ranked] == [1, 1, None, 3, None]
    assert [row.gain for row in ranked[:4]] == pytest.approx([10.0, 10.0, 0.0, -10.0])
    assert ranked[4].gain is None


def test_without_the_pretrained_models_score_there_is_no_gain() -> None:
    ranked = _ranked([_row("a", 0.7), _row("start", None, baseline=True)])
    assert [(row.rank, row.gain) for row in ranked] == [(1, None), (None, None)]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["arch=minilm"], ["mnli"]),
        (["arch=minilm", "tasks=[rte,cola]"], ["rte", "cola"]),
    ],
)
def test_candidates_are_probed_on_mnli_unless_tasks_are_named(overrides: list[str], expected: list[str]) -> None:
    config = load_config(overrides)
    choose_tasks(config)
    assert config.suite.tasks == expected


def test_the_embedded_default_is_probed_on_its_own_tasks() -> None:
    config = load_config([])
    own = list(config.suite.tasks)
    choose_tasks(config)
    assert config.suite.tasks == own


def test_unknown_tasks_are_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="there is no task 'rtee'; nearest: rte"):
        load_config(["arch=minilm", "tasks=[rtee]"])


def test_downloads_are_those_that_discover_recorded(tmp_path: Path) -> None:
    config = load_config(["arch=minilm", f"out={tmp_path}"])
    assert known_downloads(config) == {}
    folder = tmp_path / "discover"
    folder.mkdir()
    (folder / "minilm.csv").write_text("base_model,downloads\norg/a,120\norg/b,\n")
    assert known_downloads(config) == {"org/a": 120.0}
