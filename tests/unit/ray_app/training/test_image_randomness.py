"""Chance in models of images: stochastic depth and the windows of Swin are keyed by row, like all dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F

from ray_app.training.checkpointing import load_checkpoint, save_checkpoint
from ray_app.training.finetune import Finetuning, finetune
from ray_app.training.models import load_model
from ray_app.training.randomness import DropoutPool, RowKeyedDropout
from ray_app.training.settings import ExecutionConfig, FinetuneConfig, Precision
from ray_app.training.tokens import EncodedTask, Family, TaskFacts, encode_task
from tests.model_factory import tiny_model
from tests.unit.ray_app.training.test_pixels import encoded, noise, table

FACTS = TaskFacts(name="shapes", label_names=("a", "b"), label_words=("a", "b"), regression=False)
CONFIG = FinetuneConfig(
    learning_rate=1e-3, batch_size=8, max_epochs=2, precision=Precision.FP32, validate_every_examples=8
)


@pytest.fixture(scope="module")
def pool() -> DropoutPool:
    return DropoutPool(seed=3, device="cpu")


def keyed(pool: DropoutPool, rows: list[int], *, step: int = 0, windows: bool = True) -> RowKeyedDropout:
    return RowKeyedDropout(pool, step=step, rows=np.array(rows), stride=8, windows=windows)


def test_a_draw_of_one_number_a_row_is_the_row_s_own(pool: DropoutPool) -> None:
    with keyed(pool, [5, 9, 2]):
        whole = torch.rand((3, 1, 1))
    with keyed(pool, [9]):
        alone = torch.rand((1, 1, 1), dtype=torch.float32, device=torch.device("cpu"))
    assert whole.shape == (3, 1, 1) and whole.dtype == torch.float32
    assert torch.equal(whole[1:2], alone)
    with keyed(pool, [5, 9, 2], step=1):
        assert not torch.equal(whole, torch.rand((3, 1, 1)))


def test_draws_are_uniform_and_leave_the_global_state_alone(pool: DropoutPool) -> None:
    state = torch.random.get_rng_state()
    with keyed(pool, list(range(20_000))):
        drawn = torch.rand((20_000, 1))
    assert torch.equal(state, torch.random.get_rng_state())
    assert float(drawn.min()) >= 0 and float(drawn.max()) < 1
    assert float(drawn.mean()) == pytest.approx(0.5, abs=5 * (1 / 12 / 20_000) ** 0.5)  # five standard errors
    assert float(drawn.var()) == pytest.approx(1 / 12, rel=0.05)


def test_other_draws_pass_through(pool: DropoutPool) -> None:
    torch.manual_seed(0)
    expected = torch.rand(4, 2)
    torch.manual_seed(0)
    with keyed(pool, [0, 1, 2, 3]):
        assert torch.equal(torch.rand(4, 2), expected)


def test_windows_of_a_row_are_masked_by_the_row(pool: DropoutPool) -> None:
    """Four windows a row, (rows x 4, heads, 2, 2): the masks of row 9 are the same alone and among others."""
    ones = torch.ones(3 * 4, 2, 2, 2)
    with keyed(pool, [5, 9, 2]):
        whole = F.dropout(ones, 0.5, True)
    with keyed(pool, [9]):
        alone = F.dropout(ones[:4], 0.5, True)
    assert torch.equal(whole[4:8], alone)
    assert not torch.equal(whole[4:5], whole[5:6]), "windows of one row differ"
    with keyed(pool, [5, 9, 2], windows=False):
        assert F.dropout(ones, 0.5, True).shape == ones.shape


def dropping(model: Any) -> Any:
    """Dropout and stochastic depth everywhere."""
    for name, part in model.named_modules():
        if type(part).__name__.endswith("DropPath"):
            part.drop_prob = 0.4
        elif isinstance(part, torch.nn.Dropout):
            part.p = 0.2
        elif hasattr(part, "dropout_prob") and "attention" in name:
            part.dropout_prob = 0.2
    return model


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> EncodedTask:
    from ray_app.training.pixels import load_processor

    tables: dict[str, pa.Table] = {
        split: table([encoded(noise(32, 32, seed)) for seed in range(n)], [seed % 2 for seed in range(n)])
        for split, n in (("train", 20), ("validation", 8), ("test", 8))
    }
    folder = tmp_path_factory.mktemp("images") / "task"
    processor = load_processor(tiny_model("swin"))
    return encode_task(folder, processor, tables, FACTS, text_columns=["image"], family=Family.IMAGE, max_length=0)


def test_micro_batches_change_results_by_rounding_only(task: EncodedTask) -> None:
    loaded = load_model(tiny_model("swin"), FACTS, Family.IMAGE)
    dropping(loaded.model)
    losses = [
        finetune(loaded, task, CONFIG, ExecutionConfig(micro_batch_tokens=tokens), seed=0).test.loss
        for tokens in (4096, 16)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    other = finetune(loaded, task, CONFIG, ExecutionConfig(), seed=1).test.loss
    assert abs(other - losses[0]) > 1e-4, "another seed, another number"


def test_a_stored_finetune_goes_on_bit_for_bit(task: EncodedTask, tmp_path: Path) -> None:
    loaded = load_model(tiny_model("swin"), FACTS, Family.IMAGE)
    dropping(loaded.model)
    whole = finetune(loaded, task, CONFIG, ExecutionConfig(), seed=0)
    first = Finetuning(loaded, task, CONFIG, ExecutionConfig(), seed=0)
    first.advance()
    save_checkpoint(first, tmp_path)
    second = Finetuning(loaded, task, CONFIG, ExecutionConfig(), seed=0)
    assert load_checkpoint(second, tmp_path)
    while not second.progress.finished:
        second.advance()
    assert second.result().test.loss == whole.test.loss
