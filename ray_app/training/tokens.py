"""Encoded task data on disk: made once per (tokenizer, task data, length) or (image processor, task data), memory-mapped by every
worker."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from ray_app.training.pixels import PixelSplit, open_pixels, pixel_facts, write_pixels
from tracking.errors import CheckpointError, StorageError, TaskDataError

SPLITS = ("train", "validation", "test")
FORMAT_VERSION = 1
"""Version of the files; part of the folder's name, so that an older one is never read."""
_ROWS_AT_ONCE = 4096
"""Rows tokenised together."""


class Family(Enum):
    """What an architecture reads and how it answers: text by a classification head or by generated text, images by a head.

    The lower-case names are aliases: the configuration library looks a string up among the member names.
    """

    ENCODER = "encoder"
    TEXT_TO_TEXT = "text_to_text"
    IMAGE = "image"
    encoder = "encoder"
    text_to_text = "text_to_text"
    image = "image"


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


Split: TypeAlias = EncodedSplit | PixelSplit
"""A split of rows of tokens or of images."""


class EncodedTask:
    """An encoded task, of text or of images: its facts and its three splits, opened on first use.

    Raises:
        TaskDataError: the folder is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            meta = json.loads((folder / "meta.json").read_text())
            self.max_length: int = meta["max_length"]
            self.pad_id: int = meta["pad_id"]
            self.pixels: dict[str, Any] | None = meta.get("pixels")
            """Size and scaling of the images; None for text."""
            self.facts = TaskFacts(
                name=meta["task"],
                label_names=tuple(meta["label_names"]),
                label_words=tuple(meta["label_words"]),
                regression=meta["regression"],
            )
        except (OSError, ValueError, KeyError) as error:
            raise self._unreadable(error) from error
        self._splits: dict[str, Split] = {}

    def __getitem__(self, split: str) -> Split:
        if split not in self._splits:
            path = self.folder / f"{split}.arrow"
            try:
                self._splits[split] = open_pixels(path, self.pixels) if self.pixels else EncodedSplit(path)
            except (OSError, pa.ArrowException, KeyError) as error:
                raise self._unreadable(error) from error
        return self._splits[split]

    def _unreadable(self, error: Exception) -> TaskDataError:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return TaskDataError(
            f"the encoded task {self.folder} cannot be read ({reason}), expected what a sweep prepares; remove the folder "
            "and run the sweep again",
            path=str(self.folder),
        )


def encode_task(
    folder: Path,
    reader: Any,
    tables: Mapping[str, pa.Table],
    facts: TaskFacts,
    *,
    text_columns: Sequence[str],
    family: Family,
    max_length: int,
) -> EncodedTask:
    """Encode the splits of a task into ``folder`` (made whole or not at all) and open it; an existing one is opened.

    Args:
        folder: its name must tell the tokenizer or image processor, the task data, the family and the length apart.
        reader: a fast tokenizer of transformers, or an image processor.
        tables: train, validation and test, each with the text columns (string), or the image column, and ``label``.
        facts: names and kind of the labels.
        text_columns: an encoder gets the first as segment A and all others, joined by its separator, as segment B; a
            text-to-text model gets 'task column: text column: text'; of images the one column that holds them.
        family: what the model reads.
        max_length: most tokens of a row; longer ones are cut at the end (pairs: the longer segment first). Images have none.

    Raises:
        CheckpointError: the tokenizer has no pad token, or the image processor makes no images of one size.
        TaskDataError: an image cannot be decoded.
        StorageError: the folder cannot be written.
    """
    if (folder / "meta.json").exists():
        return EncodedTask(folder)
    meta: dict[str, Any] = {
        "version": FORMAT_VERSION,
        "task": facts.name,
        "label_names": list(facts.label_names),
        "label_words": list(facts.label_words),
        "regression": facts.regression,
        "max_length": max_length,
    }
    if family is Family.IMAGE:
        meta |= {"pad_id": 0, "pixels": pixel_facts(reader)}
    else:
        meta["pad_id"] = _pad_id(reader, facts)
    encode = functools.partial(
        _encode_rows, reader, facts=facts, text_columns=text_columns, family=family, max_length=max_length
    )

    def write(split: str, path: Path) -> None:
        if family is Family.IMAGE:
            where = f"task {facts.name}, split {split}"
            write_pixels(path, reader, tables[split], facts=meta["pixels"], where=where, regression=facts.regression)
        else:
            _write_split(path, tables[split], encode)

    _write_folder(folder, meta, write)
    return EncodedTask(folder)


def _pad_id(tokenizer: Any, facts: TaskFacts) -> int:
    if tokenizer.pad_token_id is None:
        raise CheckpointError(
            f"the tokenizer {type(tokenizer).__name__} for task {facts.name} has no pad token, expected one (rows of a batch "
            "differ in length); leave this model out"
        )
    return int(tokenizer.pad_token_id)


def _write_folder(folder: Path, meta: Mapping[str, Any], write: Callable[[str, Path], None]) -> None:
    """Make the folder of an encoded task under a temporary name and rename it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own even among threads; one that a killed process left behind is never taken up.
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
        try:
            for split in SPLITS:
                write(split, temporary / f"{split}.arrow")
            (temporary / "meta.json").write_text(json.dumps(meta))
            temporary.chmod(0o755)
            _put_in_place(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise StorageError(
            f"cannot write the encoded task {folder} ({error.strerror or error}); free space or choose another cache folder",
            path=str(folder),
        ) from error


def _put_in_place(temporary: Path, folder: Path) -> None:
    """Rename a whole folder to its name; where another process was faster, its folder stays."""
    if folder.exists() and not (folder / "meta.json").exists():
        shutil.rmtree(folder)  # whole folders have one: these are remains
    try:
        temporary.replace(folder)
    except OSError:
        if not (folder / "meta.json").exists():
            raise


def _write_split(path: Path, table: pa.Table, encode: Callable[[pa.Table], pa.Table]) -> None:
    """Tokenise a split some rows at a time (token ids as Python numbers take ten times their size) and write it as one block."""
    starts = range(0, max(1, table.num_rows), _ROWS_AT_ONCE)
    whole = pa.concat_tables([encode(table.slice(start, _ROWS_AT_ONCE)) for start in starts]).combine_chunks()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, whole.schema) as writer:
        writer.write_table(whole)


def _encode_rows(
    tokenizer: Any, table: pa.Table, *, facts: TaskFacts, text_columns: Sequence[str], family: Family, max_length: int
) -> pa.Table:
    columns = [table[name].to_pylist() for name in text_columns]
    rows_of_ids = pa.large_list(pa.int32())
    names = ["input_ids"]
    if family is Family.TEXT_TO_TEXT:
        first = [
            f"{facts.name} " + " ".join(f"{name}: {text}" for name, text in zip(text_columns, row, strict=True))
            for row in zip(*columns, strict=True)
        ]
        second = None
    else:
        separator = f" {tokenizer.sep_token} " if tokenizer.sep_token else " "
        first = columns[0]
        second = [separator.join(row) for row in zip(*columns[1:], strict=True)] if len(columns) > 1 else None
        if second is not None and "token_type_ids" in tokenizer.model_input_names:
            names.append("token_type_ids")
    encoded = tokenizer(first, second, truncation=True, max_length=max_length) if first else {key: [] for key in names}
    arrays: dict[str, pa.Array] = {name: pa.array(encoded[name], rows_of_ids) for name in names}
    labels = table["label"].cast(pa.float64() if facts.regression else pa.int64())
    return pa.table({**arrays, "label": labels})
