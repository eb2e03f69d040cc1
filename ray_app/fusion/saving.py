"""A checkpoint written tensor by tensor under a temporary name and renamed when it is whole; an old one stays until then."""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np

from ray_app.hub.model_files import FETCHED_FILES, TOKENIZER_FILES
from ray_app.hub.safetensors_header import SINGLE_NAME
from tracking.errors import ConfigError, StorageError

_HEAD_SETTINGS = (
    "id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "classifier_dropout", "_name_or_path", "torch_dtype",
    "_num_labels",
)  # fmt: skip
"""Settings of config.json that are about a head, or about where a model was, and not about its body."""
_SPARE_BYTES = 16 << 20
"""Space besides the weights: tokenizer, configuration, card."""
_LEFTOVER_S = 24 * 3600
"""Age at which an unfinished checkpoint is taken for that of a dead process."""
_IMAGE_FILES = frozenset({"preprocessor_config.json"})


class CheckpointWriter:
    """Makes a checkpoint folder: tensors at any place and from any thread, then the rest, then its name.

    The space of the weights is taken at once, so that a full disk is told before anything is read; where it fills up all the same,
    nothing of the new checkpoint stays.

    Args:
        out: folder of the checkpoint.
        shapes: tensors that will be written, float32.
        whole: tensors that are copied, as (safetensors type, shape, bytes).
        stored_as: names that differ in the file.

    Raises:
        ConfigError: ``out`` is there and is no checkpoint.
        StorageError: disk full or folder unwritable.
    """

    def __init__(
        self,
        out: Path,
        shapes: Mapping[str, tuple[int, ...]],
        whole: Mapping[str, tuple[str, tuple[int, ...], bytes]],
        *,
        stored_as: Mapping[str, str] | None = None,
    ) -> None:
        self.out = out
        self._stored_as = stored_as or {}
        self.temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
        self._places: dict[str, int] = {}
        self._file = -1
        _restore(out)
        if out.exists() and not (out / "config.json").is_file():
            raise ConfigError(f"{out} is there and is no checkpoint, expected a free name; it is left as it is")
        header, size = self._layout(shapes, whole)
        try:
            self._begin(header, size, whole)
        except OSError as error:
            self.discard()
            raise self._failed(error) from error

    def _layout(
        self, shapes: Mapping[str, tuple[int, ...]], whole: Mapping[str, tuple[str, tuple[int, ...], bytes]]
    ) -> tuple[bytes, int]:
        """Header of the file and its whole size; notes where every tensor begins."""
        entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
        at = 0
        parts = {name: ("F32", shape, 4 * int(np.prod(shape))) for name, shape in shapes.items()}
        parts |= {name: (dtype, shape, len(data)) for name, (dtype, shape, data) in whole.items()}
        for name, (dtype, shape, size) in parts.items():
            entries[self._stored_as.get(name, name)] = {
                "dtype": dtype,
                "shape": list(shape),
                "data_offsets": [at, at + size],
            }
            self._places[name] = at
            at += size
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        header = len(text).to_bytes(8, "little") + text
        self._places = {name: len(header) + place for name, place in self._places.items()}
        return header, len(header) + at

    def _begin(self, header: bytes, size: int, whole: Mapping[str, tuple[str, tuple[int, ...], bytes]]) -> None:
        self.out.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.out.parent).free
        if free < size + _SPARE_BYTES:
            raise OSError(errno.ENOSPC, f"{size + _SPARE_BYTES:,} bytes are needed and {free:,} are free")
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir()
        self._file = os.open(self.temporary / SINGLE_NAME, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        os.posix_fallocate(self._file, 0, size)
        _write_all(self._file, memoryview(header), 0)
        for name, (_, _, data) in whole.items():
            _write_all(self._file, memoryview(data), self._places[name])

    def write(self, name: str, start: int, values: np.ndarray) -> None:
        """Put float32 elements of a tensor at their place.

        Raises:
            StorageError: the disk is full or fails.
        """
        try:
            _write_all(self._file, values.data.cast("B"), self._places[name] + 4 * start)
        except OSError as error:
            raise self._failed(error) from error

    def finish(self, *, like: Path, tokenizer: Path, class_name: str, card: str) -> None:
        """Add configuration, tokenizer and card, flush all of it to disk and give the folder its name.

        Args:
            like: checkpoint whose config.json it gets, without what is about a head.
            tokenizer: checkpoint whose tokenizer it gets.
            class_name: transformers class of the body.
            card: text of README.md.

        Raises:
            StorageError: disk full or folder unwritable; what was there before is still there.
        """
        try:
            os.fsync(self._file)
            os.close(self._file)
            self._file = -1
            config = body_config((like / "config.json").read_bytes(), class_name)
            (self.temporary / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
            (self.temporary / "README.md").write_text(card)
            for name in sorted(FETCHED_FILES - {"config.json", "README.md", "model.safetensors.index.json"}):
                origin = tokenizer if name in TOKENIZER_FILES | _IMAGE_FILES else like
                if (origin / name).is_file():
                    shutil.copyfile(origin / name, self.temporary / name)
            for path in [*self.temporary.iterdir(), self.temporary]:
                _flush(path)
            _replace(self.temporary, self.out)
        except OSError as error:
            raise self._failed(error) from error

    def discard(self) -> None:
        """Remove what is unfinished."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        shutil.rmtree(self.temporary, ignore_errors=True)

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _failed(self, error: OSError) -> StorageError:
        kept = "; the one that was there is as it was" if self.out.exists() else ""
        return StorageError(
            f"cannot write the checkpoint {self.out} ({error.strerror or error}){kept}; free space or choose another folder",
            path=str(self.out),
        )


def body_config(raw: bytes, class_name: str) -> dict[str, object]:
    """config.json of a body in float32, from that of a checkpoint that may have a head."""
    config: dict[str, object] = {key: value for key, value in json.loads(raw).items() if key not in _HEAD_SETTINGS}
    return {**config, "architectures": [class_name], "dtype": "float32"}


def _write_all(file: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(file, data[done:], offset + done)


def _flush(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _old(out: Path) -> Path:
    return out.with_name(f".{out.name}.old")


def _restore(out: Path) -> None:
    """Put back what a process that ended between two renames left under its other name, and remove what killed ones left."""
    if not out.exists() and _old(out).is_dir():
        _old(out).replace(out)
    for leftover in out.parent.glob(f".{glob.escape(out.name)}.*.tmp"):
        if time.time() - leftover.stat().st_mtime > _LEFTOVER_S:
            shutil.rmtree(leftover, ignore_errors=True)


def _replace(new: Path, out: Path) -> None:
    """Give a folder the name of another, which is removed; either the old or the new one is there at any time but for an instant,
    and after a crash in that instant the old one is put back by the next writer."""
    old = _old(out)
    if out.exists():
        shutil.rmtree(old, ignore_errors=True)
        out.replace(old)
        try:
            new.replace(out)
        except OSError:
            old.replace(out)
            raise
        shutil.rmtree(old, ignore_errors=True)
    else:
        new.replace(out)
    _flush(out.parent)
