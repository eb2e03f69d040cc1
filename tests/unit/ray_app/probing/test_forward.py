"""Poolings of batches against rows that go through the model alone, without padding, averaged in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ray_app.probing.backbone import load_backbone
from ray_app.probing.forward import SOURCE, walk_split
from ray_app.training.settings import Precision
from ray_app.training.tokens import EncodedTask, Family
from tests.model_factory import tiny_model
from tests.unit.ray_app.probing.tiny_task import tiny_task
from tracking.errors import InputError

FAMILY = {"bert": Family.ENCODER, "roberta": Family.ENCODER, "t5": Family.TEXT_TO_TEXT}


def _collect(
    kind: str, task: EncodedTask, *, max_tokens: int, precision: Precision = Precision.FP32
) -> dict[str, np.ndarray]:
    backbone = load_backbone(tiny_model(kind), FAMILY[kind])
    split = task["train"]
    found: dict[str, np.ndarray] = {}
    for rows, vectors in walk_split(backbone, split, pad_id=task.pad_id, max_tokens=max_tokens, precision=precision):
        for name, values in vectors.items():
            found.setdefault(name, np.full((len(split), values.shape[1]), np.nan, np.float32))[rows] = values
    return found


@pytest.mark.parametrize("kind", ["bert", "roberta", "t5"])
def test_every_pooling_is_that_of_the_row_alone(kind: str, tmp_path: Path) -> None:
    task = tiny_task(tmp_path / "task", tiny_model(kind), FAMILY[kind])
    found = _collect(kind, task, max_tokens=64)
    model = load_backbone(tiny_model(kind), FAMILY[kind]).model
    split = task["train"]
    for row in range(len(split)):
        ids = torch.tensor(split.tokens[split.offsets[row] : split.offsets[row + 1]].astype(np.int64))[None]
        with torch.inference_mode():
            hidden = model(input_ids=ids, output_hidden_states=True).hidden_states
        layers = [layer[0].numpy() for layer in hidden[1:]]
        assert len(layers) == 2
        expected = {
            "mean": layers[-1].mean(axis=0),
            "mean_layers": np.mean([layer.mean(axis=0) for layer in layers], axis=0),
        }
        if kind != "t5":
            expected |= {"first": layers[-1][0], "first_layers": np.mean([layer[0] for layer in layers], axis=0)}
        assert set(found) == set(expected)
        for name, vector in expected.items():
            assert found[name][row] == pytest.approx(vector, abs=2e-5)


def test_the_size_of_batches_changes_nothing(tmp_path: Path) -> None:
    task = tiny_task(tmp_path / "task", tiny_model("bert"), Family.ENCODER)
    small, large = (_collect("bert", task, max_tokens=tokens) for tokens in (16, 4096))
    for name in small:
        assert small[name] == pytest.approx(large[name], abs=1e-5)


NO_ROOM = [torch.OutOfMemoryError("no room"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]


@pytest.mark.parametrize("error", NO_ROOM, ids=lambda error: type(error).__name__)
def test_out_of_memory_halves_the_batch(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = tiny_task(tmp_path / "task", tiny_model("bert"), Family.ENCODER)
    whole = _collect("bert", task, max_tokens=4096)
    from ray_app.probing import forward

    seen = []
    pool = forward._pool

    def tight(backbone: object, inputs: dict[str, torch.Tensor], precision: Precision) -> dict[str, np.ndarray]:
        seen.append(len(inputs["input_ids"]))
        if seen[-1] > 3:
            raise error
        return pool(backbone, inputs, precision)

    monkeypatch.setattr(forward, "_pool", tight)
    halved = _collect("bert", task, max_tokens=4096)
    assert max(seen) > 3 and min(seen) <= 3
    for name in whole:
        assert halved[name] == pytest.approx(whole[name], abs=1e-5)


def test_any_other_error_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray_app.probing import forward

    def broken(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(forward, "_pool", broken)
    task = tiny_task(tmp_path / "task", tiny_model("bert"), Family.ENCODER)
    with pytest.raises(RuntimeError, match="mat1"):
        _collect("bert", task, max_tokens=4096)


def test_bf16_is_the_models_arithmetic_and_not_the_poolings(tmp_path: Path) -> None:
    task = tiny_task(tmp_path / "task", tiny_model("bert"), Family.ENCODER)
    exact = _collect("bert", task, max_tokens=64)["mean"]
    rough = _collect("bert", task, max_tokens=64, precision=Precision.BF16)["mean"]
    assert rough.dtype == np.float32
    assert not np.array_equal(rough, exact)
    assert rough == pytest.approx(exact, abs=0.1)
    # a mean of several bf16 vectors, taken in float32, has more digits than bf16 holds
    assert not np.array_equal(rough, torch.tensor(rough).bfloat16().float().numpy())


def test_a_model_without_a_head_gives_no_source_logits(tmp_path: Path) -> None:
    task = tiny_task(tmp_path / "task", tiny_model("bert"), Family.ENCODER)
    assert SOURCE not in _collect("bert", task, max_tokens=64)


def test_rows_longer_than_the_model_has_positions_for_are_named(tmp_path: Path) -> None:
    task = tiny_task(tmp_path / "task", tiny_model("bert"), Family.ENCODER)
    task["train"].lengths[0] = 65
    with pytest.raises(InputError, match=r"up to 72 tokens .* positions for 64"):
        _collect("bert", task, max_tokens=64)
