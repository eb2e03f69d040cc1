"""The small ViT that is pretrained here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ray_app.embedded.vit import EmbeddedVitConfig, augment, make_vit
from ray_app.hub.checkpoints import ModelRef, find_checkpoint
from ray_app.hub.task_data import TaskData, read_task
from ray_app.hub.tasks import SplitCaps, SplitRule, TaskConfig
from tests.unit.ray_app.training.test_pixels import encoded, noise, table

SIZES = {"image_size": 16, "patch_size": 8, "layers": 1, "hidden": 8, "heads": 2, "epochs": 1, "batch_rows": 8}


@pytest.fixture
def data() -> TaskData:
    config = TaskConfig(name="shapes", image_columns=["image"], label_names=["a", "b"], license="none")
    rows = table([encoded(noise(16, 16, seed)) for seed in range(12)], [seed % 2 for seed in range(12)])
    tables = {"train": rows, "validation": rows.slice(0, 4), "test": rows.slice(4, 4)}
    return read_task(config, raw=tables, revision="r", split_rule=SplitRule.SITE, caps=SplitCaps())


def test_the_model_is_a_checkpoint_like_any_other_and_made_once(tmp_path: Path, data: TaskData) -> None:
    said: list[str] = []
    folder = make_vit(tmp_path / "models", EmbeddedVitConfig(**SIZES), data, said.append)
    ref = ModelRef(id="startline/embedded-vit", path=str(folder))
    found = find_checkpoint(ref, mirror=None, cache_dir=tmp_path, expected_model_types=["vit"])
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "config.json", "model.safetensors", "preprocessor_config.json",
    }  # fmt: skip
    assert f"{found.n_parameters:,} parameters" in (folder / "README.md").read_text()
    assert "validation accuracy" in said[-1]
    n_lines = len(said)
    assert make_vit(tmp_path / "models", EmbeddedVitConfig(**SIZES), data, said.append) == folder
    assert len(said) == n_lines
    assert make_vit(tmp_path / "models", EmbeddedVitConfig(**{**SIZES, "seed": 1}), data, said.append) != folder


def test_the_same_config_gives_the_same_weights(tmp_path: Path, data: TaskData) -> None:
    weights = [
        (make_vit(tmp_path / name, EmbeddedVitConfig(**SIZES), data, str) / "model.safetensors").read_bytes()
        for name in "ab"
    ]
    assert weights[0] == weights[1]


def test_images_are_shifted_by_four_pixels_at_most_and_mirrored() -> None:
    image = np.zeros((1, 16, 16, 3), np.uint8)
    image[0, 8, 6] = 255
    places = set()
    for seed in range(200):
        made = augment(image, np.random.default_rng(seed))
        assert made.shape == image.shape and int((made > 0).sum()) == 3
        places.add(tuple(np.argwhere(made[0, :, :, 0])[0].tolist()))
    rows, columns = {row for row, _ in places}, {column for _, column in places}
    assert rows == set(range(4, 13))
    assert columns == set(range(2, 11)) | {15 - column for column in range(2, 11)}


def test_every_fault_is_named() -> None:
    assert EmbeddedVitConfig().faults() == []
    assert EmbeddedVitConfig(image_size=30).faults() == ["image_size: 30, expected a multiple of patch_size = 4"]
    assert EmbeddedVitConfig(hidden=100).faults() == ["hidden: 100, expected a multiple of heads = 3"]
    wrong = EmbeddedVitConfig(epochs=0, learning_rate=0.0, warmup_share=2.0, seed=-1).faults()
    assert [fault.split(":")[0] for fault in wrong] == ["epochs", "learning_rate", "warmup_share", "seed"]
