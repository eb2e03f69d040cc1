"""Fusing tiny checkpoints through files: every rule against numpy on whole models, heads, ties, buffers, precision, order."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ray_app.fusion import merging
from ray_app.fusion.fuse import FusionConfig, Rule, fuse_checkpoints
from ray_app.hub.model_folder import inspect_folder
from tests.model_factory import build_model, copy_model, tiny_model
from tests.unit.ray_app.fusion import whole_models

WEIGHTS = {"a": 2.0, "b": 1.0, "c": 1.0}
NAMES = tuple(WEIGHTS)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces so small that every tensor has several."""
    monkeypatch.setattr(merging, "PIECE", 100)


def _sources(kind: str = "bert") -> dict[str, Path]:
    return {name: tiny_model(kind, seed=seed) for seed, name in enumerate(NAMES, start=1)}


def _weights_of(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model.safetensors")


def _fuse(
    config: FusionConfig, out: Path, sources: dict[str, Path] | None = None, **more: object
) -> dict[str, np.ndarray]:
    fused = fuse_checkpoints(config, sources or _sources(), out, **more)  # type: ignore[arg-type]
    assert fused.folder == out
    return _weights_of(out)


def _expected(config: FusionConfig, kind: str, prefix: str) -> dict[str, np.ndarray]:
    """The rule on whole models."""
    base = whole_models.load(tiny_model(kind), prefix)
    models = {name: whole_models.load(folder, prefix) for name, folder in _sources(kind).items()}
    parts, weights = list(models.values()), [config.weights.get(name, 1.0) for name in NAMES]
    scaling, density = config.scaling, config.density
    made = {
        Rule.MEAN: lambda name: whole_models.mean(parts, name),
        Rule.WEIGHTED_MEAN: lambda name: whole_models.weighted(parts, name, weights),
        Rule.TASK_ARITHMETIC: lambda name: whole_models.task_arithmetic(base, parts, name, weights, scaling),
        Rule.TIES: lambda name: whole_models.ties(base, parts, name, weights, density=density, scaling=scaling),
        Rule.DARE: lambda name: whole_models.dare(
            base, models, name, density=density, scaling=scaling, seed=config.seed
        ),
    }[config.rule]
    return {name: made(name) for name in base}


CONFIGS = [
    FusionConfig(),
    FusionConfig(rule=Rule.WEIGHTED_MEAN, weights=WEIGHTS),
    FusionConfig(rule=Rule.TASK_ARITHMETIC, scaling=0.4),
    FusionConfig(rule=Rule.TASK_ARITHMETIC, weights=WEIGHTS),
    FusionConfig(rule=Rule.TIES, density=0.3),
    FusionConfig(rule=Rule.TIES, density=0.7, scaling=0.5, weights=WEIGHTS),
    FusionConfig(rule=Rule.DARE, density=0.25, scaling=0.3, seed=7),
]


@pytest.mark.parametrize(("kind", "prefix"), [("bert", "bert."), ("roberta", "roberta."), ("t5", "")])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.rule.value}-{len(config.weights)}")
def test_every_rule_gives_what_whole_models_give(config: FusionConfig, kind: str, prefix: str, tmp_path: Path) -> None:
    found = _fuse(config, tmp_path / "out", _sources(kind), pretrained=tiny_model(kind))
    expected = _expected(config, kind, prefix)
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], values.astype(np.float32), rtol=3e-7, atol=1e-9, err_msg=name)


def test_fisher_weighted_mean_from_files(tmp_path: Path) -> None:
    models = {name: whole_models.load(folder, "bert.") for name, folder in _sources().items()}
    files, fishers = {}, {}
    for seed, name in enumerate(NAMES):
        rng = np.random.default_rng(seed)
        fishers[name] = {key: rng.exponential(1e-4, value.shape) for key, value in models[name].items()}
        files[name] = tmp_path / f"{name}.safetensors"
        save_file({f"bert.{key}": value.astype(np.float32) for key, value in fishers[name].items()}, files[name])
    config = FusionConfig(rule=Rule.FISHER, fisher=files, weights=WEIGHTS)
    found = _fuse(config, tmp_path / "out")
    for key in found:
        single = [{k: v.astype(np.float32).astype(np.float64) for k, v in fishers[name].items()} for name in NAMES]
        expected = whole_models.fisher(list(models.values()), key, single, list(WEIGHTS.values()))
        np.testing.assert_allclose(found[key], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rule", [Rule.MEAN, Rule.TIES, Rule.DARE])
def test_order_threads_and_files_do_not_matter(rule: Rule, tmp_path: Path) -> None:
    sources = _sources()
    sharded = build_model("bert", tmp_path / "sharded", seed=2, max_shard_size="40KB")
    assert len(list(sharded.glob("*.safetensors"))) > 1
    pretrained = tiny_model("bert")
    written = []
    for number, order in enumerate(("abc", "cab", "bca")):
        given = {name: sharded if name == "b" and number else sources[name] for name in order}
        config = FusionConfig(rule=rule, threads=1 + 3 * (number > 0), density=0.5)
        fuse_checkpoints(config, given, tmp_path / str(number), pretrained=pretrained)
        written.append((tmp_path / str(number) / "model.safetensors").read_bytes())
    assert written[0] == written[1] == written[2]


@pytest.mark.parametrize(("n", "piece"), [(1, 131072), (64, 131072), (65, 129055), (1000, 8388), (100_000, 1024)])
def test_memory_does_not_grow_with_the_number_of_sources(n: int, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    found = merging.Merging(config=FusionConfig(), bodies=[None] * n, weights={}, shapes={})  # type: ignore[list-item]
    assert found.piece == piece and (8 * n * piece <= 64 << 20 or piece == 1024)


def test_names_of_the_sources_do_not_matter_to_a_mean(tmp_path: Path) -> None:
    one, two, three = _sources().values()
    first = _fuse(FusionConfig(), tmp_path / "1", {"x": one, "y": two, "z": three})
    second = _fuse(FusionConfig(), tmp_path / "2", {"x": three, "y": one, "z": two})
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_dare_draws_by_seed_source_and_parameter(tmp_path: Path) -> None:
    pretrained = tiny_model("bert")
    made = [
        _fuse(FusionConfig(rule=Rule.DARE, density=0.5, seed=seed), tmp_path / str(number), pretrained=pretrained)
        for number, seed in enumerate((0, 0, 1))
    ]
    name = "encoder.layer.0.attention.self.query.weight"
    assert np.array_equal(made[0][name], made[1][name]) and not np.array_equal(made[0][name], made[2][name])
    other = "encoder.layer.1.attention.self.query.weight"
    masks = [merging.drawing(0, source, key).random(1000) < 0.5 for source in "ab" for key in (name, other)]
    assert all(0.4 < mask.mean() < 0.6 for mask in masks)
    assert all(0.4 < (masks[i] == masks[j]).mean() < 0.6 for i in range(4) for j in range(i))


def test_heads_are_left_out_by_name(tmp_path: Path) -> None:
    fused = fuse_checkpoints(FusionConfig(), _sources(), tmp_path / "out")
    assert fused.dropped and all(name.startswith("cls.") for name in fused.dropped)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["BertModel"] and config["dtype"] == "float32"
    assert not set(config) & {"id2label", "label2id", "num_labels", "problem_type"}
    assert fused.n_tensors == len(_weights_of(tmp_path / "out"))
    assert fused.n_parameters == sum(value.size for value in _weights_of(tmp_path / "out").values())


def _rewritten(folder: Path, change: object) -> Path:
    """A copy of a tensor file with its tensors changed by a function."""
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors), folder / "model.safetensors", metadata={"format": "pt"})  # type: ignore[operator]
    return folder


def test_old_and_bare_names_and_computed_buffers(tmp_path: Path) -> None:
    """gamma and beta for norms, no 'bert.' prefix, position ids that older versions stored: the same model."""

    def old(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        spelled = {}
        for name, value in tensors.items():
            if name.startswith("bert."):
                plain = name.removeprefix("bert.").replace("LayerNorm.weight", "LayerNorm.gamma")
                spelled[plain.replace("LayerNorm.bias", "LayerNorm.beta")] = value
        return {**spelled, "embeddings.position_ids": np.arange(64)[None]}

    sources = _sources()
    expected = _fuse(FusionConfig(), tmp_path / "new")
    spelled = _rewritten(copy_model("bert", tmp_path / "b", seed=2), old)
    fused = fuse_checkpoints(FusionConfig(), {**sources, "b": spelled}, tmp_path / "old")
    found = _weights_of(tmp_path / "old")
    assert all(np.array_equal(found[name], expected[name]) for name in expected) and set(found) == set(expected)
    assert "embeddings.position_ids" in fused.dropped


def test_a_pooler_that_one_lacks_is_left_out(tmp_path: Path) -> None:
    pooler = {
        "bert.pooler.dense.weight": np.ones((32, 32), np.float32),
        "bert.pooler.dense.bias": np.ones(32, np.float32),
    }
    having = [
        _rewritten(copy_model("bert", tmp_path / str(seed), seed=seed), lambda tensors: {**tensors, **pooler})
        for seed in (1, 2)
    ]
    fused = fuse_checkpoints(FusionConfig(), {"a": having[0], "b": having[1]}, tmp_path / "both")
    assert "pooler.dense.weight" in _weights_of(tmp_path / "both")
    fused = fuse_checkpoints(FusionConfig(), {"a": having[0], "b": tiny_model("bert", seed=3)}, tmp_path / "one")
    assert "pooler.dense.weight" in fused.dropped and "pooler.dense.weight" not in _weights_of(tmp_path / "one")


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F64"])
def test_other_precisions_are_read_and_float32_is_written(dtype: str, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file as load_torch
    from safetensors.torch import save_file as save_torch

    kind = {"F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}[dtype]
    folder = copy_model("bert", tmp_path / "b", seed=2)
    tensors = {name: value.to(kind) for name, value in load_torch(folder / "model.safetensors").items()}
    save_torch(tensors, folder / "model.safetensors")
    found = _fuse(FusionConfig(), tmp_path / "out", {"a": tiny_model("bert", seed=1), "b": folder})
    one = whole_models.load(tiny_model("bert", seed=1), "bert.")
    for name, value in found.items():
        other = tensors[f"bert.{name}"].double().numpy()
        assert np.array_equal(value, ((one[name] + other) / 2).astype(np.float32)), name


def test_tied_tensors_are_written_once_and_may_stand_under_any_of_their_names(tmp_path: Path) -> None:
    def renamed(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        shared = tensors.pop("shared.weight")
        return {**tensors, "encoder.embed_tokens.weight": shared, "decoder.embed_tokens.weight": shared.copy()}

    other = _rewritten(copy_model("t5", tmp_path / "b", seed=2), renamed)
    found = _fuse(FusionConfig(), tmp_path / "out", {**_sources("t5"), "b": other})
    expected = _fuse(FusionConfig(), tmp_path / "plain", _sources("t5"))
    assert set(found) == set(expected) and "shared.weight" in found and "lm_head.weight" not in found
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_one_source_gives_its_own_body_bit_by_bit(tmp_path: Path) -> None:
    fused = fuse_checkpoints(FusionConfig(), {"a": tiny_model("bert", seed=1)}, tmp_path / "out")
    own = whole_models.load(tiny_model("bert", seed=1), "bert.")
    assert fused.used == ("a",)
    assert all(np.array_equal(value, own[name]) for name, value in _weights_of(tmp_path / "out").items())


@pytest.mark.parametrize("kind", ["bert", "roberta", "t5"])
def test_the_result_is_a_base_model_like_any_other(kind: str, tmp_path: Path) -> None:
    """It passes the checks of a candidate, and the training core loads it with nothing missing but a head."""
    from ray_app.training.models import load_model
    from ray_app.training.tokens import Family, TaskFacts

    fuse_checkpoints(FusionConfig(), _sources(kind), tmp_path / "out")
    facts = inspect_folder(tmp_path / "out", model_id="fused", expected_model_types=[kind])
    assert facts.n_parameters == sum(value.size for value in _weights_of(tmp_path / "out").values())
    task = TaskFacts(name="t", label_names=("x", "y"), label_words=("x", "y"), regression=False)
    family = Family.TEXT_TO_TEXT if kind == "t5" else Family.ENCODER
    loaded = load_model(tmp_path / "out", task, family)
    loaded.reset(0)
    prefix = {"bert": "bert.", "roberta": "roberta.", "t5": ""}[kind]
    state = loaded.model.state_dict()
    for name, value in _weights_of(tmp_path / "out").items():
        assert np.array_equal(state[prefix + name].numpy(), value), name
    assert loaded.tokenizer.get_vocab()


def test_fusing_again_replaces_the_old_result(tmp_path: Path) -> None:
    sources = _sources()
    first = _fuse(FusionConfig(), tmp_path / "out", {"a": sources["a"]})
    second = _fuse(FusionConfig(), tmp_path / "out", {"b": sources["b"]})
    name = "embeddings.word_embeddings.weight"
    assert not np.array_equal(first[name], second[name])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_the_card_tells_what_it_is_made_of(tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    fuse_checkpoints(
        FusionConfig(rule=Rule.DARE, density=0.5, seed=3, scaling=0.4, weights=WEIGHTS),
        _sources(),
        tmp_path / "out",
        pretrained=tiny_model("bert"),
        pretrained_name="org/base",
        revisions={"a": commit, "b": "sha256:1234"},
    )
    card = (tmp_path / "out" / "README.md").read_text()
    for text in ("rule: dare", "density: 0.5", "seed: 3", "scaling (lambda): 0.4", "pretrained model: org/base", f"| a | 2 | {commit} |",
                 "| b | 1 | sha256:1234 |", '- "a"', "cls.predictions"):  # fmt: skip
        assert text in card
    assert '- "b"' not in card  # no hub has it
