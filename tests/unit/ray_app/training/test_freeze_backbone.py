"""The paper's linear probe: a finetune that trains the new head and leaves every other weight as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from ray_app.training.finetune import Finetuning
from ray_app.training.models import LoadedModel, load_model
from ray_app.training.settings import ExecutionConfig, FinetuneConfig, Precision
from ray_app.training.tokens import EncodedTask, Family, TaskFacts, encode_task
from tests.model_factory import SENTENCES, tiny_model

FACTS = TaskFacts(name="mood", label_names=("bad", "good"), label_words=("bad", "good"), regression=False)


def _task(folder: Path, loaded: LoadedModel) -> EncodedTask:
    rows = pa.table({"text": list(SENTENCES), "label": np.arange(len(SENTENCES)) % 2})
    tables = {split: rows for split in ("train", "validation", "test")}
    return encode_task(
        folder, loaded.tokenizer, tables, FACTS, text_columns=["text"], family=loaded.family, max_length=32
    )


def _config(*, freeze: bool) -> FinetuneConfig:
    return FinetuneConfig(
        learning_rate=0.05, batch_size=4, max_epochs=2, precision=Precision.FP32, freeze_backbone=freeze
    )


def _changed(loaded: LoadedModel, task: EncodedTask, *, freeze: bool) -> set[str]:
    run = Finetuning(loaded, task, _config(freeze=freeze), ExecutionConfig(), seed=0)
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    while not run.progress.finished:
        run.advance()
    return {name for name, tensor in loaded.model.state_dict().items() if not torch.equal(tensor, before[name])}


def test_only_the_new_head_moves_and_the_next_cell_trains_everything_again(tmp_path: Path) -> None:
    loaded = load_model(tiny_model("bert"), FACTS, Family.ENCODER)
    task = _task(tmp_path / "mood", loaded)
    frozen = _changed(loaded, task, freeze=True)
    assert {name.rpartition(".")[0] for name in frozen} <= set(loaded.fresh)
    assert {"classifier.weight", "classifier.bias"} <= frozen
    assert any("encoder.layer.0" in name for name in _changed(loaded, task, freeze=False))


def test_a_text_to_text_model_has_no_head_of_its_own_to_train(tmp_path: Path) -> None:
    loaded = load_model(tiny_model("t5"), FACTS, Family.TEXT_TO_TEXT)
    task = _task(tmp_path / "mood", loaded)
    with pytest.raises(ValueError, match="leaves nothing to train"):
        Finetuning(loaded, task, _config(freeze=True), ExecutionConfig(), seed=0)


def test_cells_from_before_the_switch_keep_their_keys() -> None:
    assert "freeze_backbone" not in FinetuneConfig().hyperparameters()
    assert FinetuneConfig(freeze_backbone=True).hyperparameters()["freeze_backbone"] is True
