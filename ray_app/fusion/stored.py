"""The tensors of a checkpoint on disk, read piece by piece with numpy alone: memory is what is asked for, never a model."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ray_app.hub.safetensors_header import (
    INDEX_NAME,
    LENGTH_BYTES,
    SINGLE_NAME,
    TensorInfo,
    read_header,
    read_weights,
    shard_names,
)
from tracking.errors import CheckpointError

_FLOATS: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
"""How floating-point types stand in the file; bfloat16, which numpy lacks, as the upper half of a float32."""


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """Where a tensor is."""

    info: TensorInfo
    file: int
    """File descriptor."""
    begin: int
    """Its first byte in the file."""

    @property
    def size_bytes(self) -> int:
        """Bytes it takes in the file."""
        return self.info.end - self.info.begin


class StoredModel:
    """A checkpoint folder, open for reading: model.safetensors, or the shards of its index; or one file. Any thread may read.

    Raises:
        CheckpointError: no safetensors, or damaged ones.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tensors: dict[str, StoredTensor] = {}
        self._files = ExitStack()
        try:
            for path, names in _files_of(folder).items():
                self._add(path, names)
        except OSError as error:
            self.close()
            raise CheckpointError(
                f"{folder} cannot be read ({error.strerror or error}), expected a readable checkpoint; check its permissions",
                path=str(folder),
            ) from error

    def _add(self, path: Path, names: set[str]) -> None:
        file = os.open(path, os.O_RDONLY)
        self._files.callback(os.close, file)
        data = LENGTH_BYTES + int.from_bytes(os.pread(file, LENGTH_BYTES, 0), "little")
        for name, info in read_header(path).items():
            if name in names:
                self.tensors[name] = StoredTensor(info=info, file=file, begin=data + info.begin)

    def floats(self, name: str, start: int, stop: int, *, into: np.ndarray | None = None) -> np.ndarray:
        """Elements ``start`` to ``stop`` of a flattened floating-point tensor: float32, or float64 where it is stored so.

        Args:
            name: of the tensor.
            start: first element.
            stop: element after the last one.
            into: bytes (uint8, 8 for each element) that the result may stand in until they are used again.

        Raises:
            CheckpointError: the file ended, or could not be read.
        """
        dtype = _FLOATS[self.tensors[name].info.dtype]
        raw = self._read(name, start * dtype.itemsize, (stop - start) * dtype.itemsize, into).view(dtype)
        if self.tensors[name].info.dtype == "BF16":
            return (raw.astype(np.uint32) << 16).view(np.float32)
        return raw.astype(np.float32) if raw.dtype == np.float16 else raw

    def raw(self, name: str) -> bytes:
        """The bytes of a whole tensor."""
        return self._read(name, 0, self.tensors[name].size_bytes).tobytes()

    def _read(self, name: str, offset: int, count: int, into: np.ndarray | None = None) -> np.ndarray:
        tensor = self.tensors[name]
        buffer = np.empty(count, np.uint8) if into is None else into[:count]
        view, done = buffer.data, 0
        while done < count:
            try:
                got = os.preadv(tensor.file, [view[done:]], tensor.begin + offset + done)
            except OSError as error:
                raise self._unreadable(name, error.strerror or str(error)) from error
            if not got:
                raise self._unreadable(name, "the file has become shorter")
            done += got
        return buffer

    def _unreadable(self, name: str, reason: str) -> CheckpointError:
        return CheckpointError(
            f"tensor '{name}' of {self.folder} cannot be read ({reason}), expected a whole file; get the checkpoint again or leave "
            "it out",
            path=str(self.folder),
            tensor=name,
        )

    def close(self) -> None:
        """Close its files."""
        self._files.close()

    def __enter__(self) -> StoredModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _files_of(folder: Path) -> dict[Path, set[str]]:
    """Safetensors files of a checkpoint, and the tensors it takes from each."""
    if folder.is_file():
        return {folder: set(read_header(folder))}
    weights = read_weights(folder)
    if folder / SINGLE_NAME in weights.files:
        return {folder / SINGLE_NAME: set(weights.tensors)}
    index = shard_names((folder / INDEX_NAME).read_bytes(), where=str(folder))
    return {path: {name for name, shard in index.items() if shard == path.name} for path in weights.files}
