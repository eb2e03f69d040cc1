"""Checkpoints of images: what is taken, and what is refused before any training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ray_app.hub.checkpoints import Checkpoint, ModelRef, find_checkpoint
from tests.model_factory import IMAGE_KINDS, copy_model, tiny_model
from tracking.errors import CheckpointError


def find(folder: Path, cache: Path, *kinds: str) -> Checkpoint:
    return find_checkpoint(
        ModelRef(id="org/m", path=str(folder)), mirror=None, cache_dir=cache, expected_model_types=kinds
    )


def changed(folder: Path, name: str, **values: Any) -> Path:
    """The copy of a ViT with some entries of one of its JSON files changed; None removes one."""
    copy_model("vit", folder)
    path = folder / name
    stated = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: value for key, value in stated.items() if value is not None}))
    return folder


@pytest.mark.parametrize("kind", IMAGE_KINDS)
def test_a_model_of_images_is_taken(kind: str, tmp_path: Path) -> None:
    found = find(tiny_model(kind), tmp_path, kind)
    assert found.model_type == kind and found.n_parameters > 1000


def test_the_image_processor_is_part_of_the_revision(tmp_path: Path) -> None:
    plain = find(copy_model("vit", tmp_path / "a"), tmp_path)
    for number, values in enumerate(({"image_mean": [0.4, 0.5, 0.5]}, {"image_std": [0.4, 0.5, 0.5]}, {"resample": 3})):
        other = changed(tmp_path / f"b{number}", "preprocessor_config.json", **values)
        assert find(other, tmp_path).revision != plain.revision


def test_text_among_images_and_images_among_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="architecture is 'bert', expected vit, deit; leave this model out"):
        find(tiny_model("bert"), tmp_path, "vit", "deit")
    with pytest.raises(CheckpointError, match="architecture is 'vit', expected bert; leave this model out"):
        find(tiny_model("vit"), tmp_path, "bert")


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "another size than the model's": (
        "preprocessor_config.json",
        {"size": {"height": 48, "width": 48}},
        "makes images of 48x48 pixels and config.json says image_size 32, expected the same",
    ),
    "no fixed size": ("preprocessor_config.json", {"size": {"shortest_edge": 32}}, "expected one size for all"),
    "no channels": ("preprocessor_config.json", {"image_mean": [0.5]}, "expected one number for each of 3 channels"),
    "no such kind": (
        "preprocessor_config.json",
        {"image_processor_type": "NoSuchImageProcessor"},
        "cannot be loaded .*, expected a preprocessor_config.json that transformers reads",
    ),
    "VAN, which transformers lacks": (
        "config.json",
        {"model_type": "van"},
        "architecture 'van' is not one of those taken",
    ),
    "DiNAT, which needs natten": (
        "config.json",
        {"model_type": "dinat"},
        "architecture 'dinat' is not one of those taken",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    file, values, reason = REFUSED[name]
    with pytest.raises(CheckpointError, match=rf"^org/m: .*{reason}") as caught:
        find(changed(tmp_path / "m", file, **values), tmp_path / "cache")
    assert "\n" not in caught.value.message


def test_a_folder_without_an_image_processor_is_refused(tmp_path: Path) -> None:
    folder = copy_model("vit", tmp_path / "vit")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no preprocessor_config\.json, expected one for a model of images"):
        find(folder, tmp_path / "cache")
