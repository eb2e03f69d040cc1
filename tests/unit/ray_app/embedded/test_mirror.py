"""Made once, whole or not at all, never over somebody else's files. Training itself stands in tests/integration."""

import dataclasses
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ray_app.embedded import mirror
from ray_app.embedded.config import EmbeddedConfig
from ray_app.embedded.corpus import build_corpus
from ray_app.embedded.mirror import make_embedded_mirror, mirror_key, model_card, read_embedded_mirror
from ray_app.embedded.pretrain import PretrainReport
from ray_app.embedded.split import Part, split_corpus
from ray_app.embedded.tasks import TASKS
from ray_app.hub.task_data import read_mirror_task
from ray_app.hub.task_yaml import read_task_config
from ray_app.hub.tasks import SplitCaps, SplitRule
from tracking.errors import ConfigError, InputError

REPORT = PretrainReport(
    n_parameters=10, n_tokens_corpus=20, n_tokens_seen=30, heldout_loss=4.0, unigram_loss=6.0, bf16=False, train_s=1.0
)
TASK_CONF = Path(__file__).resolve().parents[4] / "conf" / "task"


@pytest.fixture
def config(tiny_library) -> EmbeddedConfig:
    return EmbeddedConfig(
        libraries=[tiny_library],
        source_rows={"train": 20, "validation": 4, "test": 6},
        target_rows={"train": 10, "validation": 4, "test": 6},
    )


@pytest.fixture
def trained(monkeypatch) -> list[str]:
    """Records every pretraining; no torch."""
    calls: list[str] = []

    def pretrain(train_texts, heldout_texts, config, *, folder, progress):
        calls.append("pretrain")
        (folder / "texts.json").write_text(json.dumps([list(train_texts), list(heldout_texts)]))
        return REPORT

    monkeypatch.setattr(mirror, "pretrain", pretrain)
    monkeypatch.setattr(mirror, "train_tokenizer", lambda texts, *, folder, **sizes: folder.mkdir(parents=True))
    monkeypatch.setattr(mirror, "TASKS", {name: TASKS[name] for name in ("doc_order", "doc_swap", "doc_first")})
    return calls


def _make(folder: Path, config: EmbeddedConfig):
    return make_embedded_mirror(folder, config, lambda text: None)


def test_it_is_made_once_and_read_by_the_app(tmp_path, config, trained):
    folder = tmp_path / "cache" / "embedded"
    made = _make(folder, config)
    assert made.made and made.folder == folder and made.key == mirror_key(config)
    assert (made.source_tasks, made.target_tasks) == (("doc_order",), ("doc_swap", "doc_first"))
    assert (made.heldout_loss, made.unigram_loss) == (4.0, 6.0)
    again = _make(folder, config)
    assert again == dataclasses.replace(made, made=False) and trained == ["pretrain"]
    assert sorted(path.name for path in folder.parent.iterdir() if not path.name.endswith(".lock")) == ["embedded"]
    for name in ("doc_order", "doc_swap", "doc_first"):
        task = read_task_config(TASK_CONF / f"{name}.yaml")
        read = read_mirror_task(task, mirror=folder, split_rule=SplitRule.SITE, caps=SplitCaps())
        rows = config.source_rows if name == "doc_order" else config.target_rows
        assert {split: table.num_rows for split, table in read.splits.items()} == rows


def test_no_text_of_a_test_is_trained_on(tmp_path, config, trained):
    folder = _make(tmp_path / "embedded", config).folder
    train, heldout = json.loads((folder / "models" / mirror.MODEL_ID / "texts.json").read_text())
    parts = split_corpus(build_corpus(max_bytes=config.max_bytes, libraries=config.libraries), seed=config.seed)
    seen = {sentence for text in train for sentence in text.split(". ")}
    for part in (Part.SOURCE_TEST, Part.TARGET_TEST, Part.TARGET_VALIDATION, Part.SOURCE_VALIDATION):
        sentences = {sentence.rstrip(".") for passage in parts[part] for sentence in passage.sentences}
        assert sentences and sentences.isdisjoint({sentence.rstrip(".") for sentence in seen})
    assert set(train).isdisjoint(heldout)
    texts = {}
    for split in ("train", "validation", "test"):
        table = pq.read_table(folder / "tasks" / "doc_first" / f"{split}.parquet")
        texts[split] = {text for name in ("sentence_a", "sentence_b") for text in table[name].to_pylist()}
    assert not texts["train"] & texts["test"] and not texts["validation"] & texts["test"]


def test_another_config_replaces_it_and_reuses_the_text(tmp_path, config, trained, monkeypatch):
    folder = tmp_path / "embedded"
    first = _make(folder, config)
    monkeypatch.setattr(mirror, "build_corpus", lambda **sizes: pytest.fail("the corpus was read again"))
    second = _make(folder, dataclasses.replace(config, steps=config.steps + 1))
    assert second.made and second.key != first.key and trained == ["pretrain"] * 2
    assert read_embedded_mirror(folder) == dataclasses.replace(second, made=False)


def test_an_interruption_leaves_nothing_and_the_next_call_starts_anew(tmp_path, config, trained, monkeypatch):
    folder = tmp_path / "embedded"

    def interrupted(*given, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mirror, "pretrain", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _make(folder, config)
    assert not folder.exists() and read_embedded_mirror(folder) is None
    assert _make(folder, config).made


def test_an_interruption_while_replacing_keeps_the_old_one(tmp_path, config, trained, monkeypatch):
    folder = tmp_path / "embedded"
    first = _make(folder, config)
    monkeypatch.setattr(mirror, "pretrain", lambda *given, **more: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        _make(folder, dataclasses.replace(config, seed=5))
    assert read_embedded_mirror(folder) == dataclasses.replace(first, made=False)


def test_files_of_others_are_left_alone(tmp_path, config, trained):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="no embedded mirror"):
        _make(tmp_path, config)
    assert (tmp_path / "notes.txt").read_text() == "mine" and trained == []


def test_an_empty_folder_is_taken(tmp_path, config, trained):
    (tmp_path / "embedded").mkdir()
    assert _make(tmp_path / "embedded", config).made


def test_a_damaged_manifest_is_no_mirror(tmp_path, config, trained):
    folder = _make(tmp_path / "embedded", config).folder
    (folder / mirror.MANIFEST).write_text("{")
    assert read_embedded_mirror(folder) is None


def test_a_wrong_config_is_refused_before_anything_is_made(tmp_path, config, trained):
    with pytest.raises(ConfigError, match=r"embedded\.steps: 0"):
        _make(tmp_path / "embedded", dataclasses.replace(config, steps=0))
    assert list(tmp_path.glob("*embedded*")) == []


def test_the_key_follows_config_and_versions(config, monkeypatch):
    key = mirror_key(config)
    assert key == mirror_key(dataclasses.replace(config)) and len(key) == 16
    assert key != mirror_key(dataclasses.replace(config, seed=1))
    monkeypatch.setattr(mirror, "library_versions", lambda libraries: {"tinylib": "2.0"})
    assert key != mirror_key(config)


def test_the_card_says_what_the_model_is(config):
    card = model_card(config, REPORT)
    assert "tinylib" in card and "10 parameters" in card and "4.00 nats" in card and "6.00" in card
