"""What a checkpoint brings: its backbone, whole or refused, and its own head only where it was trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ray_app.probing.backbone import BackboneShelf, load_backbone
from ray_app.probing.forward import SOURCE, walk_split
from ray_app.training.models import IncompleteCheckpointError
from ray_app.training.settings import Precision
from ray_app.training.tokens import Family
from tests.model_factory import copy_model, tiny_model
from tests.unit.ray_app.probing.tiny_task import tiny_task


def _classifier(folder: Path, num_labels: int = 3, **config: object) -> Path:
    """A tiny BERT saved with a classification head, as a finetune leaves it."""
    from transformers import AutoModelForSequenceClassification

    copy_model("bert", folder)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=num_labels, **config)
    model.save_pretrained(folder)
    return folder


def _without(folder: Path, *parts: str) -> Path:
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: value for name, value in weights.items() if not any(part in name for part in parts)},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    return folder


def test_a_trained_head_is_asked_in_the_same_pass(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = _classifier(tmp_path / "model")
    backbone = load_backbone(folder, Family.ENCODER)
    assert backbone.no_source_head == ""
    task = tiny_task(tmp_path / "task", folder, Family.ENCODER)
    split = task["test"]
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for rows, vectors in walk_split(backbone, split, pad_id=task.pad_id, max_tokens=64, precision=Precision.FP32):
        assert vectors[SOURCE].shape == (len(rows), 3)
        for place, row in enumerate(rows):
            ids = torch.tensor([split.tokens[split.offsets[row] : split.offsets[row + 1]].tolist()])
            with torch.inference_mode():
                assert vectors[SOURCE][place] == pytest.approx(model(input_ids=ids).logits[0].numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("bert", "no classification head (it is a BertForMaskedLM)"), ("roberta", "RobertaForMaskedLM")],
)
def test_a_language_model_has_no_source_head(kind: str, reason: str) -> None:
    assert reason in load_backbone(tiny_model(kind), Family.ENCODER).no_source_head


def test_a_text_to_text_model_is_its_encoder() -> None:
    backbone = load_backbone(tiny_model("t5"), Family.TEXT_TO_TEXT)
    assert "text-to-text" in backbone.no_source_head
    assert not any("decoder" in name for name, _ in backbone.model.named_parameters())


def test_a_head_that_is_named_but_not_there_is_no_head(tmp_path: Path) -> None:
    folder = _without(_classifier(tmp_path / "model"), "classifier")
    assert "holds no weights of it (classifier.bias)" in load_backbone(folder, Family.ENCODER).no_source_head


def test_a_head_on_a_pooler_that_is_not_there_is_no_head(tmp_path: Path) -> None:
    folder = _without(_classifier(tmp_path / "model"), "pooler")
    assert "reads a part that it lacks" in load_backbone(folder, Family.ENCODER).no_source_head


def test_a_head_for_a_number_or_for_several_labels_is_no_head(tmp_path: Path) -> None:
    assert "one number" in load_backbone(_classifier(tmp_path / "number", 1), Family.ENCODER).no_source_head
    several = _classifier(tmp_path / "several", problem_type="multi_label_classification")
    assert "several labels" in load_backbone(several, Family.ENCODER).no_source_head


def test_a_head_of_another_width_than_the_configuration_says_is_no_head(tmp_path: Path) -> None:
    folder = _classifier(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["id2label"], config["label2id"] = {str(i): f"l{i}" for i in range(5)}, {f"l{i}": i for i in range(5)}
    (folder / "config.json").write_text(json.dumps(config))
    assert "holds no weights of it" in load_backbone(folder, Family.ENCODER).no_source_head


def test_a_backbone_with_gaps_is_refused(tmp_path: Path) -> None:
    folder = _without(copy_model("bert", tmp_path / "model"), "layer.1.attention")
    with pytest.raises(IncompleteCheckpointError, match="only in part"):
        load_backbone(folder, Family.ENCODER)


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    folder = copy_model("bert", tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "layer.0" in name and name.endswith("weight"))
    weights[name][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(IncompleteCheckpointError, match="non-finite"):
        load_backbone(folder, Family.ENCODER)


def test_loading_leaves_the_random_state_of_the_caller() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load_backbone(tiny_model("bert"), Family.ENCODER)
    assert torch.equal(torch.rand(1), expected)


def test_a_shelf_keeps_the_last_models(tmp_path: Path) -> None:
    shelf = BackboneShelf(capacity=1)
    first = shelf.get(tiny_model("bert"), Family.ENCODER)
    assert shelf.get(tiny_model("bert"), Family.ENCODER) is first
    copied = shutil.copytree(tiny_model("bert"), tmp_path / "copy")
    assert shelf.get(copied, Family.ENCODER) is not first
    assert shelf.get(tiny_model("bert"), Family.ENCODER) is not first
