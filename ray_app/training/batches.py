"""Batches: which rows, cut into micro-batches by length, padded to their own longest row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ray_app.training.pixels import PIXEL_VALUES, PixelSplit, Scaling
from ray_app.training.tokens import Split

PAD_TO = 8
"""Padded lengths are multiples of this, which matrix units like."""


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Rows that go through the model together."""

    rows: np.ndarray
    """Row numbers in the split, shape (n_rows,)."""
    inputs: dict[str, torch.Tensor]
    """input_ids, attention_mask and, where the task has pairs, token_type_ids; each (n_rows, length), int64. Of images
    pixel_values: (n_rows, height, width, 3) uint8 until ``place`` makes them numbers."""
    labels: torch.Tensor
    """Class ids (int64) or numbers (float32), shape (n_rows,)."""
    n_tokens: int
    """Tokens that are not padding; of images patches."""
    scaling: Scaling | None = None
    """What makes bytes of images numbers; None for text, and once done."""

    @property
    def length(self) -> int:
        """Padded length."""
        return int(self.inputs["input_ids"].shape[1])


def cut(rows: np.ndarray, lengths: np.ndarray, *, max_tokens: int) -> list[np.ndarray]:
    """Cut rows into micro-batches of similar length: sorted by length, each at most ``max_tokens`` when padded.

    A row longer than ``max_tokens`` stands alone. Ties keep the order of ``rows``.

    Args:
        rows: row numbers, shape (n,).
        lengths: length of every row of the split, tokens.
        max_tokens: limit of rows x padded length.
    """
    ordered = rows[np.argsort(lengths[rows], kind="stable")]
    padded = -(-lengths[ordered] // PAD_TO) * PAD_TO
    pieces, start = [], 0
    for stop in range(1, len(ordered) + 1):
        if stop == len(ordered) or (stop + 1 - start) * padded[stop] > max_tokens:
            pieces.append(ordered[start:stop])
            start = stop
    return pieces


def collate(split: Split, rows: np.ndarray, *, pad_id: int, pad_to: int | None = None) -> MicroBatch:
    """Put the given rows, at least one, together; tokens are padded to the longest (a multiple of 8), or to ``pad_to``."""
    lengths = split.lengths[rows]
    labels = split.labels[rows]
    as_label = torch.from_numpy(labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64))
    if isinstance(split, PixelSplit):
        pixels = {PIXEL_VALUES: torch.from_numpy(split.pixels(rows))}
        return MicroBatch(rows=rows, inputs=pixels, labels=as_label, n_tokens=int(lengths.sum()), scaling=split.scaling)
    width = int(-(-lengths.max() // PAD_TO) * PAD_TO) if pad_to is None else pad_to
    places = np.arange(width)[None, :] < lengths[:, None]
    ends = np.cumsum(lengths)
    source = np.arange(ends[-1]) + np.repeat(split.offsets[rows] - (ends - lengths), lengths)
    ids = np.full(places.shape, pad_id, dtype=np.int64)
    ids[places] = split.tokens[source]
    inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(places.astype(np.int64))}
    if split.segments is not None:
        segments = np.zeros(places.shape, dtype=np.int64)
        segments[places] = split.segments[source]
        inputs["token_type_ids"] = torch.from_numpy(segments)
    return MicroBatch(rows=rows, inputs=inputs, labels=as_label, n_tokens=int(lengths.sum()))


def place(batch: MicroBatch, device: torch.device) -> MicroBatch:
    """The batch on a device, as its model reads it: images travel as bytes and become numbers there."""
    if device.type == "cpu" and batch.scaling is None:
        return batch
    inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.inputs.items()}
    if batch.scaling is not None:
        inputs[PIXEL_VALUES] = batch.scaling.apply(inputs[PIXEL_VALUES])
    return MicroBatch(rows=batch.rows, inputs=inputs, labels=batch.labels.to(device), n_tokens=batch.n_tokens)


def in_length_order(split: Split, *, max_tokens: int) -> Iterator[np.ndarray]:
    """Every row of a split once, in micro-batches of similar length (for evaluation)."""
    yield from cut(np.arange(len(split)), split.lengths, max_tokens=max_tokens)
