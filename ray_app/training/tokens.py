"""Tokenised task data on disk: made once per (tokenizer, task data, length), memory-mapped by every worker."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

SPLITS = ("train", "validation", "test")
FORMAT_VERSION = 1
"""Version of the files; part of the folder's name, so that an older one is never read."""


class Family(Enum):
    """How an architecture answers: a classification head on an encoder, or generated text.

    The lower-case names are aliases: the configuration library looks a string up among the member names.
    """

    ENCODER = "encoder"
    TEXT_TO_TEXT = "text_to_text"
    encoder = "encoder"
    text_to_text = "text_to_text"


@dataclass(frozen=True, kw_only=True)
class TaskFacts:
    """What the training core has to know of a task besides its tokens."""

    name: str
    label_names: tuple[str, ...]
    """Class names by id; empty for regression."""
    label_words: tuple[str, ...]
    """What a text-to-text model writes for each class; empty for regression."""
    regression: bool

    @property
    def n_outputs(self) -> int:
        """Width of a classification head: classes, or 1 for regression."""
        return 1 if self.regression else len(self.label_names)


class EncodedSplit:
    """One tokenised split, memory-mapped: rows of token ids, segment ids where the tokenizer has them, labels."""

    def __init__(self, path: Path) -> None:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all().combine_chunks()
        ids = table["input_ids"].chunk(0) if table.num_rows else pa.array([], pa.large_list(pa.int32()))
        self.offsets = ids.offsets.to_numpy(zero_copy_only=True) if table.num_rows else np.zeros(1, np.int64)
        self.tokens = ids.values.to_numpy(zero_copy_only=True) if table.num_rows else np.zeros(0, np.int32)
        self.segments = (
            table["token_type_ids"].chunk(0).values.to_numpy(zero_copy_only=True)
            if "token_type_ids" in table.column_names and table.num_rows
            else None
        )
        self.labels = table["label"].to_numpy()
        self.lengths = np.diff(self.offsets).astype(np.int64)

    def __len__(self) -> int:
        return len(self.labels)


class EncodedTask:
    """A tokenised task: its facts and its three splits, opened on first use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        meta = json.loads((folder / "meta.json").read_text())
        self.max_length: int = meta["max_length"]
        self.pad_id: int = meta["pad_id"]
        self.facts = TaskFacts(
            name=meta["task"],
            label_names=tuple(meta["label_names"]),
            label_words=tuple(meta["label_words"]),
            regression=meta["regression"],
        )
        self._splits: dict[str, EncodedSplit] = {}

    def __getitem__(self, split: str) -> EncodedSplit:
        if split not in self._splits:
            self._splits[split] = EncodedSplit(self.folder / f"{split}.arrow")
        return self._splits[split]


def encode_task(
    folder: Path,
    tokenizer: Any,
    tables: Mapping[str, pa.Table],
    facts: TaskFacts,
    *,
    text_columns: Sequence[str],
    family: Family,
    max_length: int,
) -> EncodedTask:
    """Tokenise the splits of a task into ``folder`` (made whole or not at all) and open it; an existing one is opened.

    Args:
        folder: its name must tell the tokenizer, the task data, the family and the length apart.
        tokenizer: a fast tokenizer of transformers.
        tables: train, validation and test, each with the text columns (string) and ``label``.
        facts: names and kind of the labels.
        text_columns: an encoder gets the first as segment A and all others, joined by its separator, as segment B; a
            text-to-text model gets 'task column: text column: text'.
        family: encoder or text-to-text.
        max_length: most tokens of a row; longer ones are cut at the end (pairs: the longer segment first).
    """
    if (folder / "meta.json").exists():
        return EncodedTask(folder)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for split in SPLITS:
        table = _encode_split(tokenizer, tables[split], facts, text_columns, family=family, max_length=max_length)
        with pa.OSFile(str(temporary / f"{split}.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    meta = {
        "version": FORMAT_VERSION,
        "task": facts.name,
        "label_names": list(facts.label_names),
        "label_words": list(facts.label_words),
        "regression": facts.regression,
        "max_length": max_length,
        "pad_id": tokenizer.pad_token_id,
    }
    (temporary / "meta.json").write_text(json.dumps(meta))
    try:
        temporary.replace(folder)
    except OSError:
        if not (folder / "meta.json").exists():
            raise
        shutil.rmtree(temporary, ignore_errors=True)
    return EncodedTask(folder)


def _encode_split(
    tokenizer: Any, table: pa.Table, facts: TaskFacts, text_columns: Sequence[str], *, family: Family, max_length: int
) -> pa.Table:
    columns = [table[name].to_pylist() for name in text_columns]
    label_type = pa.float64() if facts.regression else pa.int64()
    arrays: dict[str, pa.Array] = {}
    if not table.num_rows:
        arrays["input_ids"] = pa.array([], pa.large_list(pa.int32()))
    elif family is Family.TEXT_TO_TEXT:
        texts = [
            f"{facts.name} " + " ".join(f"{name}: {text}" for name, text in zip(text_columns, row, strict=True))
            for row in zip(*columns, strict=True)
        ]
        encoded = tokenizer(texts, truncation=True, max_length=max_length)
        arrays["input_ids"] = pa.array(encoded["input_ids"], pa.large_list(pa.int32()))
    else:
        separator = f" {tokenizer.sep_token} " if tokenizer.sep_token else " "
        second = [separator.join(row) for row in zip(*columns[1:], strict=True)] if len(columns) > 1 else None
        encoded = tokenizer(columns[0], second, truncation=True, max_length=max_length)
        arrays["input_ids"] = pa.array(encoded["input_ids"], pa.large_list(pa.int32()))
        if second is not None and "token_type_ids" in encoded:
            arrays["token_type_ids"] = pa.array(encoded["token_type_ids"], pa.large_list(pa.int32()))
    arrays["label"] = table["label"].combine_chunks().cast(label_type)
    return pa.table(arrays)
