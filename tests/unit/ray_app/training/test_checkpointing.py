"""A finetune that is stored and taken up again ends bit for bit as an undisturbed one; damaged checkpoints are left aside."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from ray_app.training import checkpointing
from ray_app.training.checkpointing import discard_checkpoints, load_checkpoint, save_checkpoint
from ray_app.training.finetune import Finetuning
from ray_app.training.models import LoadedModel, load_model
from ray_app.training.progress import CellResult
from ray_app.training.settings import ExecutionConfig, FinetuneConfig, Precision
from ray_app.training.tokens import EncodedTask, Family
from tests.model_factory import tiny_model
from tests.task_factory import WORD, make_task
from tracking.errors import StorageError


@pytest.fixture(scope="module")
def bert() -> LoadedModel:
    return load_model(tiny_model("bert"), WORD, Family.ENCODER)


@pytest.fixture(scope="module")
def task(bert: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> EncodedTask:
    return make_task(tmp_path_factory.mktemp("tasks") / "sign", bert.tokenizer, sizes=(20, 8, 8))


def start(bert: LoadedModel, task: EncodedTask, **given: Any) -> Finetuning:
    plain = {"learning_rate": 3e-3, "batch_size": 8, "max_epochs": 2, "validate_every_examples": 16}
    config = FinetuneConfig(**{**plain, "precision": Precision.FP32, **given})
    return Finetuning(bert, task, config, ExecutionConfig(), seed=1)


def finish(run: Finetuning) -> CellResult:
    while not run.progress.finished:
        run.advance()
    return run.result()


def outcome(result: CellResult) -> dict[str, Any]:
    """Everything about a result but how long it took."""
    return {
        "score": result.test.score,
        "loss": result.test.loss,
        "predictions": result.test.predictions.tolist(),
        "curve": result.curve,
        "best": result.best_validation_score,
        "seen": result.examples_seen,
        "diverged": result.diverged,
    }


def weights(run: Finetuning) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.model.state_dict().items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def train_steps(run: Finetuning, n_steps: int) -> None:
    """Train until that many optimiser steps are done, validating where it is due."""
    while run.progress.step < n_steps:
        run.advance(due=lambda: True)


@pytest.mark.parametrize("stops", [[1], [2], [3], [5], [1, 2, 3, 4, 5, 6]])
def test_a_resumed_finetune_ends_as_an_undisturbed_one(
    bert: LoadedModel, task: EncodedTask, tmp_path: Path, stops: list[int]
) -> None:
    whole = start(bert, task)
    expected, expected_weights = outcome(finish(whole)), weights(whole)
    for stop in stops:
        run = start(bert, task)
        load_checkpoint(run, tmp_path)
        train_steps(run, stop)
        save_checkpoint(run, tmp_path)
    with torch.no_grad():
        for parameter in bert.model.parameters():  # what another cell left in the worker's memory
            parameter.add_(1.0)
    run = start(bert, task)
    assert load_checkpoint(run, tmp_path) and run.progress.step == stops[-1]
    assert outcome(finish(run)) == expected
    assert same(weights(run), expected_weights)


def test_a_resume_right_after_a_validation_keeps_the_best_weights(
    bert: LoadedModel, task: EncodedTask, tmp_path: Path
) -> None:
    whole = start(bert, task, learning_rate=0.03)  # too fast: the first validation is the best
    expected = outcome(finish(whole))
    run = start(bert, task, learning_rate=0.03)
    run.advance()
    run.advance()
    save_checkpoint(run, tmp_path)
    kept = {name: tensor.clone() for name, tensor in run.best_weights.items()}
    again = start(bert, task, learning_rate=0.03)
    load_checkpoint(again, tmp_path)
    assert same(again.best_weights, kept)
    assert outcome(finish(again)) == expected


@pytest.mark.parametrize("n_points", [1, 2, 3])
def test_a_checkpoint_of_a_finished_finetune_needs_no_more_training(
    bert: LoadedModel, task: EncodedTask, tmp_path: Path, n_points: int
) -> None:
    given = {"patience_examples": 1, "early_stop_epsilon": 1.0} if n_points == 2 else {}
    if n_points == 1:
        given = {"max_epochs": 0.5}
    run = start(bert, task, **given)
    while not run.progress.finished:
        run.advance()
    assert len(run.progress.curve) == n_points
    save_checkpoint(run, tmp_path)
    expected = outcome(run.result())
    again = start(bert, task, **given)
    load_checkpoint(again, tmp_path)
    again.advance()
    assert outcome(again.result()) == expected


def test_progress_comes_back_as_it_was_infinities_included(
    bert: LoadedModel, task: EncodedTask, tmp_path: Path
) -> None:
    run = start(bert, task)
    train_steps(run, 1)
    assert run.progress.best_score == -math.inf
    run.progress.micro_batch_tokens = 128
    save_checkpoint(run, tmp_path)
    again = start(bert, task)
    load_checkpoint(again, tmp_path)
    assert asdict(again.progress) == asdict(run.progress)


def test_only_the_last_checkpoint_is_kept_and_none_when_the_cell_is_done(
    bert: LoadedModel, task: EncodedTask, tmp_path: Path
) -> None:
    folder = tmp_path / "cell"
    run = start(bert, task)
    for step in (1, 2, 4):
        train_steps(run, step)
        target = save_checkpoint(run, folder)
    assert [path.name for path in folder.iterdir()] == [target.name] == ["step-00000004-00001"]
    discard_checkpoints(folder)
    assert not folder.exists()
    discard_checkpoints(folder)


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    t5 = load_model(tiny_model("t5"), WORD, Family.TEXT_TO_TEXT)
    task = make_task(tmp_path / "t", t5.tokenizer, family=Family.TEXT_TO_TEXT, sizes=(8, 4, 4))
    run = start(t5, task, max_epochs=2, validate_every_examples=8)
    run.advance()
    path = save_checkpoint(run, tmp_path / "c") / "tensors.safetensors"
    with safe_open(path, framework="pt") as file:
        n_stored = sum(file.get_tensor(key).numel() for key in file.keys() if key.startswith("model/"))  # noqa: SIM118
    assert n_stored == sum(parameter.numel() for parameter in t5.model.parameters())
    expected = outcome(finish(run))
    again = start(t5, task, max_epochs=2, validate_every_examples=8)
    assert load_checkpoint(again, tmp_path / "c")
    assert outcome(finish(again)) == expected
    assert t5.model.lm_head.weight is t5.model.shared.weight


# --- damage ------------------------------------------------------------------------------------------------------------


def two_checkpoints(bert: LoadedModel, task: EncodedTask, folder: Path) -> tuple[Path, Path]:
    """An older and a newer one, as a crash between writing the one and removing the other leaves them."""
    run = start(bert, task)
    train_steps(run, 1)
    older = save_checkpoint(run, folder)
    aside = folder.with_name("aside")
    shutil.copytree(older, aside)
    train_steps(run, 3)
    newer = save_checkpoint(run, folder)
    aside.rename(older)
    return older, newer


def damage(checkpoint: Path, how: str) -> None:
    tensors, state = checkpoint / "tensors.safetensors", checkpoint / "state.json"
    raw = tensors.read_bytes()
    if how == "truncated":
        tensors.write_bytes(raw[: len(raw) // 2])
    elif how == "one bit":
        tensors.write_bytes(raw[:-5] + bytes([raw[-5] ^ 1]) + raw[-4:])
    elif how == "no tensors":
        tensors.unlink()
    elif how == "no state":
        state.unlink()
    elif how == "half a state":
        state.write_text(state.read_text()[:50])
    else:  # a state that this code does not know
        stored = json.loads(state.read_text())
        stored["progress"]["unheard_of"] = 1
        state.write_text(json.dumps(stored))


DAMAGES = ["truncated", "one bit", "no tensors", "no state", "half a state", "unknown state"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    bert: LoadedModel, task: EncodedTask, tmp_path: Path, how: str
) -> None:
    expected = outcome(finish(start(bert, task)))
    _, newer = two_checkpoints(bert, task, tmp_path / "cell")
    damage(newer, how)
    run = start(bert, task)
    assert load_checkpoint(run, tmp_path / "cell") and run.progress.step == 1
    assert outcome(finish(run)) == expected


@pytest.mark.parametrize("how", DAMAGES)
def test_without_a_whole_checkpoint_the_run_is_untouched(
    bert: LoadedModel, task: EncodedTask, tmp_path: Path, how: str
) -> None:
    for checkpoint in two_checkpoints(bert, task, tmp_path / "cell"):
        damage(checkpoint, how)
    run = start(bert, task)
    before = weights(run)
    assert not load_checkpoint(run, tmp_path / "cell")
    assert same(before, weights(run)) and run.progress.step == 0 and not run.optimizer.state
    assert not load_checkpoint(run, tmp_path / "nowhere")


def test_a_new_checkpoint_outlives_a_damaged_one_of_a_later_step(
    bert: LoadedModel, task: EncodedTask, tmp_path: Path
) -> None:
    run = start(bert, task)
    train_steps(run, 5)
    damage(save_checkpoint(run, tmp_path), "truncated")
    again = start(bert, task)
    assert not load_checkpoint(again, tmp_path)
    train_steps(again, 2)
    save_checkpoint(again, tmp_path)
    third = start(bert, task)
    assert load_checkpoint(third, tmp_path) and third.progress.step == 2


def test_a_checkpoint_of_another_model_is_left_aside(bert: LoadedModel, task: EncodedTask, tmp_path: Path) -> None:
    roberta = load_model(tiny_model("roberta"), WORD, Family.ENCODER)
    other = start(roberta, make_task(tmp_path / "t", roberta.tokenizer, sizes=(8, 4, 4)))
    train_steps(other, 1)
    save_checkpoint(other, tmp_path / "cell")
    run = start(bert, task)
    before = weights(run)
    assert not load_checkpoint(run, tmp_path / "cell")
    assert same(before, weights(run))


def test_a_write_that_fails_is_told_and_leaves_the_older_checkpoint(
    bert: LoadedModel, task: EncodedTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(bert, task)
    train_steps(run, 1)
    save_checkpoint(run, tmp_path)
    train_steps(run, 2)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpointing, "save_file", full)
    with pytest.raises(StorageError, match=r"cannot write the checkpoint .*No space left"):
        save_checkpoint(run, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001-00000"]
    again = start(bert, task)
    assert load_checkpoint(again, tmp_path) and again.progress.step == 1


def test_an_unwritable_folder_is_told(bert: LoadedModel, task: EncodedTask, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write the checkpoint"):
        save_checkpoint(start(bert, task), tmp_path / "file" / "cell")
