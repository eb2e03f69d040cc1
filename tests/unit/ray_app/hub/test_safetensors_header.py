"""The header reader against hand-made files and against the safetensors library as an independent implementation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from ray_app.hub.safetensors_header import header_size, parse_header, read_header, read_weights, shard_names
from tracking.errors import CheckpointError


def _file(header: object, buffer: bytes) -> bytes:
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + buffer


def _tensor(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def _read(content: bytes, folder: Path) -> object:
    path = folder / "model.safetensors"
    path.write_bytes(content)
    return read_header(path)


def test_a_hand_made_file_is_read(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "b": _tensor("I64", [2], 12, 28),
        "a": _tensor("F32", [3], 0, 12),
        "empty": _tensor("F16", [0, 4], 28, 28),
    }
    (tmp_path / "model.safetensors").write_bytes(_file(header, bytes(28)))
    weights = read_weights(tmp_path)
    assert list(weights.tensors) == ["a", "b", "empty"]
    assert weights.tensors["a"].shape == (3,)
    assert weights.tensors["b"].dtype == "I64"
    assert weights.size_bytes == 28  # 3 x 4 + 2 x 8 + 0
    assert weights.n_parameters == 3  # the integers are no parameters


def test_a_file_of_the_library_is_read_as_the_library_reads_it(tmp_path: Path) -> None:
    arrays: dict[str, np.ndarray] = {
        "layer.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
        "layer.half": np.ones((2, 2, 2), dtype=np.float16),
        "ids": np.arange(5),
        "scalar": np.array(1.5),
    }
    path = tmp_path / "model.safetensors"
    save_file(arrays, path, metadata={"format": "np"})
    ours = read_header(path)
    with safetensors.safe_open(path, framework="np") as theirs:
        assert set(ours) == set(theirs.keys())
        for name in theirs.keys():  # noqa: SIM118 - not a dict
            assert list(ours[name].shape) == theirs.get_slice(name).get_shape()
            assert ours[name].dtype == theirs.get_slice(name).get_dtype()
            assert ours[name].n_elements == arrays[name].size


_DAMAGED = {
    "empty file": b"",
    "seven bytes": b"\0" * 7,
    "header beyond the file": (10**6).to_bytes(8, "little") + b"{}",
    "header beyond the limit": (2**63).to_bytes(8, "little") + b"{}",
    "not JSON": (4).to_bytes(8, "little") + b"{abc",
    "not UTF-8": (4).to_bytes(8, "little") + b'{"\xff\xfe',
    "a list": _file([1], b""),
    "an entry that is none": _file({"a": 3}, b""),
    "no offsets": _file({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)),
    "unknown type": _file({"a": _tensor("F33", [1], 0, 4)}, bytes(4)),
    "negative shape": _file({"a": _tensor("F32", [-1], 0, 4)}, bytes(4)),
    "shape of fractions": _file({"a": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]}}, bytes(4)),
    "shape of true": _file({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, bytes(4)),
    "three offsets": _file({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2, 4]}}, bytes(4)),
    "shape and bytes disagree": _file({"a": _tensor("F32", [2], 0, 4)}, bytes(4)),
    "end before begin": _file({"a": _tensor("F32", [1], 4, 0)}, bytes(4)),
    "a hole": _file({"a": _tensor("F32", [1], 0, 4), "b": _tensor("F32", [1], 8, 12)}, bytes(12)),
    "an overlap": _file({"a": _tensor("F32", [2], 0, 8), "b": _tensor("F32", [1], 4, 8)}, bytes(8)),
    "cut short": _file({"a": _tensor("F32", [2], 0, 8)}, bytes(7)),
    "too long": _file({"a": _tensor("F32", [2], 0, 8)}, bytes(9)),
    "starts late": _file({"a": _tensor("F32", [1], 4, 8)}, bytes(8)),
}


@pytest.mark.parametrize("name", _DAMAGED)
def test_damage_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged: .*; get the checkpoint again"):
        _read(_DAMAGED[name], tmp_path)


@pytest.mark.parametrize("name", _DAMAGED)
def test_the_library_refuses_the_same_files(name: str) -> None:
    with pytest.raises(safetensors.SafetensorError):
        safetensors.deserialize(_DAMAGED[name])


def test_a_key_twice_is_refused(tmp_path: Path) -> None:
    entry = json.dumps(_tensor("F32", [1], 0, 4))
    raw = f'{{"a": {entry}, "a": {entry}}}'.encode()
    with pytest.raises(CheckpointError, match="JSON cannot be read"):
        _read(len(raw).to_bytes(8, "little") + raw + bytes(4), tmp_path)


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=64))
def test_any_bytes_are_read_or_refused_in_our_own_words(content: bytes) -> None:
    try:
        length = header_size(content, name="f", file_size=len(content))
        parse_header(content[8 : 8 + length], name="f", file_size=len(content))
    except CheckpointError as error:
        assert str(error).startswith("f is damaged: ")


@settings(max_examples=100, deadline=None)
@given(cut=st.integers(min_value=0, max_value=131))
def test_a_file_cut_anywhere_is_refused(cut: int) -> None:
    whole = _file({"a": _tensor("F32", [4], 0, 16), "b": _tensor("F32", [2], 16, 24)}, bytes(24))
    assert len(whole) > 131
    content = whole[:cut]
    with pytest.raises(CheckpointError):
        length = header_size(content, name="f", file_size=cut)
        parse_header(content[8 : 8 + length], name="f", file_size=cut)


def test_shards_are_joined(tmp_path: Path) -> None:
    save_file({"a": np.ones((2, 3), dtype=np.float32)}, tmp_path / "model-1.safetensors")
    save_file({"b": np.ones(5, dtype=np.float32)}, tmp_path / "model-2.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    weights = read_weights(tmp_path)
    assert weights.n_parameters == 11
    assert [path.name for path in weights.files] == ["model-1.safetensors", "model-2.safetensors"]
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"names 2 files and these are missing: model-2\.safetensors"):
        read_weights(tmp_path)


def test_an_index_that_lies_is_refused(tmp_path: Path) -> None:
    save_file({"a": np.ones(2, dtype=np.float32)}, tmp_path / "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "c": "model-1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="holds the tensor 'c', which it does not"):
        read_weights(tmp_path)


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/passwd", "sub/model.safetensors", "model.bin", 7, ""])
def test_an_index_may_only_name_files_beside_it(shard: object) -> None:
    with pytest.raises(CheckpointError, match="expected a safetensors file of the same folder"):
        shard_names(json.dumps({"weight_map": {"a": shard}}).encode(), where="org/name")


@pytest.mark.parametrize("text", ["{}", '{"weight_map": {}}', '{"weight_map": 3}', "[]", "{"])
def test_an_index_without_a_map_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json of org/name is damaged"):
        shard_names(text.encode(), where="org/name")


def test_pickled_weights_alone_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"has only pickled weights \(pytorch_model\.bin\)") as caught:
        read_weights(tmp_path)
    assert caught.value.values["pickled"] == ["pytorch_model.bin"]


def test_no_weights_at_all_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"has no weights: expected model\.safetensors .* found config\.json"):
        read_weights(tmp_path)


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(_file({}, b""))
    with pytest.raises(CheckpointError, match="it holds no tensor"):
        read_weights(tmp_path)
