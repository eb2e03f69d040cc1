"""The promises of the training core on a real GPU: same cell, same number, whatever came before and wherever it was cut."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ray_app.training.checkpointing import load_checkpoint, save_checkpoint
from ray_app.training.finetune import Finetuning, finetune
from ray_app.training.models import LoadedModel, load_model
from ray_app.training.progress import CellResult
from ray_app.training.settings import ExecutionConfig, FinetuneConfig, Precision
from ray_app.training.tokens import EncodedTask, Family
from tests.model_factory import tiny_model
from tests.task_factory import WORD, make_task

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

KINDS = ("bert", "roberta", "t5")
PRECISIONS = (Precision.FP32, Precision.BF16)


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    """As a worker is set up."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def settings(precision: Precision) -> FinetuneConfig:
    return FinetuneConfig(
        learning_rate=3e-3, batch_size=16, max_epochs=3, validate_every_examples=64, precision=precision
    )


def prepare(kind: str, folder: Path) -> tuple[LoadedModel, EncodedTask]:
    family = Family.TEXT_TO_TEXT if kind == "t5" else Family.ENCODER
    loaded = load_model(tiny_model(kind), WORD, family)
    return loaded, make_task(folder / kind, loaded.tokenizer, family=family)


def number(result: CellResult) -> tuple[Any, ...]:
    return (result.test.score, result.test.loss, result.test.predictions.tolist(), result.curve, result.diverged)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_number_whatever_happened_before(kind: str, precision: Precision, tmp_path: Path) -> None:
    loaded, task = prepare(kind, tmp_path)
    first, other, again = (
        finetune(loaded, task, settings(precision), ExecutionConfig(), seed=seed, device="cuda") for seed in (3, 4, 3)
    )
    assert number(first) == number(again) and number(first) != number(other)
    fresh = load_model(tiny_model(kind), WORD, loaded.family)
    assert number(finetune(fresh, task, settings(precision), ExecutionConfig(), seed=3, device="cuda")) == number(first)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_stored_and_resumed_it_ends_as_undisturbed(kind: str, precision: Precision, tmp_path: Path) -> None:
    loaded, task = prepare(kind, tmp_path)
    undisturbed = number(finetune(loaded, task, settings(precision), ExecutionConfig(), seed=1, device="cuda"))
    run = Finetuning(loaded, task, settings(precision), ExecutionConfig(), seed=1, device="cuda")
    for _ in range(2):
        run.advance()
    save_checkpoint(run, tmp_path / "checkpoints")
    other = load_model(tiny_model(kind), WORD, loaded.family)
    resumed = Finetuning(other, task, settings(precision), ExecutionConfig(), seed=1, device="cuda")
    assert load_checkpoint(resumed, tmp_path / "checkpoints")
    while not resumed.progress.finished:
        resumed.advance()
    assert number(resumed.result()) == undisturbed


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_change_nothing_but_rounding(kind: str, tmp_path: Path) -> None:
    loaded, task = prepare(kind, tmp_path)
    results = [
        finetune(
            loaded, task, settings(Precision.FP32), ExecutionConfig(micro_batch_tokens=tokens), seed=0, device="cuda"
        )
        for tokens in (64, 4096)
    ]
    assert [point.examples_seen for point in results[0].curve] == [point.examples_seen for point in results[1].curve]
    assert results[0].curve[0].loss == pytest.approx(results[1].curve[0].loss, rel=1e-3)
    assert results[0].test.score == pytest.approx(results[1].test.score, abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_loss_is_the_cpu_s_up_to_rounding(kind: str, tmp_path: Path) -> None:
    """Same new head, same rows, same dropout masks on both devices."""
    loaded, task = prepare(kind, tmp_path)
    losses = []
    for device in ("cpu", "cuda"):
        run = Finetuning(loaded, task, settings(Precision.FP32), ExecutionConfig(), seed=0, device=device)
        run.model.train()
        losses.append(run._accumulate(task["train"], np.arange(16)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
