"""Base models made ready: what is kept of a checkpoint, what is new, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ray_app.training.models import (
    IncompleteCheckpointError,
    LoadedModel,
    ModelPool,
    distinct_tensors,
    load_model,
    longest_input,
)
from ray_app.training.tokens import Family, TaskFacts
from tests.model_factory import copy_model, tiny_model
from tracking.errors import CheckpointError


def facts(n_classes: int, *, name: str = "task") -> TaskFacts:
    names = tuple(f"class{index}" for index in range(n_classes))
    return TaskFacts(name=name, label_names=names, label_words=names, regression=n_classes == 0)


def load(path: Path, n_classes: int = 3, *, seed: int = 0) -> LoadedModel:
    loaded = load_model(path, facts(n_classes), Family.ENCODER)
    loaded.reset(seed)
    return loaded


def weights(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def finetuned(kind: str, folder: Path, n_classes: int) -> Path:
    """A checkpoint with a classification head, as a finetune saves it."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tiny_model(kind), num_labels=n_classes)
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(tiny_model(kind)).save_pretrained(folder)
    return folder


def edit_tensors(folder: Path, change: Any) -> Path:
    """Rewrite the weights of a checkpoint; ``change`` gets and returns them by name."""
    path = folder / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(path)).items()}, path, {"format": "pt"})
    return folder


HEADS = {
    "bert": ["classifier.weight", "classifier.bias"],
    "roberta": [f"classifier.{part}.{kind}" for part in ("dense", "out_proj") for kind in ("weight", "bias")],
}


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_the_old_head_goes_even_where_its_shape_fits(kind: str, tmp_path: Path) -> None:
    path = finetuned(kind, tmp_path, 3)
    stored = load_file(path / "model.safetensors")
    assert set(HEADS[kind]) < set(stored)
    first, again, other = (weights(load(path, 3, seed=seed)) for seed in (0, 0, 1))
    assert same(first, again)
    for name in HEADS[kind]:
        assert first[name].shape == stored[name].shape
        if name.endswith("weight"):
            assert not torch.equal(first[name], stored[name])
            assert not torch.equal(first[name], other[name])
        else:
            assert first[name].count_nonzero() == 0
    kept = set(first) - set(HEADS[kind])
    assert kept and all(torch.equal(first[name], stored[name]) for name in kept if name in stored)


@pytest.mark.parametrize("n_classes", [0, 2, 5])
def test_the_new_head_has_the_width_of_the_task(n_classes: int, tmp_path: Path) -> None:
    loaded = load(finetuned("bert", tmp_path, 3), n_classes)
    assert loaded.model.classifier.weight.shape[0] == max(1, n_classes)
    assert loaded.model.config.num_labels == max(1, n_classes)


def test_a_new_head_is_drawn_as_the_architecture_says() -> None:
    drawn = torch.cat([load(tiny_model("bert"), 40, seed=seed).model.classifier.weight.flatten() for seed in range(3)])
    expected = load(tiny_model("bert"), 40).model.config.initializer_range
    assert abs(drawn.std() / expected - 1) < 0.05 and abs(drawn.mean()) < 4 * expected / drawn.numel() ** 0.5


def test_a_missing_pooler_is_made_new_from_the_seed() -> None:
    path = tiny_model("bert")  # a masked-language model: it has none
    assert not any("pooler" in name for name in load_file(path / "model.safetensors"))
    first, again, other = (load(path, 2, seed=seed) for seed in (0, 0, 1))
    name = "bert.pooler.dense.weight"
    assert "bert.pooler.dense" in first.fresh and name not in first.pristine
    assert torch.equal(weights(first)[name], weights(again)[name])
    assert not torch.equal(weights(first)[name], weights(other)[name])


def test_a_pooler_that_is_there_is_kept_and_does_not_change_the_new_head(tmp_path: Path) -> None:
    with_pooler = finetuned("bert", tmp_path, 3)
    stored = load_file(with_pooler / "model.safetensors")["bert.pooler.dense.weight"]
    first, second = load(with_pooler, 4), load(tiny_model("bert"), 4)
    assert torch.equal(weights(first)["bert.pooler.dense.weight"], stored)
    assert not torch.equal(weights(second)["bert.pooler.dense.weight"], stored)
    assert torch.equal(first.model.classifier.weight, second.model.classifier.weight)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_bare_backbone_without_its_prefix_loads(kind: str, tmp_path: Path) -> None:
    bare = transformers.AutoModel.from_pretrained(tiny_model(kind))
    bare.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(tiny_model(kind)).save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert "embeddings.word_embeddings.weight" in stored
    found = weights(load(tmp_path))
    assert torch.equal(found[f"{kind}.embeddings.word_embeddings.weight"], stored["embeddings.word_embeddings.weight"])


def test_drawing_a_head_leaves_the_global_random_state_alone() -> None:
    loaded = load(tiny_model("roberta"))
    before = torch.random.get_rng_state()
    loaded.reset(5)
    assert torch.equal(before, torch.random.get_rng_state())


def test_reset_undoes_training_and_clears_gradients() -> None:
    loaded = load(tiny_model("bert"))
    fresh = weights(loaded)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.add_(1.0)
            parameter.grad = torch.ones_like(parameter)
    loaded.reset(0)
    assert same(fresh, weights(loaded))
    assert all(parameter.grad is None for parameter in loaded.model.parameters())


def test_every_parameter_is_either_restored_or_drawn() -> None:
    for kind in ("bert", "roberta"):
        loaded = load(tiny_model(kind))
        names = {name for name, _ in loaded.model.named_parameters()}
        drawn = {name for name in names if name.rpartition(".")[0] in loaded.fresh}
        assert names == (set(loaded.pristine) & names) | drawn and not drawn & set(loaded.pristine)


def test_a_bfloat16_checkpoint_becomes_float32(tmp_path: Path) -> None:
    path = copy_model("bert", tmp_path / "m")
    edit_tensors(path, lambda tensors: {name: tensor.bfloat16() for name, tensor in tensors.items()})
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    loaded = load(path)
    assert {tensor.dtype for tensor in weights(loaded).values()} == {torch.float32}
    assert {tensor.dtype for tensor in loaded.pristine.values()} == {torch.float32}


def test_attention_runs_by_the_fused_kernels() -> None:
    assert load(tiny_model("bert")).model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        tensors["bert.encoder.layer.1.output.dense.weight"][3, 4] = value
        return tensors

    path = edit_tensors(copy_model("bert", tmp_path / "m"), spoil)
    with pytest.raises(IncompleteCheckpointError, match=r"non-finite values in bert\.encoder\.layer\.1\.output\.dense"):
        load(path)


def test_an_old_head_that_is_no_number_does_not_matter(tmp_path: Path) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        tensors["classifier.weight"][:] = float("nan")
        return tensors

    loaded = load(edit_tensors(finetuned("bert", tmp_path, 3), spoil), 3)
    assert torch.isfinite(loaded.model.classifier.weight).all()


def test_a_checkpoint_with_a_missing_layer_is_refused(tmp_path: Path) -> None:
    path = copy_model("roberta", tmp_path / "m")
    edit_tensors(path, lambda tensors: {name: t for name, t in tensors.items() if ".layer.1." not in name})
    with pytest.raises(IncompleteCheckpointError, match="only in part: 8 modules get no weights") as caught:
        load(path)
    assert all(".layer.1." in name for name in caught.value.modules)
    assert isinstance(caught.value, CheckpointError)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = copy_model("bert", tmp_path / "m")
    shutil.copy(tiny_model("roberta") / "model.safetensors", path / "model.safetensors")
    with pytest.raises(IncompleteCheckpointError, match="is it of another architecture"):
        load(path)


def test_embeddings_of_another_width_are_refused(tmp_path: Path) -> None:
    path = copy_model("bert", tmp_path / "m")

    def shorten(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        name = "bert.embeddings.word_embeddings.weight"
        return tensors | {name: tensors[name][:-2]}

    with pytest.raises(IncompleteCheckpointError, match=r"bert\.embeddings\.word_embeddings"):
        load(edit_tensors(path, shorten))


@pytest.mark.parametrize("kind", ["bert", "t5"])
@pytest.mark.parametrize("damage", ["truncated", "garbage", "gone"])
def test_damaged_files_are_named(tmp_path: Path, kind: str, damage: str) -> None:
    path = copy_model(kind, tmp_path / "m")
    file = path / "model.safetensors"
    raw = file.read_bytes()
    file.unlink()
    if damage != "gone":
        file.write_bytes(raw[: len(raw) // 2] if damage == "truncated" else b"\xff" * 200)
    with pytest.raises(CheckpointError, match=rf"{path} cannot be loaded"):
        load_model(path, facts(2), Family.ENCODER if kind == "bert" else Family.TEXT_TO_TEXT)


def test_a_text_to_text_model_keeps_its_head_and_ties_its_embedding() -> None:
    loaded = load_model(tiny_model("t5"), facts(2), Family.TEXT_TO_TEXT)
    model = loaded.model
    assert loaded.fresh == ()
    assert model.lm_head.weight is model.shared.weight is model.encoder.embed_tokens.weight
    tied = {"lm_head.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "shared.weight"}
    assert len(tied & set(loaded.pristine)) == 1
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    loaded.reset(0)
    reference = transformers.AutoModelForSeq2SeqLM.from_pretrained(tiny_model("t5")).state_dict()
    assert same({name: reference[name] for name in model.state_dict()}, dict(model.state_dict()))
    assert model.lm_head.weight is model.shared.weight


def test_a_text_to_text_checkpoint_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = copy_model("t5", tmp_path / "m")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"d_ff": 48}))
    with pytest.raises(IncompleteCheckpointError, match="only in part"):
        load_model(path, facts(2), Family.TEXT_TO_TEXT)


def test_how_a_checkpoint_wants_to_write_is_dropped(tmp_path: Path) -> None:
    path = copy_model("t5", tmp_path / "m")
    wishes = {"num_beams": 4, "min_length": 30, "no_repeat_ngram_size": 3, "length_penalty": 2.0, "do_sample": True}
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": 1, "pad_token_id": 0} | wishes))
    loaded = load_model(path, facts(2), Family.TEXT_TO_TEXT)
    kept = loaded.model.generation_config.to_diff_dict()
    assert not set(wishes) & set(kept)
    assert (kept["decoder_start_token_id"], kept["eos_token_id"], kept["pad_token_id"]) == (0, 1, 0)
    written = loaded.model.generate(input_ids=torch.tensor([[5, 1]]), max_new_tokens=3)
    assert written.shape[1] <= 4


def test_distinct_tensors_are_each_stored_once_and_cover_the_model() -> None:
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(tiny_model("t5"))
    found = distinct_tensors(model)
    places = [tensor.data_ptr() for tensor in found.values()]
    assert len(set(places)) == len(places)
    assert {parameter.data_ptr() for parameter in model.parameters()} <= set(places)
    assert sum(tensor.numel() for tensor in found.values()) == sum(p.numel() for p in model.parameters())


def test_longest_input_by_architecture() -> None:
    # BERT has one learned position a token; RoBERTa's first position is padding_idx + 1 = 2; T5's are relative.
    assert longest_input(load(tiny_model("bert")).model) == 64
    assert longest_input(load(tiny_model("roberta")).model) == 64
    assert longest_input(load_model(tiny_model("t5"), facts(2), Family.TEXT_TO_TEXT).model) is None


def test_the_saved_configuration_names_the_task_s_labels(tmp_path: Path) -> None:
    number = load(finetuned("bert", tmp_path / "source", 3), 0)
    assert number.model.config.problem_type == "regression"
    number.model.save_pretrained(tmp_path / "number")
    shutil.copytree(
        tiny_model("bert"),
        tmp_path / "number",
        dirs_exist_ok=True,
        ignore=lambda *_: ["model.safetensors", "config.json"],
    )
    classes = load(tmp_path / "number", 2)
    assert classes.model.config.problem_type == "single_label_classification"
    assert classes.model.config.id2label == {0: "class0", 1: "class1"}


def test_pool_loads_once_and_drops_the_one_used_longest_ago() -> None:
    pool = ModelPool(capacity=2)
    bert, roberta = tiny_model("bert"), tiny_model("roberta")
    first = pool.get(bert, facts(2), Family.ENCODER)
    assert pool.get(bert, facts(2, name="other"), Family.ENCODER) is first and pool.hits == 1
    wider = pool.get(bert, facts(3), Family.ENCODER)
    assert wider is not first
    pool.get(bert, facts(2), Family.ENCODER)  # now the wider one was used longest ago
    pool.get(roberta, facts(2), Family.ENCODER)
    assert pool.get(bert, facts(2), Family.ENCODER) is first
    assert pool.get(bert, facts(3), Family.ENCODER) is not wider


def test_pool_tells_a_reused_model_what_its_head_answers_now() -> None:
    pool = ModelPool()
    path = tiny_model("bert")
    pool.get(path, facts(2), Family.ENCODER)
    renamed = TaskFacts(name="x", label_names=("bad", "good"), label_words=("bad", "good"), regression=False)
    assert pool.get(path, renamed, Family.ENCODER).model.config.id2label == {0: "bad", 1: "good"}
    one_output = pool.get(path, facts(0), Family.ENCODER)
    assert one_output.model.config.problem_type == "regression" and one_output.model.num_labels == 1


def test_pool_holds_one_text_to_text_model_whatever_the_task() -> None:
    pool = ModelPool()
    first = pool.get(tiny_model("t5"), facts(2), Family.TEXT_TO_TEXT)
    assert pool.get(tiny_model("t5"), facts(5), Family.TEXT_TO_TEXT) is first
    assert pool.get(tiny_model("t5"), facts(0), Family.TEXT_TO_TEXT) is first
