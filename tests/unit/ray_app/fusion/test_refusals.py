"""What cannot be fused, and what is left out: the outcome of every bad input, with the names of what is wrong."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ray_app.fusion.blueprint import read_blueprint
from ray_app.fusion.bodies import Body, agreed_counts
from ray_app.fusion.fuse import FusionConfig, Rule, fuse_checkpoints
from ray_app.fusion.stored import StoredModel
from tests.model_factory import copy_model, tiny_model
from tracking.errors import CheckpointError, ConfigError

QUERY = "bert.encoder.layer.0.attention.self.query.weight"
WORDS = "bert.embeddings.word_embeddings.weight"
Tensors = dict[str, np.ndarray]


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A copy of a tiny BERT, to be damaged."""
    return copy_model("bert", tmp_path / "bad", seed=2)


def _change(folder: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _set(folder: Path, **settings: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))


def _refusal(bad: Path, out: Path, config: FusionConfig | None = None, **more: object) -> str:
    """What fusing the bad model with a good one says; nothing is left behind."""
    sources = {"good": tiny_model("bert", seed=1), "odd": bad}
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        fuse_checkpoints(config or FusionConfig(), sources, out, **more)  # type: ignore[arg-type]
    assert not out.exists() and not list(out.parent.glob(".*.tmp"))
    return caught.value.message


def test_a_missing_tensor_is_named(bad: Path, tmp_path: Path) -> None:
    _change(bad, lambda tensors: tensors.pop(QUERY))
    assert "odd lacks encoder.layer.0.attention.self.query.weight" in _refusal(bad, tmp_path / "out")


def test_another_architecture_is_named(tmp_path: Path) -> None:
    said = _refusal(tiny_model("roberta"), tmp_path / "out")
    assert "odd is of another architecture: model_type is 'roberta', and 'bert' in good" in said


def test_settings_that_no_shape_shows_are_held_against_each_other(bad: Path, tmp_path: Path) -> None:
    _set(bad, num_attention_heads=4, hidden_act="relu")
    said = _refusal(bad, tmp_path / "out")
    assert "hidden_act is 'relu', and 'gelu' in good" in said and "num_attention_heads is 4" in said


def test_another_depth_is_named_whichever_comes_first(bad: Path, tmp_path: Path) -> None:
    _set(bad, num_hidden_layers=1)
    assert "odd is of another architecture: num_hidden_layers is 1, and 2 in good" in _refusal(bad, tmp_path / "out")
    with pytest.raises(CheckpointError, match="good is of another architecture: num_hidden_layers is 2, and 1 in odd"):
        fuse_checkpoints(FusionConfig(), {"odd": bad, "good": tiny_model("bert", seed=1)}, tmp_path / "out")


def test_another_vocabulary_size_is_named_with_its_tensor(bad: Path, tmp_path: Path) -> None:
    _change(bad, lambda tensors: tensors.update({WORDS: tensors[WORDS][:-3].copy()}))
    said = _refusal(bad, tmp_path / "out")
    assert "odd has another vocabulary" in said and WORDS in said


def test_equal_sizes_with_other_tokens_are_refused(bad: Path, tmp_path: Path) -> None:
    path = bad / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["two"], vocabulary["three"] = vocabulary["three"], vocabulary["two"]
    path.write_text(json.dumps(tokenizer))
    said = _refusal(bad, tmp_path / "out")
    assert "odd has another vocabulary than good: 2 tokens have other ids ('three', 'two')" in said


def test_a_tokenizer_written_another_way_is_the_same_vocabulary(bad: Path, tmp_path: Path) -> None:
    path = bad / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["truncation"] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    path.write_text(json.dumps(tokenizer, indent=3))
    assert fuse_checkpoints(FusionConfig(), {"good": tiny_model("bert", seed=1), "odd": bad}, tmp_path / "out").used


def test_whole_numbers_for_weights_are_refused_by_name(bad: Path, tmp_path: Path) -> None:
    _change(bad, lambda tensors: tensors.update({QUERY: tensors[QUERY].astype(np.int8)}))
    said = _refusal(bad, tmp_path / "out")
    assert f"odd stores {QUERY} (I8) as whole or packed numbers" in said


def test_unlike_values_for_a_tied_tensor_are_refused(tmp_path: Path) -> None:
    odd = copy_model("t5", tmp_path / "odd", seed=2)
    _change(odd, lambda tensors: tensors.update({"encoder.embed_tokens.weight": tensors["shared.weight"] + 1}))
    with pytest.raises(
        CheckpointError, match=r"odd holds unlike values for encoder.embed_tokens.weight, shared.weight"
    ):
        fuse_checkpoints(FusionConfig(), {"good": tiny_model("t5", seed=1), "odd": odd}, tmp_path / "out")


def test_all_faults_of_all_models_are_told_at_once(bad: Path, tmp_path: Path) -> None:
    _change(bad, lambda tensors: tensors.pop(QUERY))
    other = copy_model("bert", tmp_path / "other", seed=3)
    _change(other, lambda tensors: tensors.update({WORDS: tensors[WORDS][:-1].copy()}))
    with pytest.raises(CheckpointError) as caught:
        fuse_checkpoints(FusionConfig(), {"good": tiny_model("bert"), "odd": bad, "other": other}, tmp_path / "out")
    assert len(caught.value.faults) == 2  # type: ignore[attr-defined]


def test_buffers_of_whole_numbers_are_copied_or_refused() -> None:
    """No architecture taken here stores one; two made-up bodies do."""
    blueprint = dataclasses.replace(
        read_blueprint(tiny_model("bert")), counts=frozenset({"index"}), alias={"index": "index"}, shapes={}
    )

    class Stored:
        def __init__(self, data: bytes) -> None:
            self.data = data

        def raw(self, name: str) -> bytes:
            return self.data

    def body(name: str, data: bytes) -> Body:
        return Body(name=name, stored=Stored(data), names={"index": "index"}, dropped=frozenset())  # type: ignore[arg-type]

    assert agreed_counts([body("a", b"12"), body("b", b"12")], blueprint) == {"index": b"12"}
    with pytest.raises(CheckpointError, match="buffers index hold whole numbers that differ between a, b"):
        agreed_counts([body("a", b"12"), body("b", b"21")], blueprint)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("rule", [Rule.MEAN, Rule.WEIGHTED_MEAN, Rule.TASK_ARITHMETIC, Rule.TIES, Rule.DARE])
def test_a_value_that_is_no_number_leaves_its_model_out(rule: Rule, value: float, bad: Path, tmp_path: Path) -> None:
    _change(bad, lambda tensors: tensors[QUERY].__setitem__((3, 5), value))
    good = {"good": tiny_model("bert", seed=1), "other": tiny_model("bert", seed=3)}
    weights = {"good": 1.0, "other": 3.0, "odd": 2.0} if rule is Rule.WEIGHTED_MEAN else {}
    config = FusionConfig(rule=rule, density=0.3, weights=weights)
    fused = fuse_checkpoints(config, {**good, "odd": bad}, tmp_path / "out", pretrained=tiny_model("bert"))
    assert fused.used == ("good", "other")
    assert dict(fused.left_out) == {"odd": "values that are no numbers in encoder.layer.0.attention.self.query.weight"}
    weights.pop("odd", None)
    alone = dataclasses.replace(config, weights=weights)
    fuse_checkpoints(alone, good, tmp_path / "without", pretrained=tiny_model("bert"))
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        tmp_path / "without" / "model.safetensors"
    ).read_bytes()
    assert "odd: values that are no numbers" in (tmp_path / "out" / "README.md").read_text()


def test_a_head_that_is_no_number_harms_nobody(bad: Path, tmp_path: Path) -> None:
    _change(bad, lambda tensors: tensors["cls.predictions.bias"].fill(np.nan))
    fused = fuse_checkpoints(FusionConfig(), {"good": tiny_model("bert", seed=1), "odd": bad}, tmp_path / "out")
    assert fused.used == ("good", "odd") and not fused.left_out


def test_no_model_left_is_an_error_that_names_all(bad: Path, tmp_path: Path) -> None:
    _change(bad, lambda tensors: tensors[WORDS].fill(np.nan))
    with pytest.raises(CheckpointError, match=r"no model is left to fuse \(odd: .*word_embeddings"):
        fuse_checkpoints(FusionConfig(), {"odd": bad}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_pretrained_model_of_no_numbers_is_refused(bad: Path, tmp_path: Path) -> None:
    _change(bad, lambda tensors: tensors[QUERY].fill(np.nan))
    with pytest.raises(CheckpointError, match=r"the pretrained model in .* holds values that are no numbers"):
        fuse_checkpoints(
            FusionConfig(rule=Rule.TIES), {"a": tiny_model("bert", seed=1)}, tmp_path / "out", pretrained=bad
        )


def test_huge_weights_that_leave_float32_are_refused(tmp_path: Path) -> None:
    config = FusionConfig(rule=Rule.TASK_ARITHMETIC, scaling=1e300)
    sources = {"a": tiny_model("bert", seed=1)}
    with pytest.raises(CheckpointError, match="exceed float32"):
        fuse_checkpoints(config, sources, tmp_path / "out", pretrained=tiny_model("bert"))


def test_a_truncated_file_is_refused(bad: Path, tmp_path: Path) -> None:
    path = bad / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "cut short" in _refusal(bad, tmp_path / "out")


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (FusionConfig(rule=Rule.WEIGHTED_MEAN, weights={"good": 0.0, "odd": 0.0}), "sum to 0; a mean needs weights"),
        (FusionConfig(rule=Rule.WEIGHTED_MEAN, weights={"good": 1.0}), "weights: odd has none"),
        (FusionConfig(weights={"good": 1.0, "odd": 1.0, "else": 1.0}), "weights: else is none of the models"),
        (FusionConfig(rule=Rule.WEIGHTED_MEAN, weights={"good": 1.0, "odd": -1.0}), "odd has weight -1.0"),
        (FusionConfig(weights={"good": 1.0, "odd": 1.0}), "mean weighs all alike; take rule=weighted_mean"),
        (FusionConfig(rule=Rule.WEIGHTED_MEAN), "weighted_mean needs one for every source"),
        (FusionConfig(rule=Rule.TIES), "ties adds task vectors to a pretrained model, and none is given"),
        (FusionConfig(rule=Rule.FISHER), "fisher: none given"),
        (FusionConfig(rule=Rule.GREEDY_SOUP), "greedy_soup needs a held-out score"),
        (FusionConfig(density=0.0), "density: 0.0"),
        (FusionConfig(scaling=float("nan")), "scaling: nan"),
        (FusionConfig(threads=0), "threads: 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(config: FusionConfig, text: str, tmp_path: Path) -> None:
    assert text in _refusal(tiny_model("bert", seed=2), tmp_path / "out", config)


def test_nothing_to_fuse_and_a_result_that_is_a_source(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sources: none"):
        fuse_checkpoints(FusionConfig(), {}, tmp_path / "out")
    own = copy_model("bert", tmp_path / "own")
    with pytest.raises(ConfigError, match="is one of the models to fuse"):
        fuse_checkpoints(FusionConfig(), {"a": own, "b": tiny_model("bert", seed=1)}, own)


def test_a_file_that_becomes_shorter_while_it_is_read(bad: Path) -> None:
    with StoredModel(bad) as stored:
        path = bad / "model.safetensors"
        with path.open("r+b") as file:
            file.truncate(5000)
        name = max(stored.tensors, key=lambda tensor: stored.tensors[tensor].begin)
        with pytest.raises(CheckpointError, match="the file has become shorter"):
            stored.floats(name, 0, 4)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda fisher: fisher.pop(QUERY), "lacks encoder.layer.0.attention.self.query.weight"),
        (lambda fisher: fisher[QUERY].fill(-1), "negative or no numbers"),
        (lambda fisher: fisher[QUERY].fill(np.nan), "negative or no numbers"),
        (lambda fisher: [value.fill(0) for value in fisher.values()], "all its values are 0"),
        (lambda fisher: fisher.update({QUERY: fisher[QUERY][:1].copy()}), "other shapes"),
    ],
)
def test_a_fisher_that_does_not_fit_is_refused(change: Callable[[Tensors], object], text: str, tmp_path: Path) -> None:
    fisher = {name: np.abs(value) for name, value in load_file(tiny_model("bert") / "model.safetensors").items()}
    change(fisher)
    path = tmp_path / "fisher.safetensors"
    save_file(fisher, path)
    with pytest.raises(CheckpointError) as caught:
        fuse_checkpoints(
            FusionConfig(rule=Rule.FISHER, fisher={"a": path}), {"a": tiny_model("bert", seed=1)}, tmp_path / "out"
        )
    assert text in caught.value.message and "Fisher of a" in caught.value.message
