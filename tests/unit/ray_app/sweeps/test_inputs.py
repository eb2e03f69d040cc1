"""Text for models of images, and the other way round, is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_app.hub.checkpoints import ModelRef
from ray_app.hub.tasks import SplitCaps, SplitRule, TaskConfig
from ray_app.sweeps.materials import TaskShelf, TaskVariant, check_inputs
from ray_app.sweeps.settings import ArchConfig
from ray_app.training.tokens import Family
from tests.model_factory import copy_model
from tracking.errors import ConfigError

TEXT = TaskConfig(name="cola", text_columns=["sentence"], label_names=["a", "b"])
IMAGE = TaskConfig(name="beans", image_columns=["image"], label_names=["a", "b"])


def arch(family: Family, *model_types: str) -> ArchConfig:
    return ArchConfig(name="mine", family=family, pretrained=ModelRef(id="m"), model_types=list(model_types))


def test_tasks_fit_the_architecture() -> None:
    check_inputs([TEXT], arch(Family.ENCODER, "bert"))
    check_inputs([IMAGE], arch(Family.IMAGE, "vit"))
    with pytest.raises(
        ConfigError, match="beans: a task of images, and ARCH=mine reads text; choose an architecture of family image"
    ):
        check_inputs([TEXT, IMAGE], arch(Family.TEXT_TO_TEXT, "t5"))
    with pytest.raises(
        ConfigError, match="cola: a task of text, and ARCH=mine reads images; choose an architecture of text"
    ):
        check_inputs([TEXT, IMAGE], arch(Family.IMAGE, "vit"))


def test_an_architecture_reads_one_or_the_other() -> None:
    assert arch(Family.IMAGE, "vit", "swin").faults() == []
    assert arch(Family.IMAGE, "vit", "bert").faults() == [
        "model_types: bert; family image is of models that read images"
    ]
    assert arch(Family.ENCODER, "vit").faults() == ["model_types: vit; family encoder is of models that read text"]


def test_encoded_images_are_told_apart_by_their_processor_and_not_by_a_length(tmp_path: Path) -> None:
    shelf = TaskShelf({"beans": IMAGE}, mirror=None, cache=tmp_path, offline=True)
    variant = TaskVariant.of("beans", SplitRule.SITE, SplitCaps())
    vit, twin, other = (copy_model("vit", tmp_path / name) for name in ("a", "b", "c"))
    (other / "preprocessor_config.json").write_text(
        (other / "preprocessor_config.json").read_text().replace("0.5", "0.4")
    )
    (twin / "config.json").write_text((twin / "config.json").read_text() + "\n")

    def folder(checkpoint: Path, length: int = 64) -> Path:
        return shelf.encoded_folder(variant, checkpoint, family=Family.IMAGE, max_length=length, fingerprint={"r": 1})

    assert folder(vit) == folder(twin) == folder(vit, 128) and folder(vit).parent.name == "pixels"
    assert folder(other) != folder(vit)
