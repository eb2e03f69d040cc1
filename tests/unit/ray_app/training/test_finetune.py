"""The loop: when it validates, when it stops, which weights it tests, what it does when things go wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ray_app.training.finetune import Finetuning, finetune
from ray_app.training.models import LoadedModel, load_model
from ray_app.training.randomness import epoch_order
from ray_app.training.scoring import Evaluation
from ray_app.training.settings import ExecutionConfig, FinetuneConfig, Precision
from ray_app.training.tokens import EncodedTask, Family, TaskFacts
from tests.model_factory import tiny_model
from tests.task_factory import WORD, make_task
from tracking.errors import ConfigError, InputError, TaskDataError


@pytest.fixture(scope="module")
def bert() -> LoadedModel:
    return load_model(tiny_model("bert"), WORD, Family.ENCODER)


@pytest.fixture(scope="module")
def task(bert: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> EncodedTask:
    return make_task(tmp_path_factory.mktemp("tasks") / "sign", bert.tokenizer, sizes=(20, 8, 8))


def settings(**given: Any) -> FinetuneConfig:
    plain = {"learning_rate": 1e-3, "batch_size": 8, "max_epochs": 2, "validate_every_examples": 16}
    return FinetuneConfig(**{**plain, "precision": Precision.FP32, **given})


def start(bert: LoadedModel, task: EncodedTask, *, seed: int = 0, **given: Any) -> Finetuning:
    execution = ExecutionConfig(
        micro_batch_tokens=given.pop("micro_batch_tokens", 4096), eval_batch_tokens=given.pop("eval_batch_tokens", 8192)
    )
    return Finetuning(bert, task, settings(**given), execution, seed=seed)


def weights(run: Finetuning) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.model.state_dict().items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def run_to_end(run: Finetuning) -> Iterator[dict[str, torch.Tensor]]:
    """Weights at each validation."""
    while not run.progress.finished:
        run.advance()
        yield weights(run)


def scripted(run: Finetuning, monkeypatch: pytest.MonkeyPatch, scores: list[float], *, loss: float = 1.0) -> list[str]:
    """Make a run see given validation scores, the last one for ever; returns the splits asked for."""
    asked: list[str] = []

    def evaluate(split: str) -> Evaluation:
        place = min(sum(name == "validation" for name in asked), len(scores) - 1)
        asked.append(split)
        score = scores[place] if split == "validation" else 0.125
        return Evaluation(
            score=score, loss=loss, n_eval=8, n_correct=1, n_invalid=0, class_counts={}, predictions=np.zeros(8)
        )

    monkeypatch.setattr(run, "evaluate", evaluate)
    return asked


# --- when it validates -------------------------------------------------------------------------------------------------


def test_validations_fall_on_the_first_step_at_or_after_their_turn(bert: LoadedModel, task: EncodedTask) -> None:
    # 20 rows in batches of 8, 8, 4: 8 16 20 28 36 40; every 16 examples: 16, then 36 (20 later), then the end
    run = start(bert, task, max_epochs=2)
    list(run_to_end(run))
    assert [point.examples_seen for point in run.progress.curve] == [16, 36, 40]
    assert (run.progress.step, run.total_steps, run.steps_per_epoch) == (6, 6, 3)


@pytest.mark.parametrize(
    ("epochs", "every", "expected"),
    [
        (2, 8, [8, 16, 28, 36, 40]),  # 20 is only 4 after 16
        (1, 20, [20]),  # due exactly at the end: once, not twice
        (1, 1000, [20]),
        (0.5, 1000, [16]),  # one and a half steps: two
        (1 / 3, 8, [8]),
    ],
)
def test_validations_by_hand(
    bert: LoadedModel, task: EncodedTask, epochs: float, every: int, expected: list[int]
) -> None:
    run = start(bert, task, max_epochs=epochs, validate_every_examples=every)
    list(run_to_end(run))
    assert [point.examples_seen for point in run.progress.curve] == expected


def test_every_row_is_seen_once_an_epoch_in_the_drawn_order(
    bert: LoadedModel, task: EncodedTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(bert, task, seed=3)
    seen: list[np.ndarray] = []
    accumulate = run._accumulate

    def noting(split: Any, rows: np.ndarray) -> float:
        seen.append(rows)
        return accumulate(split, rows)

    monkeypatch.setattr(run, "_accumulate", noting)
    list(run_to_end(run))
    assert [len(rows) for rows in seen] == [8, 8, 4, 8, 8, 4]
    for epoch in (0, 1):
        drawn = np.concatenate(seen[3 * epoch : 3 * epoch + 3])
        np.testing.assert_array_equal(drawn, epoch_order(20, seed=3, epoch=epoch))


def test_a_data_set_smaller_than_a_batch_is_one_step_an_epoch(bert: LoadedModel, task: EncodedTask) -> None:
    run = start(bert, task, batch_size=256, max_epochs=3)
    list(run_to_end(run))
    assert [point.examples_seen for point in run.progress.curve] == [20, 40, 60]


def test_pausing_does_not_change_where_validations_fall(bert: LoadedModel, task: EncodedTask) -> None:
    run = start(bert, task)
    points = []
    while not run.progress.finished:
        points.append(run.advance(due=lambda: True))
    found = [point.examples_seen for point in points if point is not None]
    assert found == [16, 36, 40] and points.count(None) == 6


def test_a_finished_run_stays_as_it_is(bert: LoadedModel, task: EncodedTask) -> None:
    run = start(bert, task)
    last = list(run_to_end(run))[-1]
    curve = list(run.progress.curve)
    assert run.advance() == curve[-1]
    assert run.progress.curve == curve and same(last, weights(run))


# --- when it stops, and what it tests ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "stops_at"),
    [
        ([0.5, 0.5, 0.5], 3),  # 16 examples of patience after the first validation are two validations of 8
        ([0.5, 0.6, 0.6, 0.6], 4),
        ([0.5, 0.505, 0.505], 3),  # a rise of less than epsilon is no progress
        ([0.5, 0.505, 0.511, 0.511, 0.511], 5),  # but small rises add up to some
        ([0.5, 0.51, 0.51], 3),  # exactly epsilon is none either
        ([0.1, 0.2, 0.3, 0.4, 0.5], 5),  # progress all the way: the end of training
    ],
)
def test_patience_by_hand(
    bert: LoadedModel, task: EncodedTask, monkeypatch: pytest.MonkeyPatch, scores: list[float], stops_at: int
) -> None:
    # validations at 8 16 28 36 40; patience 20 examples: the second validation without progress is at or beyond it
    run = start(bert, task, validate_every_examples=8, patience_examples=16, early_stop_epsilon=0.01)
    scripted(run, monkeypatch, scores)
    list(run_to_end(run))
    assert len(run.progress.curve) == stops_at


@pytest.mark.parametrize(
    ("scores", "best"),
    [([0.5, 0.9, 0.7, 0.8, 0.6], 1), ([0.9, 0.9, 0.9, 0.9, 0.9], 0), ([0.1, 0.2, 0.3, 0.4, 0.5], 4)],
)
def test_the_first_of_the_best_validated_weights_are_tested(
    bert: LoadedModel, task: EncodedTask, monkeypatch: pytest.MonkeyPatch, scores: list[float], best: int
) -> None:
    run = start(bert, task, validate_every_examples=8, early_stop_epsilon=0.0)
    asked = scripted(run, monkeypatch, scores)
    at_validations = list(run_to_end(run))
    result = run.result()
    assert len(at_validations) == 5 and asked == ["validation"] * 5 + ["test"]
    assert same(weights(run), at_validations[best])
    assert not any(same(at_validations[best], other) for place, other in enumerate(at_validations) if place != best)
    assert result.best_validation_score == scores[best]
    assert result.test.score == 0.125 and result.examples_seen == 40 and not result.diverged


def test_kept_weights_are_a_copy_of_their_own(
    bert: LoadedModel, task: EncodedTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(bert, task, validate_every_examples=8)
    scripted(run, monkeypatch, [0.1, 0.2, 0.1])
    run.advance()
    first = {name: tensor.data_ptr() for name, tensor in run.best_weights.items()}
    run.advance()
    assert {name: tensor.data_ptr() for name, tensor in run.best_weights.items()} == first  # overwritten in place
    present = {tensor.data_ptr() for tensor in run.model.state_dict().values()}
    assert not present & set(first.values())


def test_a_caller_can_end_training_at_a_validation(bert: LoadedModel, task: EncodedTask) -> None:
    seen = []

    def report(point: Any) -> bool:
        seen.append(point.examples_seen)
        return len(seen) < 2

    result = finetune(bert, task, settings(), ExecutionConfig(), seed=0, report=report)
    assert seen == [16, 36] and result.examples_seen == 36 and result.test.n_eval == 8


# --- when loss is no number --------------------------------------------------------------------------------------------


def spoil_loss(run: Finetuning, monkeypatch: pytest.MonkeyPatch, *, at_step: int, factor: float) -> None:
    loss = run.learner.loss
    monkeypatch.setattr(
        run.learner, "loss", lambda batch: loss(batch) * (factor if run.progress.step == at_step else 1.0)
    )


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_training_and_is_scored(
    bert: LoadedModel, task: EncodedTask, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    run = start(bert, task)
    spoil_loss(run, monkeypatch, at_step=3, factor=factor)
    before = list(run_to_end(run))[-1]
    result = run.result()
    assert result.diverged and run.progress.step == 3
    assert [point.examples_seen for point in result.curve] == [16, 20]
    assert 0.0 <= result.test.score <= 1.0
    assert same(before, weights(run))  # scored as they are, not as they validated best
    assert all(torch.isfinite(tensor).all() for tensor in before.values())
    assert result.best_validation_score == result.curve[-1].score


def test_a_huge_learning_rate_diverges_and_is_scored(bert: LoadedModel, task: EncodedTask) -> None:
    result = finetune(bert, task, settings(learning_rate=1e30, max_epochs=4), ExecutionConfig(), seed=0)
    assert result.diverged
    assert 0.0 <= result.test.score <= 1.0 and result.test.n_eval == 8


def test_a_last_step_that_breaks_the_weights_is_a_divergence_too(bert: LoadedModel, task: EncodedTask) -> None:
    run = start(bert, task, learning_rate=1e38, batch_size=20, max_epochs=1)
    run.advance()
    assert run.progress.step == 1 and not math.isfinite(run.progress.curve[-1].loss)
    assert run.result().diverged


def test_the_next_cell_on_the_same_model_is_untouched_by_a_divergence(bert: LoadedModel, task: EncodedTask) -> None:
    first = finetune(bert, task, settings(), ExecutionConfig(), seed=0)
    finetune(bert, task, settings(learning_rate=1e30), ExecutionConfig(), seed=0)
    assert finetune(bert, task, settings(), ExecutionConfig(), seed=0).curve == first.curve


# --- when memory runs out ----------------------------------------------------------------------------------------------


def small_memory(
    run: Finetuning, monkeypatch: pytest.MonkeyPatch, *, tokens: int, error: Callable[[], Exception]
) -> None:
    """Let every pass over more padded tokens than this fail, halfway through."""
    loss, answer = run.learner.loss, run.learner.answer

    def limited(ask: Any) -> Any:
        def asking(batch: Any) -> Any:
            answered = ask(batch)
            if batch.inputs["input_ids"].numel() > tokens:
                raise error()
            return answered

        return asking

    monkeypatch.setattr(run.learner, "loss", limited(loss))
    monkeypatch.setattr(run.learner, "answer", limited(answer))


def out_of_cuda() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def out_of_host() -> Exception:
    return RuntimeError(
        "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    )


@pytest.mark.parametrize("error", [out_of_cuda, out_of_host])
def test_out_of_memory_halves_micro_batches_and_changes_nothing_else(
    bert: LoadedModel, task: EncodedTask, monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception]
) -> None:
    small = start(bert, task, micro_batch_tokens=64, eval_batch_tokens=32)
    expected = list(run_to_end(small))[-1]
    run = start(bert, task, micro_batch_tokens=128, eval_batch_tokens=32)
    small_memory(run, monkeypatch, tokens=64, error=error)
    found = list(run_to_end(run))[-1]
    assert run.progress.micro_batch_tokens == 64
    assert same(found, expected)  # cut alike from the first step, so equal to the last bit
    assert run.progress.curve == small.progress.curve


def test_out_of_memory_in_an_evaluation_asks_for_halves(
    bert: LoadedModel, task: EncodedTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(bert, task, eval_batch_tokens=256)
    expected = run.evaluate("validation")
    small_memory(run, monkeypatch, tokens=128, error=out_of_cuda)
    found = run.evaluate("validation")
    np.testing.assert_array_equal(found.predictions, expected.predictions)
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)
    assert run.eval_tokens == 128


def test_out_of_memory_with_the_smallest_micro_batches_is_raised(
    bert: LoadedModel, task: EncodedTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(bert, task, micro_batch_tokens=512)
    small_memory(run, monkeypatch, tokens=0, error=out_of_cuda)
    with pytest.raises(torch.OutOfMemoryError):
        run.advance()
    assert all(parameter.grad is None for parameter in run.model.parameters())


def test_out_of_memory_on_a_single_row_of_an_evaluation_is_raised(
    bert: LoadedModel, task: EncodedTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(bert, task)
    small_memory(run, monkeypatch, tokens=0, error=out_of_cuda)
    with pytest.raises(torch.OutOfMemoryError):
        run.evaluate("test")


def test_other_errors_are_passed_on(bert: LoadedModel, task: EncodedTask, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start(bert, task)
    small_memory(run, monkeypatch, tokens=0, error=lambda: RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        run.advance()
    with pytest.raises(RuntimeError, match="mat1"):
        run.evaluate("test")


# --- what is refused ---------------------------------------------------------------------------------------------------


def test_an_unsettled_precision_is_refused(bert: LoadedModel, task: EncodedTask) -> None:
    with pytest.raises(ConfigError, match="expected fp32 or bf16"):
        start(bert, task, precision=Precision.AUTO)


@pytest.mark.parametrize("empty", ["train", "validation", "test"])
def test_an_empty_split_is_refused(bert: LoadedModel, tmp_path: Path, empty: str) -> None:
    sizes = tuple(0 if name == empty else 4 for name in ("train", "validation", "test"))
    bare = make_task(tmp_path / "t", bert.tokenizer, sizes=sizes)
    with pytest.raises(TaskDataError, match=f"has no {empty} rows"):
        start(bert, bare)


def test_rows_longer_than_the_model_has_positions_for_are_refused(bert: LoadedModel, tmp_path: Path) -> None:
    long = make_task(tmp_path / "t", bert.tokenizer, words=(70, 80), max_length=72)
    with pytest.raises(InputError, match=r"positions for 64; set method\.max_length=64 or less"):
        start(bert, long)


def test_labels_beyond_the_classes_are_refused(bert: LoadedModel, tmp_path: Path) -> None:
    one = TaskFacts(name="sign", label_names=("absent",), label_words=("absent",), regression=False)
    odd = make_task(tmp_path / "t", bert.tokenizer, facts=one)
    with pytest.raises(TaskDataError, match="labels from 0 to 1, expected 0 to 0"):
        start(load_model(tiny_model("bert"), one, Family.ENCODER), odd)
