"""Vectors of frozen models of images: what the head reads, and the mean over places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ray_app.probing.backbone import load_backbone
from ray_app.probing.forward import SOURCE, walk_split
from ray_app.training.pixels import load_processor
from ray_app.training.settings import Precision
from ray_app.training.tokens import EncodedTask, Family, TaskFacts, encode_task
from tests.model_factory import IMAGE_KINDS, copy_model, tiny_model
from tests.unit.ray_app.training.test_pixels import encoded, noise, table

FACTS = TaskFacts(name="shapes", label_names=("a", "b", "c"), label_words=("a", "b", "c"), regression=False)


def make_task(folder: Path, kind: str) -> EncodedTask:
    rows = table([encoded(noise(40, 32, seed)) for seed in range(6)], [seed % 3 for seed in range(6)])
    tables = dict.fromkeys(("train", "validation", "test"), rows)
    processor = load_processor(tiny_model(kind))
    return encode_task(
        folder / kind, processor, tables, FACTS, text_columns=["image"], family=Family.IMAGE, max_length=0
    )


@pytest.mark.parametrize("kind", IMAGE_KINDS)
def test_vectors_are_those_of_the_model_called_by_hand(kind: str, tmp_path: Path) -> None:
    task = make_task(tmp_path, kind)
    backbone = load_backbone(tiny_model(kind), Family.IMAGE)
    made: dict[str, np.ndarray] = {}
    for rows, vectors in walk_split(backbone, task["train"], pad_id=0, max_tokens=16, precision=Precision.FP32):
        for name, values in vectors.items():
            made.setdefault(name, np.zeros((6, values.shape[1]), np.float32))[rows] = values
    assert set(made) == {"mean", "head", SOURCE}
    split = task["train"]
    inputs = split.scaling.apply(torch.from_numpy(split.pixels(np.arange(6))))
    model = backbone.model
    with torch.inference_mode():
        last = getattr(model, model.base_model_prefix)(pixel_values=inputs).last_hidden_state
        logits = model(pixel_values=inputs).logits
        again = model.get_submodule(backbone.head[0])(torch.from_numpy(made["head"]))
    mean = last.flatten(2).mean(-1) if last.ndim == 4 else last.mean(1)
    np.testing.assert_allclose(made["mean"], mean.numpy(), atol=1e-5)
    np.testing.assert_allclose(made[SOURCE], logits.numpy(), atol=1e-5)
    np.testing.assert_allclose(again.numpy(), logits.numpy(), atol=1e-5)


def test_a_model_without_a_trained_head_has_no_source_answers(tmp_path: Path) -> None:
    from transformers import ViTModel

    folder = copy_model("vit", tmp_path / "bare")
    ViTModel.from_pretrained(folder, add_pooling_layer=False).save_pretrained(folder)
    backbone = load_backbone(folder, Family.IMAGE)
    assert backbone.no_source_head == "the checkpoint has no classification head (it is a ViTModel)"
    task = make_task(tmp_path, "vit")
    ((_, vectors),) = list(walk_split(backbone, task["test"], pad_id=0, max_tokens=4096, precision=Precision.FP32))
    assert set(vectors) == {"mean", "head"}
