"""Files of a checkpoint: whatever is in them, a base model is taken or refused in one sentence, before anything is loaded."""

from __future__ import annotations

import json
import struct
import tempfile
from functools import cache
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from ray_app.hub.model_folder import check_architecture, inspect_folder, parse_config
from ray_app.hub.safetensors_header import read_header, read_weights, shard_names
from tests.fuzz.surface import HOSTILE, damaged, fuzzed, plain_json, texts, user_sees
from tests.model_factory import tiny_model

CONFIG, TOKENIZER, WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"
INDEX = "model.safetensors.index.json"

dtypes = st.sampled_from(["F32", "F16", "BF16", "I64", "U8", "F4", "F8_E4M3", "f32", "", "F128"])
counts = st.one_of(st.integers(0, 4), st.integers(-3, 2**70), st.just(2**63))
tensor = st.fixed_dictionaries(
    {}, optional={"dtype": st.one_of(dtypes, plain_json), "shape": st.one_of(st.lists(counts, max_size=4), plain_json),
                  "data_offsets": st.one_of(st.lists(counts, max_size=3), plain_json), "more": plain_json},
)  # fmt: skip
headers = st.dictionaries(
    st.one_of(st.sampled_from(["a", "b", "__metadata__", "a.weight"]), texts), st.one_of(tensor, plain_json), max_size=4
)


@st.composite
def sound_headers(draw: st.DrawFn) -> tuple[bytes, int]:
    """A header whose tensors follow one another, and the bytes they take; sometimes off by a little."""
    entries: dict[str, object] = {}
    position = 0
    for number in range(draw(st.integers(0, 4))):
        shape = draw(st.lists(st.integers(0, 5), max_size=3))
        size = 4
        for length in shape:
            size *= length
        end = position + size + draw(st.sampled_from([0, 0, 0, 0, 1, -1]))
        entries[f"t{number}"] = {"dtype": "F32", "shape": shape, "data_offsets": [position, end]}
        position = end
    return json.dumps(entries).encode(), max(0, position)


@st.composite
def weight_files(draw: st.DrawFn) -> bytes:
    """A safetensors file: made up, nearly sound, or a real one damaged."""
    kind = draw(st.sampled_from(["made up", "nearly sound", "damaged", "length"]))
    if kind == "damaged":
        return draw(damaged(small_weights()))
    if kind == "nearly sound":
        raw, size = draw(sound_headers())
        padding = b" " * draw(st.integers(0, 9))
        return struct.pack("<Q", len(raw + padding)) + raw + padding + bytes(size + draw(st.sampled_from([0, 0, 0, 1])))
    raw = json.dumps(draw(headers), ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")
    length = (
        len(raw) if kind == "made up" else draw(st.sampled_from([0, 1, len(raw) + 1, 2**63, 2**64 - 1, 100_000_001]))
    )
    return struct.pack("<Q", length) + raw + draw(st.binary(max_size=40))


@cache
def small_weights() -> bytes:
    """A real safetensors file of two tensors."""
    import numpy as np
    from safetensors.numpy import save

    return bytes(save({"a": np.ones((2, 3), np.float32), "b": np.arange(4, dtype=np.int64)}, {"format": "pt"}))


@given(weight_files())
@fuzzed(quick=150, share=2.0)
def test_what_the_header_reader_takes_the_library_takes(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / WEIGHTS
        path.write_bytes(content)
        with user_sees("safetensors header and body"):
            tensors = read_header(path)
            read_weights(Path(folder))
            try:
                with safe_open(path, "np") as file:
                    assert set(file.keys()) == set(tensors)
            except SafetensorError as error:
                # types that this library's version does not know, and metadata that it wants to be texts
                known = ("InvalidHeaderDeserialization", "MisalignedSlice", "InvalidOffset", "ValidationOverflow")
                assert any(name in str(error) for name in known), error


@st.composite
def configurations(draw: st.DrawFn) -> bytes:
    """A config.json: a real one with some entries of any value, or damaged, or any JSON."""
    whole = json.loads((tiny_model("bert") / CONFIG).read_text())
    kind = draw(st.sampled_from(["changed", "changed", "changed", "damaged", "any"]))
    if kind == "any":
        return json.dumps(draw(plain_json)).encode(errors="surrogatepass")
    if kind == "damaged":
        return draw(damaged((tiny_model("bert") / CONFIG).read_bytes()))
    keys = st.sampled_from(
        [*whole, "auto_map", "quantization_config", "attn_implementation", "transformers_weights", "text_config"]
    )
    for key in draw(st.lists(keys, min_size=1, max_size=4)):
        whole[key] = draw(plain_json)
    return json.dumps(whole).encode(errors="surrogatepass")


@given(configurations())
@fuzzed(quick=100, share=2.0)
def test_a_configuration_is_taken_or_refused(content: bytes) -> None:
    with user_sees("config.json"):
        stated = parse_config(content, model_id="org/x")
        assert check_architecture(stated, model_id="org/x", expected_model_types=["bert"]) == "bert"


def folder_with(folder: Path, changed: dict[str, bytes]) -> Path:
    """The tiny BERT, some of its files replaced."""
    for path in tiny_model("bert").iterdir():
        if path.name in changed:
            (folder / path.name).write_bytes(changed[path.name])
        else:
            (folder / path.name).symlink_to(path)
    for name in set(changed) - {path.name for path in folder.iterdir()}:
        (folder / name).write_bytes(changed[name])
    return folder


@st.composite
def tokenizer_files(draw: st.DrawFn) -> dict[str, bytes]:
    """tokenizer.json and tokenizer_config.json: real ones with parts of any value, or damaged."""
    changed = {}
    for name in draw(st.sampled_from([(TOKENIZER,), ("tokenizer_config.json",), (TOKENIZER, "tokenizer_config.json")])):
        content = (tiny_model("bert") / name).read_bytes()
        if draw(st.booleans()):
            changed[name] = draw(damaged(content))
            continue
        whole = json.loads(content)
        for key in draw(
            st.lists(st.sampled_from([*whole, "tokenizer_class", "auto_map", "added_tokens"]), min_size=1, max_size=2)
        ):
            part = whole.get(key)
            if isinstance(part, dict) and part and draw(st.booleans()):
                part[draw(st.sampled_from(sorted(part)))] = draw(plain_json)
            else:
                whole[key] = draw(plain_json)
        changed[name] = json.dumps(whole).encode(errors="surrogatepass")
    return changed


@given(st.one_of(tokenizer_files(), configurations().map(lambda content: {CONFIG: content})))
@fuzzed(quick=25, share=0.5)
def test_a_whole_folder_is_taken_or_refused(changed: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as place, user_sees("tokenizer and configuration in a folder"):
        inspect_folder(folder_with(Path(place), changed), model_id="org/x", expected_model_types=["bert"])


shards = st.one_of(
    st.just("a.safetensors"), st.sampled_from(["b.safetensors", "../a.safetensors", "a.bin"]), texts, plain_json
)
indexes = st.one_of(
    st.fixed_dictionaries(
        {"weight_map": st.dictionaries(st.sampled_from(["a", "b"]), st.just("a.safetensors"), min_size=1)}
    ),
    st.fixed_dictionaries(
        {"weight_map": st.dictionaries(st.one_of(st.sampled_from(["a", "b"]), texts), shards, max_size=4)}
    ),
    plain_json,
).map(lambda value: json.dumps(value).encode(errors="surrogatepass"))


@given(
    st.one_of(indexes, st.binary(max_size=60), damaged(b'{"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}'))
)
@fuzzed(quick=100, share=1.0)
def test_an_index_is_taken_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / INDEX).write_bytes(content)
        (folder / "a.safetensors").write_bytes(small_weights())
        with user_sees("index of shards"):
            for shard in shard_names(content, where="x").values():
                assert (folder / shard).parent == folder and shard.endswith(".safetensors") and shard not in HOSTILE
            read_weights(folder)
