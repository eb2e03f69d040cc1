"""Checkpoints made to run code or to read other files: refused before loading, and harmless where loading is asked for directly."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ray_app.hub.checkpoints import ModelRef, find_checkpoint
from ray_app.training.models import load_model
from ray_app.training.tokens import Family, TaskFacts
from tests.model_factory import copy_model
from tracking.errors import CheckpointError

FACTS = TaskFacts(name="t", label_names=("a", "b"), label_words=("a", "b"), regression=False)


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound BERT with pickled weights and Python files beside it that leave a trace when they are run."""
    folder = copy_model("bert", tmp_path / "bert")
    for name in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin", "optimizer.pt", "model.pkl"):
        torch.save(Bomb(tmp_path / "ran"), folder / name)
        (folder / f"raw-{name}").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    for name in ("modeling_evil.py", "configuration_evil.py", "tokenization_evil.py", "__init__.py"):
        (folder / name).write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n")
    return folder


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refusal(folder: Path, tmp_path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint(
            ModelRef(id="org/evil", path=str(folder)),
            mirror=None,
            cache_dir=tmp_path / "cache",
            expected_model_types=["bert"],
            offline=True,
        )
    assert "\n" not in caught.value.message
    return caught.value.message


def test_the_bombs_are_live(tmp_path: Path) -> None:
    """The other tests would see it if one of them went off."""
    torch.save(Bomb(tmp_path / "ran"), tmp_path / "weights.bin")
    torch.load(tmp_path / "weights.bin", weights_only=False)
    assert (tmp_path / "ran").is_dir()


def test_pickles_and_code_beside_sound_weights_are_not_touched(folder: Path, tmp_path: Path) -> None:
    edit(
        folder / "config.json",
        auto_map={"AutoConfig": "configuration_evil.C", "AutoModelForSequenceClassification": "modeling_evil.M"},
        tokenizer_class="EvilTokenizer",
    )
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_evil.T", "tokenization_evil.T"]})
    found = find_checkpoint(
        ModelRef(id="x", path=str(folder)), mirror=None, cache_dir=tmp_path / "c", expected_model_types=["bert"]
    )
    load_model(found.path, FACTS, Family.ENCODER)
    assert not (tmp_path / "ran").exists()


def test_pickled_weights_alone_are_refused_twice(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "only pickled weights" in refusal(folder, tmp_path)
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_model(folder, FACTS, Family.ENCODER)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("place", [(), ("text_config",)], ids=["top", "nested"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("transformers_weights", "adapter_model.bin"),
        ("transformers_weights", "other.safetensors"),
        ("configuration_files", ["config.1.0.0.json"]),
        ("attn_implementation", "evil/kernel"),
        ("_attn_implementation", {"": "evil/kernel@main:f"}),
        ("experts_implementation", "evil/kernel"),
        ("use_kernels", True),
    ],
)
def test_a_configuration_cannot_name_other_files_or_code(
    place: tuple[str, ...], key: str, value: object, folder: Path, tmp_path: Path
) -> None:
    changes: dict[str, object] = {key: value}
    for name in place:
        changes = {name: changes}
    edit(folder / "config.json", **changes)
    message = refusal(folder, tmp_path)
    assert key in message and "remove that entry" in message
    assert not (tmp_path / "ran").exists()


def test_an_adapter_is_no_whole_model(folder: Path, tmp_path: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "evil/model", "peft_type": "LORA"}')
    assert "holds an adapter" in refusal(folder, tmp_path)


def test_a_tokenizer_cannot_read_files_elsewhere(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('{"secret": 1}')
    edit(
        folder / "tokenizer_config.json",
        tokenizer_file=str(tmp_path / "secret.json"),
        vocab_file=str(tmp_path / "secret.json"),
        fast_tokenizer_files=["../secret.json"],
    )
    found = find_checkpoint(
        ModelRef(id="x", path=str(folder)), mirror=None, cache_dir=tmp_path / "c", expected_model_types=["bert"]
    )
    assert "secret" not in load_model(found.path, FACTS, Family.ENCODER).tokenizer.get_vocab()


@pytest.mark.parametrize(
    "shard", ["../evil.safetensors", "/etc/x.safetensors", "pytorch_model.bin", "a/b.safetensors", "a\0.safetensors"]
)
def test_an_index_cannot_lead_out_of_the_folder(shard: str, folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": shard}}))
    assert "do not use this checkpoint" in refusal(folder, tmp_path)


def test_a_checkpoint_of_our_own_is_no_pickle_either(tmp_path: Path) -> None:
    """A file put among a cell's own checkpoints is left aside, unread."""
    from ray_app.training.checkpointing import load_checkpoint

    step = tmp_path / "step-00000001-00001"
    step.mkdir()
    torch.save(Bomb(tmp_path / "ran"), step / "tensors.safetensors")
    (step / "state.json").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    assert load_checkpoint(None, tmp_path) is False  # type: ignore[arg-type]  # nothing of the run is read before the files are
    assert not (tmp_path / "ran").exists()
