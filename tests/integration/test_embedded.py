"""The embedded default end to end at small sizes: real docstrings, real training, read by transformers and by the app."""

from pathlib import Path

import numpy as np
import pytest

from ray_app.embedded.config import EmbeddedConfig
from ray_app.embedded.mirror import EmbeddedMirror, make_embedded_mirror
from ray_app.embedded.tasks import TASKS
from ray_app.hub.task_data import read_mirror_task
from ray_app.hub.task_yaml import read_task_config
from ray_app.hub.tasks import SplitCaps, SplitRule

pytestmark = pytest.mark.slow

CONF = Path(__file__).resolve().parents[2] / "conf" / "task"
CONFIG = EmbeddedConfig(
    max_bytes=2_500_000,
    vocab_size=2000,
    layers=2,
    hidden=64,
    max_positions=96,
    steps=400,
    source_rows={"train": 160, "validation": 24, "test": 32},
    target_rows={"train": 60, "validation": 12, "test": 24},
)


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> EmbeddedMirror:
    return make_embedded_mirror(tmp_path_factory.mktemp("cache") / "embedded", CONFIG, lines.append)


@pytest.fixture(scope="module")
def model_folder(made: EmbeddedMirror) -> Path:
    return made.folder / "models" / made.model_id


def test_context_is_learned(made, lines):
    """Token frequencies alone are the unigram loss; even so short a training is below it on text never seen."""
    assert made.heldout_loss < made.unigram_loss - 0.1
    assert any("pretraining: step 400 of 400" in line for line in lines)
    assert {"corpus", "tasks", "tokenizer", "pretraining"} <= set(made.seconds)


def test_the_model_is_in_hub_format(model_folder):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    names = {path.name for path in model_folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"} <= names
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    assert tokenizer.is_fast and tokenizer.model_max_length == 96
    special = (tokenizer.pad_token, tokenizer.unk_token, tokenizer.cls_token, tokenizer.sep_token, tokenizer.mask_token)
    assert special == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    model = AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=3)
    assert (model.config.model_type, model.config.hidden_size, len(tokenizer)) == ("bert", 64, model.config.vocab_size)
    batch = tokenizer(["The ARRAY has ___ rows."], ["It is sorted."], return_tensors="pt")
    assert tokenizer.unk_token_id not in batch["input_ids"]
    assert model(**batch).logits.shape == (1, 3)


def test_the_masked_word_is_guessed_better_than_by_a_new_model(model_folder):
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    trained = AutoModelForMaskedLM.from_pretrained(model_folder).eval()
    torch.manual_seed(0)
    fresh = AutoModelForMaskedLM.from_config(trained.config).eval()
    batch = tokenizer("Return the number [MASK] rows.", return_tensors="pt")
    place = (batch["input_ids"][0] == tokenizer.mask_token_id).nonzero().item()
    wanted = tokenizer.convert_tokens_to_ids("of")
    with torch.no_grad():
        chances = [model(**batch).logits[0, place].softmax(-1)[wanted].item() for model in (trained, fresh)]
    assert chances[0] > 10 * chances[1]


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_task_is_read_by_the_app(made, name):
    stated = read_task_config(CONF / f"{name}.yaml")
    task = read_mirror_task(stated, mirror=made.folder, split_rule=SplitRule.SITE, caps=SplitCaps())
    wanted = CONFIG.source_rows if TASKS[name].role == "source" else CONFIG.target_rows
    assert {split: table.num_rows for split, table in task.splits.items()} == wanted
    for table in task.splits.values():
        counts = np.bincount(table["label"].to_numpy(), minlength=len(stated.label_names))
        assert counts.max() - counts.min() <= 1
    texts = {
        split: {text for column in TASKS[name].text_columns for text in table[column].to_pylist()}
        for split, table in task.splits.items()
    }
    assert not texts["train"] & texts["test"] and not texts["train"] & texts["validation"]


def test_targets_tests_are_in_no_training_text(made):
    def texts(role: str, split: str) -> set[str]:
        import pyarrow.parquet as pq

        found = set()
        for task in TASKS.values():
            if task.role == role:
                table = pq.read_table(made.folder / "tasks" / task.name / f"{split}.parquet")
                found |= {text for column in task.text_columns for text in table[column].to_pylist()}
        return found

    tests = texts("target", "test")
    assert len(tests) > 100
    assert not tests & texts("source", "train") and not tests & texts("target", "train")


def test_the_same_again_is_the_same_bytes(made, tmp_path):
    again = make_embedded_mirror(tmp_path / "embedded", CONFIG, lambda text: None)
    assert again.key == made.key
    files = sorted(path.relative_to(made.folder) for path in made.folder.rglob("*") if path.is_file())
    assert len(files) == 3 * len(TASKS) + 7
    timed = {Path("embedded.json")}
    different = [file for file in files if (made.folder / file).read_bytes() != (again.folder / file).read_bytes()]
    assert set(different) <= timed
