"""Tokenised tasks on disk: what stands in them, that they are whole or absent, and that they are read without copies."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ray_app.training import tokens
from ray_app.training.tokens import EncodedTask, Family, TaskFacts, encode_task
from tests.model_factory import SENTENCES, tiny_model
from tracking.errors import CheckpointError, StorageError, TaskDataError

FACTS = TaskFacts(name="entail", label_names=("no", "yes"), label_words=("no", "yes"), regression=False)
NUMBER = TaskFacts(name="likeness", label_names=(), label_words=(), regression=True)


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Any]:
    from transformers import AutoTokenizer

    return {kind: AutoTokenizer.from_pretrained(tiny_model(kind)) for kind in ("bert", "roberta", "t5")}


def rows(n: int, *, columns: tuple[str, ...] = ("premise", "hypothesis")) -> pa.Table:
    texts = {
        name: [SENTENCES[(row + 3 * place) % len(SENTENCES)] for row in range(n)] for place, name in enumerate(columns)
    }
    return pa.table({**texts, "label": pa.array([row % 2 for row in range(n)], pa.int64())})


def splits(n: int = 5, **given: Any) -> dict[str, pa.Table]:
    return {"train": rows(n, **given), "validation": rows(2, **given), "test": rows(3, **given)}


def encode(folder: Path, tokenizer: Any, tables: dict[str, pa.Table], **given: Any) -> EncodedTask:
    columns = [name for name in tables["train"].column_names if name != "label"]
    settings = {"text_columns": columns, "family": Family.ENCODER, "max_length": 64} | given
    facts = settings.pop("facts", FACTS)
    return encode_task(folder, tokenizer, tables, facts, **settings)


def read_row(task: EncodedTask, split: str, row: int) -> list[int]:
    held = task[split]
    return held.tokens[held.offsets[row] : held.offsets[row + 1]].tolist()


def test_rows_of_a_pair_are_what_the_tokenizer_says_one_by_one(tmp_path: Path, tokenizers: dict[str, Any]) -> None:
    tokenizer, tables = tokenizers["bert"], splits()
    task = encode(tmp_path / "t", tokenizer, tables)
    for split, table in tables.items():
        for row, (first, second) in enumerate(zip(table["premise"], table["hypothesis"], strict=True)):
            expected = tokenizer(first.as_py(), second.as_py())
            assert read_row(task, split, row) == expected["input_ids"]
            held = task[split]
            assert held.segments is not None
            assert held.segments[held.offsets[row] : held.offsets[row + 1]].tolist() == expected["token_type_ids"]
            assert held.lengths[row] == len(expected["input_ids"])
        np.testing.assert_array_equal(task[split].labels, table["label"].to_numpy())
        assert len(task[split]) == table.num_rows


def test_single_text_has_no_segments_and_facts_come_back(tmp_path: Path, tokenizers: dict[str, Any]) -> None:
    task = encode(tmp_path / "t", tokenizers["bert"], splits(columns=("text",)))
    assert task["train"].segments is None
    assert EncodedTask(tmp_path / "t").facts == FACTS
    assert (task.max_length, task.pad_id) == (64, tokenizers["bert"].pad_token_id)


def test_tokenizers_without_segments_store_none(tmp_path: Path, tokenizers: dict[str, Any]) -> None:
    task = encode(tmp_path / "t", tokenizers["roberta"], splits())
    assert task["train"].segments is None
    expected = tokenizers["roberta"](SENTENCES[0], SENTENCES[3])["input_ids"]
    assert read_row(task, "train", 0) == expected


def test_more_than_two_texts_make_a_joined_second_segment(tmp_path: Path, tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["bert"]
    task = encode(tmp_path / "t", tokenizer, splits(columns=("a", "b", "c")))
    expected = tokenizer(SENTENCES[0], f"{SENTENCES[3]} [SEP] {SENTENCES[6]}")
    assert read_row(task, "train", 0) == expected["input_ids"]
    assert expected["input_ids"].count(tokenizer.sep_token_id) == 3


def test_a_text_to_text_row_names_the_task_and_each_column(tmp_path: Path, tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["t5"]
    task = encode(tmp_path / "t", tokenizer, splits(), family=Family.TEXT_TO_TEXT)
    text = f"entail premise: {SENTENCES[0]} hypothesis: {SENTENCES[3]}"
    assert read_row(task, "train", 0) == tokenizer(text)["input_ids"]
    assert task["train"].segments is None


def test_an_over_long_pair_loses_the_end_of_its_longer_text(tmp_path: Path, tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["bert"]
    long, short = " ".join(["river"] * 30), "film park"
    tables = {name: pa.table({"a": [long], "b": [short], "label": [1]}) for name in ("train", "validation", "test")}
    task = encode(tmp_path / "t", tokenizer, tables, max_length=16)
    river, film, park = (tokenizer.convert_tokens_to_ids(word) for word in ("river", "film", "park"))
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert read_row(task, "train", 0) == [cls, *[river] * 11, sep, film, park, sep]


def test_an_empty_split_can_be_stored_and_read(tmp_path: Path, tokenizers: dict[str, Any]) -> None:
    tables = splits()
    tables["validation"] = tables["validation"].slice(0, 0)
    task = encode(tmp_path / "t", tokenizers["bert"], tables)
    assert len(task["validation"]) == 0
    assert task["validation"].lengths.tolist() == []
    assert len(task["train"]) == 5


def test_numbers_are_kept_as_doubles(tmp_path: Path, tokenizers: dict[str, Any]) -> None:
    tables = {
        name: pa.table({"text": list(SENTENCES[:2]), "label": pa.array([0.25, 4.8])})
        for name in ("train", "validation", "test")
    }
    task = encode(tmp_path / "t", tokenizers["bert"], tables, facts=NUMBER)
    assert task["train"].labels.dtype == np.float64
    assert task["train"].labels.tolist() == [0.25, 4.8]
    assert (task.facts.regression, task.facts.n_outputs) == (True, 1)


def test_rows_are_the_same_however_many_are_tokenised_together(
    tmp_path: Path, tokenizers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = encode(tmp_path / "whole", tokenizers["bert"], splits(7))
    monkeypatch.setattr(tokens, "_ROWS_AT_ONCE", 3)
    pieces = encode(tmp_path / "pieces", tokenizers["bert"], splits(7))
    assert [read_row(whole, "train", row) for row in range(7)] == [read_row(pieces, "train", row) for row in range(7)]
    np.testing.assert_array_equal(whole["train"].segments, pieces["train"].segments)
    np.testing.assert_array_equal(whole["train"].labels, pieces["train"].labels)


def test_tokens_are_mapped_from_the_file_and_not_copied(tmp_path: Path, tokenizers: dict[str, Any]) -> None:
    encode(tmp_path / "t", tokenizers["bert"], splits(500))
    before = pa.total_allocated_bytes()
    held = EncodedTask(tmp_path / "t")["train"]
    assert pa.total_allocated_bytes() == before
    assert not held.tokens.flags.owndata and not held.offsets.flags.owndata
    mapped = [line.split()[0] for line in Path("/proc/self/maps").read_text().splitlines() if "/train.arrow" in line]
    address = held.tokens.__array_interface__["data"][0]
    assert any(int(span.split("-")[0], 16) <= address < int(span.split("-")[1], 16) for span in mapped)


def test_an_existing_folder_is_opened_and_not_made_again(tmp_path: Path, tokenizers: dict[str, Any]) -> None:
    encode(tmp_path / "t", tokenizers["bert"], splits())
    again = encode_task(
        tmp_path / "t", None, {}, FACTS, text_columns=[], family=Family.ENCODER, max_length=1
    )  # would fail if it looked at its arguments
    assert again.max_length == 64


def test_remains_of_killed_writers_do_no_harm(tmp_path: Path, tokenizers: dict[str, Any]) -> None:
    (tmp_path / ".t.1234.tmp").mkdir()
    half = tmp_path / "t"
    half.mkdir()
    (half / "train.arrow").write_bytes(b"half")
    task = encode(half, tokenizers["bert"], splits())
    assert len(task["train"]) == 5


def test_a_failing_writer_leaves_nothing(tmp_path: Path, tokenizers: dict[str, Any]) -> None:
    tables = splits()
    del tables["test"]
    with pytest.raises(KeyError):
        encode(tmp_path / "t", tokenizers["bert"], tables)
    assert list(tmp_path.iterdir()) == []


def test_writers_at_the_same_time_make_one_whole_folder(tmp_path: Path, tokenizers: dict[str, Any]) -> None:
    gate = threading.Barrier(3)
    failures: list[BaseException] = []

    def write() -> None:
        gate.wait()
        try:
            encode(tmp_path / "t", tokenizers["bert"], splits(40))
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failures == []
    assert [path.name for path in tmp_path.iterdir()] == ["t"]
    assert len(EncodedTask(tmp_path / "t")["train"]) == 40


def test_a_tokenizer_without_pad_token_is_refused(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    bare = AutoTokenizer.from_pretrained(tiny_model("bert"))
    bare.pad_token = None
    with pytest.raises(CheckpointError, match="has no pad token"):
        encode(tmp_path / "t", bare, splits())


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, tokenizers: dict[str, Any]) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"cannot write the encoded task .*/file/t"):
        encode(tmp_path / "file" / "t", tokenizers["bert"], splits())


@pytest.mark.parametrize("damage", ["missing folder", "no meta", "half a meta", "missing split", "truncated split"])
def test_a_damaged_folder_is_named(tmp_path: Path, tokenizers: dict[str, Any], damage: str) -> None:
    folder = tmp_path / "t"
    encode(folder, tokenizers["bert"], splits())
    if damage == "missing folder":
        folder = tmp_path / "elsewhere"
    elif damage == "no meta":
        (folder / "meta.json").unlink()
    elif damage == "half a meta":
        (folder / "meta.json").write_text((folder / "meta.json").read_text()[:20])
    elif damage == "missing split":
        (folder / "test.arrow").unlink()
    else:
        (folder / "test.arrow").write_bytes((folder / "test.arrow").read_bytes()[:100])
    with pytest.raises(TaskDataError, match="remove the folder and run the sweep again"):
        _ = EncodedTask(folder)["test"]
