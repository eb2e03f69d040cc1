"""The plan: candidates x tasks x seeds, what is dropped, in which order; pure, over made-up checkpoints and data."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

from ray_app.hub.checkpoints import Checkpoint, ModelRef
from ray_app.hub.tasks import SplitCaps, SplitRule
from ray_app.sweeps.materials import TaskVariant
from ray_app.sweeps.plan import (
    PlannedCell,
    Study,
    base_models,
    changed_method,
    in_running_order,
    plan_cells,
    remaining_cells,
    source_name,
)
from ray_app.sweeps.queue import PlanQueue
from ray_app.sweeps.settings import ArchConfig, SourcesConfig
from ray_app.training.settings import FinetuneConfig, Precision
from tracking.errors import ConfigError


class Shelf:
    """Stands in for the task shelf: a fingerprint needs no data."""

    def fingerprint(self, variant: TaskVariant) -> dict[str, object]:
        return {"name": variant.name, "caps": list(variant.caps), "split_rule": variant.split_rule.value}


ARCH = ArchConfig(name="tiny", pretrained=ModelRef(id="org/base"), model_types=["bert"])


def checkpoint(name: str) -> Checkpoint:
    return Checkpoint(
        model_id=name, revision=f"rev-{name}", path=Path("/m") / name, model_type="bert", size_bytes=10, n_parameters=5
    )


def study(
    *, sources: list[SourcesConfig] | None = None, seeds: list[int] | None = None, tasks: tuple[str, ...] = ("a", "b")
) -> Study:
    models = base_models(ARCH, [ModelRef(id="org/one"), ModelRef(id="org/base")])
    return Study(
        arch=ARCH,
        checkpoints={ref.id: checkpoint(ref.id) for ref in models},
        models=models,
        sources=sources or [],
        targets=[TaskVariant.of(task, SplitRule.SITE, SplitCaps()) for task in tasks],
        seeds=seeds or [0, 1],
        method=FinetuneConfig(precision=Precision.FP32),
        shelf=Shelf(),  # type: ignore[arg-type]
    )


def test_candidates_times_tasks_times_seeds() -> None:
    cells = plan_cells(study())
    assert len(cells) == 2 * 2 * 2 == len({cell.key for cell in cells})
    assert sum(cell.baseline for cell in cells) == 4


def test_the_pretrained_model_is_first_and_once() -> None:
    assert [ref.id for ref in base_models(ARCH, [ModelRef(id="org/base"), ModelRef(id="x")])] == ["org/base", "x"]


def test_a_bigger_plan_keeps_the_keys_of_the_smaller_one() -> None:
    small = {cell.key for cell in plan_cells(study(seeds=[0], tasks=("a",)))}
    large = {cell.key for cell in plan_cells(study(seeds=[0, 1, 2], tasks=("a", "b", "c")))}
    assert small < large


def test_sources_come_first_and_pair_seeds() -> None:
    cells = plan_cells(study(sources=[SourcesConfig(tasks=["s"], caps=SplitCaps(train=5))]))
    sources = [cell for cell in cells if cell.role == "source"]
    made = [cell for cell in cells if cell.identity.base_model == "startline/tiny-s"]
    assert [cell.role for cell in cells[:2]] == ["source", "source"]
    assert len(made) == 2 * 2
    of_seed = {source.identity.seed: source.key for source in sources}
    assert all(cell.requires == of_seed[cell.identity.seed] == cell.identity.base_revision for cell in made)


def test_unpaired_source_seeds_are_base_models_of_their_own() -> None:
    cells = plan_cells(study(sources=[SourcesConfig(tasks=["s"], seeds=[3, 4], pair_seeds=False, label="x")]))
    names = {cell.identity.base_model for cell in cells if cell.requires}
    assert names == {"startline/tiny-s-x-s3", "startline/tiny-s-x-s4"}
    assert source_name("org/tiny", "s", SourcesConfig(tasks=["s"]), 0) == "startline/org_tiny-s"


def test_hyperparameters_of_sources() -> None:
    method = FinetuneConfig()
    assert changed_method(method, {"weight_decay": 1.0}, "here").weight_decay == 1.0
    with pytest.raises(ConfigError, match=r"here\.rate"):
        changed_method(method, {"rate": 1}, "here")
    with pytest.raises(ConfigError, match=r"here\.batch_size"):
        changed_method(method, {"batch_size": 0}, "here")


def test_what_is_complete_is_dropped(tmp_path: Path) -> None:
    cells = plan_cells(study(sources=[SourcesConfig(tasks=["s"])]))
    todo, done = remaining_cells(cells, complete={cell.key for cell in cells}, models_at=tmp_path)
    assert todo == [] and {cell.key for cell in done} == {cell.key for cell in cells}
    todo, done = remaining_cells(cells, complete=(), models_at=tmp_path)
    assert len(todo) == len(cells) and done == []


def test_a_source_whose_model_is_gone_is_made_again_only_where_it_is_needed(tmp_path: Path) -> None:
    cells = plan_cells(study(sources=[SourcesConfig(tasks=["s"])]))
    waiting = next(cell for cell in cells if cell.requires and cell.identity.seed == 1)
    todo, _ = remaining_cells(cells, complete={cell.key for cell in cells} - {waiting.key}, models_at=tmp_path)
    assert {cell.key for cell in todo} == {waiting.key, waiting.requires}
    (tmp_path / str(waiting.requires)).mkdir()
    (tmp_path / str(waiting.requires) / "config.json").write_text("{}")
    todo, _ = remaining_cells(cells, complete={cell.key for cell in cells} - {waiting.key}, models_at=tmp_path)
    assert {cell.key for cell in todo} == {waiting.key}


def test_sources_then_model_by_model_then_the_most_work_first() -> None:
    cells = plan_cells(study(sources=[SourcesConfig(tasks=["s"])]))
    work = {"a": 1.0, "b": 5.0, "s": 2.0}
    costed = [dataclasses.replace(cell, cost=work[cell.identity.task]) for cell in cells]
    ordered = in_running_order(costed)
    assert [cell.role for cell in ordered[:2]] == ["source", "source"]
    names = [cell.identity.base_model for cell in ordered[2:]]
    assert names == sorted(names, key=names.index), "cells of one base model stand together"
    assert len(dict.fromkeys(names)) == sum(a != b for a, b in itertools.pairwise(names)) + 1
    for name in set(names):
        costs = [cell.cost for cell in ordered if cell.identity.base_model == name and cell.role == "target"]
        assert costs == sorted(costs, reverse=True)


def drained(queue: PlanQueue) -> list[object]:
    handed = []
    for number in range(50):
        given = queue.suggest(f"t{number}")
        if not isinstance(given, dict):
            return [*handed, given]
        handed.append(given["key"])
    raise AssertionError("the queue does not end")


def config_of(cell: PlannedCell) -> dict[str, object]:
    return {"key": cell.key}


def test_the_queue_holds_cells_back_until_their_source_is_ready() -> None:
    cells = plan_cells(study(seeds=[0], sources=[SourcesConfig(tasks=["s"])]))
    queue = PlanQueue(cells, config_of)
    source = next(cell for cell in cells if cell.role == "source")
    handed = drained(queue)
    free = [cell.key for cell in cells if cell.requires is None]
    assert handed == [*free, None], "those that wait are not handed out, and the queue is not finished"
    trial = next(name for name, cell in queue._cell_of.items() if cell.key == source.key)
    queue.on_trial_complete(trial, {"model_kept": True})
    assert drained(queue) == [*[cell.key for cell in cells if cell.requires == source.key], None]
    assert queue.blocked == {}
    for name in list(queue._cell_of):
        queue.on_trial_complete(name, {})
    assert drained(queue) == ["FINISHED"]


def test_a_lost_cell_is_handed_out_again_first_and_not_for_ever() -> None:
    cells = plan_cells(study(seeds=[0]))
    queue = PlanQueue(cells, config_of, max_failures=2)
    assert queue.suggest("t0")["key"] == cells[0].key
    queue.on_trial_complete("t0", error=True)
    assert queue.handed_again == {"t0"}
    assert queue.suggest("t1")["key"] == cells[0].key
    queue.on_trial_complete("t1", error=True)
    assert queue.suggest("t2")["key"] == cells[0].key
    queue.on_trial_complete("t2", error=True)
    assert queue.handed_again == {"t0", "t1"}, "given up the third time"
    assert drained(queue) == [*[cell.key for cell in cells[1:]], None]


@pytest.mark.parametrize("result", [None, {"model_kept": False}])
def test_a_failed_source_takes_its_cells_with_it(result: dict[str, object] | None) -> None:
    cells = plan_cells(study(seeds=[0], sources=[SourcesConfig(tasks=["s"])]))
    queue = PlanQueue(cells, config_of)
    drained(queue)
    source = next(cell for cell in cells if cell.role == "source")
    trial = next(name for name, cell in queue._cell_of.items() if cell.key == source.key)
    queue.on_trial_complete(trial, result, error=result is None)
    assert set(queue.blocked) == {cell.key for cell in cells if cell.requires == source.key}
    for name in list(queue._cell_of):
        queue.on_trial_complete(name, {})
    assert drained(queue) == ["FINISHED"]
