"""Cutting rows into micro-batches and padding them, against brute force."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_app.training.batches import PAD_TO, collate, cut, in_length_order
from ray_app.training.tokens import EncodedSplit


def store(path: Path, ids: Sequence[Sequence[int]], labels: pa.Array, *, segments: bool = False) -> EncodedSplit:
    """A split as it lies on disk; the segment of a token is its id modulo 2."""
    kind = pa.large_list(pa.int32())
    columns = {"input_ids": pa.array(ids, kind)}
    if segments:
        columns["token_type_ids"] = pa.array([[token % 2 for token in row] for row in ids], kind)
    table = pa.table({**columns, "label": labels})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return EncodedSplit(path)


def padded(length: int) -> int:
    """The next multiple of 8."""
    while length % PAD_TO:
        length += 1
    return length


@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=60),
    max_tokens=st.integers(8, 400),
    seed=st.integers(0, 3),
)
@settings(max_examples=200, deadline=None)
def test_every_row_once_within_the_budget_and_no_piece_could_be_longer(
    lengths: list[int], max_tokens: int, seed: int
) -> None:
    held = np.array(lengths)
    rows = np.random.default_rng(seed).permutation(len(held))[: max(1, len(held) - 3)]
    pieces = cut(rows, held, max_tokens=max_tokens)
    assert sorted(np.concatenate(pieces)) == sorted(rows)
    for piece in pieces:
        assert len(piece) == 1 or len(piece) * padded(held[piece].max()) <= max_tokens
    order = np.concatenate(pieces)
    assert all(held[left] <= held[right] for left, right in itertools.pairwise(order))
    for piece, following in itertools.pairwise(pieces):  # greedy: one row more would not have fitted
        assert (len(piece) + 1) * padded(held[following[0]]) > max_tokens


def test_pieces_by_hand() -> None:
    lengths = np.array([3, 30, 8, 9, 5, 16])
    # sorted: rows 0 (3), 4 (5), 2 (8), 3 (9), 5 (16), 1 (30); padded 8 8 8 16 16 32; at most 32 tokens
    pieces = cut(np.arange(6), lengths, max_tokens=32)
    assert [piece.tolist() for piece in pieces] == [[0, 4, 2], [3, 5], [1]]


def test_an_over_long_row_stands_alone_and_ties_keep_their_order() -> None:
    lengths = np.array([100, 4, 4, 90, 4])
    pieces = cut(np.array([4, 0, 2, 3, 1]), lengths, max_tokens=24)
    assert [piece.tolist() for piece in pieces] == [[4, 2, 1], [3], [0]]


def test_no_rows_make_no_pieces() -> None:
    assert cut(np.array([], dtype=np.int64), np.array([3]), max_tokens=8) == []


@pytest.mark.parametrize("segments", [False, True])
def test_padding_against_a_loop_over_tokens(tmp_path: Path, segments: bool) -> None:
    generator = np.random.default_rng(0)
    ids = [generator.integers(5, 90, size=length).tolist() for length in (4, 11, 1, 8, 13)]
    split = store(tmp_path / "s.arrow", ids, pa.array([2, 0, 1, 1, 0], pa.int64()), segments=segments)
    rows = np.array([3, 1, 4])
    batch = collate(split, rows, pad_id=77)
    expected = {
        "input_ids": torch.full((3, 16), 77),
        "attention_mask": torch.zeros(3, 16, dtype=torch.int64),
        "token_type_ids": torch.zeros(3, 16, dtype=torch.int64),
    }
    for place, row in enumerate(rows):
        for column, token in enumerate(ids[row]):
            expected["input_ids"][place, column] = token
            expected["attention_mask"][place, column] = 1
            expected["token_type_ids"][place, column] = token % 2
    if not segments:
        del expected["token_type_ids"]
    assert set(batch.inputs) == set(expected)
    for name, tensor in expected.items():
        assert batch.inputs[name].dtype == torch.int64
        assert torch.equal(batch.inputs[name], tensor)
    assert batch.labels.tolist() == [1, 0, 0] and batch.labels.dtype == torch.int64
    assert (batch.n_tokens, batch.length) == (8 + 11 + 13, 16)
    np.testing.assert_array_equal(batch.rows, rows)


def test_padding_to_a_given_length_and_numbers_as_float32(tmp_path: Path) -> None:
    split = store(tmp_path / "s.arrow", [[1, 2], [3]], pa.array([0.5, 4.25]))
    batch = collate(split, np.array([1, 0]), pad_id=0, pad_to=5)
    assert batch.inputs["input_ids"].tolist() == [[3, 0, 0, 0, 0], [1, 2, 0, 0, 0]]
    assert batch.labels.dtype == torch.float32 and batch.labels.tolist() == [4.25, 0.5]


def test_evaluation_sees_every_row_once(tmp_path: Path) -> None:
    ids = [[1] * length for length in (9, 2, 30, 2, 17, 8)]
    split = store(tmp_path / "s.arrow", ids, pa.array([0] * 6, pa.int64()))
    pieces = list(in_length_order(split, max_tokens=24))
    assert [piece.tolist() for piece in pieces] == [[1, 3, 5], [0], [4], [2]]
