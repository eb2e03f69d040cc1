"""Several tasks, one backbone: what is shared, what is not, which batches come, and that it can be stored and taken up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ray_app.training.checkpointing import load_checkpoint, save_checkpoint
from ray_app.training.multitask import JointModel, MultitaskFinetuning, load_joint
from ray_app.training.progress import CellResult
from ray_app.training.settings import ExecutionConfig, FinetuneConfig, Precision
from ray_app.training.tokens import EncodedTask, Family
from tests.model_factory import tiny_model
from tests.task_factory import COUNT, WORD, make_task
from tracking.errors import InputError


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> list[EncodedTask]:
    from transformers import AutoTokenizer

    folder, tokenizer = tmp_path_factory.mktemp("tasks"), AutoTokenizer.from_pretrained(tiny_model("bert"))
    return [
        make_task(folder / "sign", tokenizer, sizes=(20, 8, 6)),
        make_task(folder / "count", tokenizer, facts=COUNT, sizes=(9, 8, 4), seed=1),
    ]


def joint(tasks: list[EncodedTask]) -> JointModel:
    return load_joint(tiny_model("bert"), tasks, Family.ENCODER)


def start(tasks: list[EncodedTask], **given: Any) -> MultitaskFinetuning:
    plain = {"learning_rate": 1e-3, "batch_size": 8, "max_epochs": 2, "validate_every_examples": 29}
    config = FinetuneConfig(**{**plain, "precision": Precision.FP32, **given})
    return MultitaskFinetuning(joint(tasks), tasks, config, ExecutionConfig(), seed=1)


def finish(run: MultitaskFinetuning) -> CellResult:
    while not run.progress.finished:
        run.advance()
    return run.result()


def test_the_backbone_is_one_and_every_task_has_its_head(tasks: list[EncodedTask]) -> None:
    loaded = joint(tasks)
    first, second = (part.model for part in loaded.parts)
    assert first.bert is second.bert and first.classifier is not second.classifier
    assert (first.classifier.out_features, second.classifier.out_features) == (2, 1)
    alone = sum(parameter.numel() for parameter in first.parameters())
    assert sum(parameter.numel() for parameter in loaded.model.parameters()) == alone + 32 + 1  # and the second head


def test_an_epoch_is_every_row_of_every_task_once_in_batches_of_one_task(tasks: list[EncodedTask]) -> None:
    run = start(tasks)
    assert (run.steps_per_epoch, run.total_steps) == (3 + 2, 10)
    for epoch in range(2):
        seen: dict[str, list[int]] = {"sign": [], "signs": []}
        order = []
        for _ in range(5):
            rows = run._rows_of_step()
            seen[run.task.facts.name] += rows.tolist()
            order.append(run.task.facts.name)
            run.progress.step += 1
        assert sorted(seen["sign"]) == list(range(20)) and sorted(seen["signs"]) == list(range(9)), epoch
        assert run.learner is run.learners[0 if order[-1] == "sign" else 1]


def test_a_step_moves_the_backbone_and_its_own_head_alone(tasks: list[EncodedTask]) -> None:
    run = start(tasks, weight_decay=0.0)
    heads = [model.classifier.weight.clone() for model in run.model.values()]
    backbone = run.model["task0"].bert.encoder.layer[0].output.dense.weight.clone()
    run._train_step()
    place = run.tasks.index(run.task)
    after = [model.classifier.weight for model in run.model.values()]
    assert not torch.equal(after[place], heads[place]) and torch.equal(after[1 - place], heads[1 - place])
    assert not torch.equal(run.model["task1"].bert.encoder.layer[0].output.dense.weight, backbone)


def test_the_score_is_the_mean_over_tasks(tasks: list[EncodedTask]) -> None:
    run = start(tasks)
    whole = run.evaluate("test")
    scores = []
    for place in (0, 1):
        run._turn_to(place)
        scores.append(super(MultitaskFinetuning, run).evaluate("test").score)
    assert whole.score == pytest.approx(float(np.mean(scores)))
    assert whole.n_eval == 6 + 4 == len(whole.predictions) == len(run.labels("test")) and whole.n_correct is None


def test_it_learns_both_tasks(tasks: list[EncodedTask]) -> None:
    result = finish(start(tasks, max_epochs=30, learning_rate=3e-3, validate_every_examples=290))
    assert not result.diverged and result.best_validation_score > 0.6  # chance: half of sign, no correlation of count: 0.25


def test_stored_and_taken_up_it_ends_as_an_undisturbed_one(tasks: list[EncodedTask], tmp_path: Path) -> None:
    undisturbed = finish(start(tasks))
    run = start(tasks)
    run.advance(due=lambda: run.progress.step == 4)
    save_checkpoint(run, tmp_path)
    again = start(tasks)
    assert load_checkpoint(again, tmp_path) and again.progress.step == 4
    assert [point for point in finish(again).curve] == list(undisturbed.curve)
    assert again.result().test.score == undisturbed.test.score


def test_what_is_kept_is_a_base_model(tasks: list[EncodedTask], tmp_path: Path) -> None:
    from ray_app.training.models import load_model

    loaded = joint(tasks)
    run = MultitaskFinetuning(
        loaded, tasks, FinetuneConfig(precision=Precision.FP32, batch_size=8, max_epochs=1), ExecutionConfig(), seed=0
    )
    finish(run)
    loaded.parts[0].model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    found = load_model(tmp_path, WORD, Family.ENCODER)
    assert torch.equal(
        found.pristine["bert.encoder.layer.0.output.dense.weight"],
        run.model["task1"].bert.encoder.layer[0].output.dense.weight,
    )


def test_settings_without_a_meaning_are_refused(tasks: list[EncodedTask]) -> None:
    with pytest.raises(InputError, match="expected neither"):
        start(tasks, freeze_backbone=True)
    with pytest.raises(InputError, match="no task"):
        load_joint(tiny_model("bert"), [], Family.ENCODER)
