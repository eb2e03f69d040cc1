"""The header of a safetensors file, read and checked without torch: what tensors are there, and is the file whole.

Source: the format description of the safetensors project (README, "Format"): 8 bytes, a little-endian unsigned 64-bit N;
N bytes of JSON, padded with spaces, ``{name: {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {...}}``;
the rest is one byte buffer that the tensors cover without holes.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from tracking.errors import CheckpointError

LENGTH_BYTES = 8
"""Bytes before the JSON that hold its length."""
MAX_HEADER_BYTES = 100_000_000
"""Longest header the format allows."""

_BITS = {
    **dict.fromkeys(["BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"], 8),
    **dict.fromkeys(["U16", "I16", "F16", "BF16"], 16),
    **dict.fromkeys(["U32", "I32", "F32"], 32),
    **dict.fromkeys(["U64", "I64", "F64", "C64"], 64),
    **dict.fromkeys(["F6_E2M3", "F6_E3M2"], 6),
    "F4": 4,
}

SINGLE_NAME = "model.safetensors"
"""Weights in one file."""
INDEX_NAME = "model.safetensors.index.json"
"""Which shard holds which tensor, where weights stand in several files."""
_SHARD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors")


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """One tensor of a header."""

    dtype: str
    """Type as the format spells it, such as F32."""
    shape: tuple[int, ...]
    """Length of each axis; empty for a scalar."""
    begin: int
    """First byte in the buffer after the header."""
    end: int
    """Byte after its last one."""

    @property
    def n_elements(self) -> int:
        """Product of the shape."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """True for a type that weights have (F16, BF16, F32, F64)."""
        return self.dtype in {"F16", "BF16", "F32", "F64"}


@dataclass(frozen=True, kw_only=True)
class Weights:
    """All tensors of a checkpoint, over all its shards."""

    tensors: dict[str, TensorInfo]
    """Name -> tensor."""
    files: tuple[Path, ...]
    """The safetensors files that hold them."""

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensors, headers left out."""
        return sum(tensor.end - tensor.begin for tensor in self.tensors.values())

    @property
    def n_parameters(self) -> int:
        """Elements of all floating-point tensors (position ids and other integer buffers are not parameters)."""
        return sum(tensor.n_elements for tensor in self.tensors.values() if tensor.is_float)


def header_size(first: bytes, *, name: str, file_size: int) -> int:
    """Length in bytes of the JSON header, from the first 8 bytes of the file.

    Args:
        first: at least the first 8 bytes.
        name: what to call the file in an error.
        file_size: bytes of the whole file.

    Raises:
        CheckpointError: the file is too short, or the length is beyond the file or the format's limit.
    """
    if len(first) < LENGTH_BYTES:
        raise _damaged(name, f"it has {file_size} bytes, fewer than the {LENGTH_BYTES} that open every such file")
    length = int.from_bytes(first[:LENGTH_BYTES], "little")
    if length > MAX_HEADER_BYTES or length + LENGTH_BYTES > file_size:
        raise _damaged(name, f"its header claims {length} bytes in a file of {file_size}")
    return length


def parse_header(raw: bytes, *, name: str, file_size: int) -> dict[str, TensorInfo]:
    """Tensors named in a JSON header, checked against the size of the file.

    Args:
        raw: the header's JSON, without the 8 bytes before it.
        name: what to call the file in an error.
        file_size: bytes of the whole file.

    Returns:
        Tensor name -> tensor, in the order of the buffer.

    Raises:
        CheckpointError: not JSON, an unknown type, a shape that disagrees with its bytes, holes or overlaps in the
            buffer, or a file that ends before its last tensor does.

    Cost: n log n in the number of tensors.
    """
    entries = _json_object(raw, name)
    entries.pop("__metadata__", None)
    tensors = {key: _tensor(key, entry, name) for key, entry in entries.items()}
    ordered = dict(sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)))
    position = 0
    for key, tensor in ordered.items():
        if tensor.begin != position:
            raise _damaged(name, f"tensor '{key}' begins at byte {tensor.begin}, expected {position}")
        position = tensor.end
    buffer_size = file_size - LENGTH_BYTES - len(raw)
    if position != buffer_size:
        cut = "cut short" if position > buffer_size else "longer than its header says"
        raise _damaged(name, f"its tensors take {position} bytes and {buffer_size} are there: the file is {cut}")
    return ordered


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Tensors of one safetensors file; only its header is read.

    Raises:
        CheckpointError: the file is missing or damaged (see `parse_header`).
    """
    try:
        file_size = path.stat().st_size
        with path.open("rb") as file:
            length = header_size(file.read(LENGTH_BYTES), name=str(path), file_size=file_size)
            raw = file.read(length)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}), expected a safetensors file; get the checkpoint again.",
            file=str(path),
        ) from error
    return parse_header(raw, name=str(path), file_size=file_size)


def read_weights(folder: Path) -> Weights:
    """Headers of model.safetensors, or of all shards that model.safetensors.index.json names.

    Raises:
        CheckpointError: neither is there (only pickled weights, or none at all), a shard is missing, a file is damaged,
            or the index names a tensor its shard does not hold.
    """
    if (folder / SINGLE_NAME).is_file():
        weights = Weights(tensors=read_header(folder / SINGLE_NAME), files=(folder / SINGLE_NAME,))
    elif (folder / INDEX_NAME).is_file():
        weights = _read_shards(folder)
    else:
        raise no_safetensors(sorted(entry.name for entry in folder.iterdir()), where=str(folder))
    if not weights.tensors:
        raise _damaged(str(weights.files[0]), "it holds no tensor")
    return weights


def no_safetensors(file_names: list[str], *, where: str) -> CheckpointError:
    """The error for a checkpoint without model.safetensors: says whether pickled weights are all it has."""
    pickled = [name for name in file_names if _is_pickled_weights(name)]
    if pickled:
        return CheckpointError(
            f"{where} has only pickled weights ({', '.join(pickled)}), which can run code when loaded; expected {SINGLE_NAME}: "
            "ask its owner to convert it, name a revision that has it (conversions often wait as refs/pr/<number>), or leave "
            "it out.",
            pickled=pickled,
        )
    return CheckpointError(
        f"{where} has no weights: expected {SINGLE_NAME} or {INDEX_NAME}, found "
        f"{', '.join(file_names[:8]) or 'an empty folder'}; name a full checkpoint.",
        found=file_names,
    )


def shard_names(index: bytes, *, where: str) -> dict[str, str]:
    """Tensor name -> shard file name, from the text of model.safetensors.index.json.

    Raises:
        CheckpointError: not JSON, no ``weight_map``, or a shard name that is not a plain safetensors file name.
    """
    weight_map = _json_object(index, f"{INDEX_NAME} of {where}").get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise _damaged(f"{INDEX_NAME} of {where}", "it has no 'weight_map' from tensors to files")
    for shard in weight_map.values():
        if not isinstance(shard, str) or not _SHARD_NAME.fullmatch(shard):
            raise CheckpointError(
                f"{INDEX_NAME} of {where} names the file {shard!r}; expected a safetensors file of the same folder: "
                "do not use this checkpoint.",
                shard=shard,
            )
    return weight_map


def _read_shards(folder: Path) -> Weights:
    weight_map = shard_names((folder / INDEX_NAME).read_bytes(), where=str(folder))
    shards = sorted(set(weight_map.values()))
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing:
        raise _damaged(
            str(folder / INDEX_NAME), f"it names {len(shards)} files and these are missing: {', '.join(missing)}"
        )
    headers = {shard: read_header(folder / shard) for shard in shards}
    tensors = {}
    for name, shard in weight_map.items():
        if name not in headers[shard]:
            raise _damaged(
                str(folder / INDEX_NAME), f"it says that {shard} holds the tensor '{name}', which it does not"
            )
        tensors[name] = headers[shard][name]
    return Weights(tensors=tensors, files=tuple(folder / shard for shard in shards))


def _json_object(raw: bytes, name: str) -> dict[str, object]:
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique_pairs)
    except (ValueError, RecursionError) as error:
        raise _damaged(name, f"its JSON cannot be read ({type(error).__name__})") from error
    if not isinstance(value, dict):
        raise _damaged(name, "its JSON is not an object")
    return value


def _unique_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key stands twice")
    return keys


def _tensor(key: str, entry: object, name: str) -> TensorInfo:
    if not isinstance(entry, dict):
        raise _damaged(name, f"the entry of tensor '{key}' is not an object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise _damaged(name, f"tensor '{key}' has the unknown type {dtype!r}")
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise _damaged(name, f"tensor '{key}' has no valid shape and data_offsets")
    tensor = TensorInfo(dtype=dtype, shape=tuple(shape), begin=offsets[0], end=offsets[1])
    if tensor.n_elements * _BITS[dtype] != 8 * (tensor.end - tensor.begin):
        raise _damaged(
            name, f"tensor '{key}' of shape {list(shape)} and type {dtype} has {tensor.end - tensor.begin} bytes"
        )
    return tensor


def _are_counts(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _is_pickled_weights(name: str) -> bool:
    is_pickle = name.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack"))
    return is_pickle and name.startswith(
        ("pytorch_model", "model", "tf_model", "flax_model", "weights", "consolidated")
    )


def _damaged(name: str, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{name} is damaged: {reason}; get the checkpoint again or leave it out.", file=name, reason=reason
    )
