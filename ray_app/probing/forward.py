"""One forward pass over a split: every pooling and the source head's answers from the same batches."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from ray_app.probing.backbone import Backbone
from ray_app.probing.settings import POOLINGS, Pooling
from ray_app.training.batches import PAD_TO, collate, in_length_order, place
from ray_app.training.memory import is_out_of_memory
from ray_app.training.models import longest_input
from ray_app.training.pixels import PIXEL_VALUES
from ray_app.training.settings import Precision
from ray_app.training.tokens import Family, Split
from tracking.errors import InputError

SOURCE = "source"
"""Name of the logits of the model's own head, beside the poolings."""

Vectors = dict[str, np.ndarray]
"""By pooling (and ``SOURCE``), float32, shape (n_rows, width)."""


def walk_split(
    backbone: Backbone,
    split: Split,
    *,
    pad_id: int,
    max_tokens: int,
    precision: Precision,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[np.ndarray, Vectors]]:
    """Row numbers and vectors of every micro-batch of a split, in the order of length.

    Args:
        backbone: the frozen model; it is moved to ``device``.
        split: tokenised rows.
        pad_id: id of the padding token.
        max_tokens: most padded tokens of a micro-batch; halved where memory runs out.
        precision: arithmetic, settled (not AUTO).
        device: where to run.

    Raises:
        InputError: rows are longer than the model has positions for.
        ValueError: the hidden states do not have one vector a token.
    """
    _check_length(backbone, split)
    place = torch.device(device)
    backbone.model.to(place)
    with torch.inference_mode():
        for rows in in_length_order(split, max_tokens=max_tokens):
            yield from _within_memory(backbone, split, rows, pad_id=pad_id, precision=precision, device=place)


def _check_length(backbone: Backbone, split: Split) -> None:
    """Refuse rows that the model has no positions for, which torch reports as an index that is out of range."""
    limit = longest_input(backbone.model)
    longest = -(-int(split.lengths.max(initial=0)) // PAD_TO) * PAD_TO
    if limit is not None and longest > limit:
        raise InputError(
            f"rows have up to {longest} tokens (padded to a multiple of {PAD_TO}) and the model has positions for {limit}; set "
            f"probe.max_length={limit // PAD_TO * PAD_TO} or less",
            longest=longest,
            limit=limit,
        )


def _within_memory(
    backbone: Backbone,
    split: Split,
    rows: np.ndarray,
    *,
    pad_id: int,
    precision: Precision,
    device: torch.device,
) -> list[tuple[np.ndarray, Vectors]]:
    """Vectors of one micro-batch; out of memory asks for its halves."""
    try:
        inputs = place(collate(split, rows, pad_id=pad_id), device).inputs
        pool = _pool_images if backbone.family is Family.IMAGE else _pool
        return [(rows, pool(backbone, inputs, precision))]
    except (RuntimeError, MemoryError) as error:
        if len(rows) == 1 or not is_out_of_memory(error):
            raise
    gc.collect()
    return [
        part
        for half in np.array_split(rows, 2)
        for part in _within_memory(backbone, split, half, pad_id=pad_id, precision=precision, device=device)
    ]


def _arithmetic(precision: Precision, device_type: str) -> AbstractContextManager[Any]:
    if precision is Precision.BF16:
        return torch.autocast(device_type, dtype=torch.bfloat16)
    return nullcontext()


def _pool(backbone: Backbone, inputs: dict[str, torch.Tensor], precision: Precision) -> Vectors:
    """Vectors of one batch.

    mean = sum_t m_t h_t / sum_t m_t with m the attention mask; first = h_0; the ``_layers`` ones are averaged over the
    outputs of all layers (hidden state 0, the embeddings, is left out).
    """
    mask = inputs["attention_mask"]
    with _arithmetic(precision, mask.device.type):  # the model alone: pooling stays in float32
        outputs = backbone.model(**inputs, output_hidden_states=True)
    layers = outputs.hidden_states[1:]
    if any(layer.shape[:2] != mask.shape for layer in layers):
        shapes = sorted({tuple(layer.shape[:2]) for layer in layers})
        raise ValueError(
            f"{type(backbone.model).__name__} gives hidden states of shapes {shapes} for a batch of {tuple(mask.shape)}, expected "
            "one vector a token; models that shorten their sequences cannot be probed"
        )
    share = (mask / mask.sum(dim=1, keepdim=True)).unsqueeze(1)
    means = [torch.bmm(share, layer.float()).squeeze(1) for layer in layers]
    found = {Pooling.MEAN: means[-1], Pooling.MEAN_LAYERS: torch.stack(means).mean(dim=0)}
    if Pooling.FIRST in POOLINGS[backbone.family]:
        firsts = [layer[:, 0].float() for layer in layers]
        found |= {Pooling.FIRST: firsts[-1], Pooling.FIRST_LAYERS: torch.stack(firsts).mean(dim=0)}
    vectors = {pooling.value: tensor.cpu().numpy() for pooling, tensor in found.items()}
    if not backbone.no_source_head:
        vectors[SOURCE] = outputs.logits.float().cpu().numpy()
    return vectors


def _pool_images(backbone: Backbone, inputs: dict[str, torch.Tensor], precision: Precision) -> Vectors:
    """Vectors of one batch of images.

    mean = mean over the places (tokens, or height and width) of the backbone's last output; head = what reaches the first module of
    the classification head.
    """
    model = backbone.model
    seen: dict[str, torch.Tensor] = {}

    def keep_last(_module: Any, _given: Any, output: Any) -> None:
        seen[Pooling.MEAN.value] = output.last_hidden_state

    def keep_head(_module: Any, given: Any) -> None:
        seen[Pooling.HEAD.value] = given[0]

    hooks = [
        getattr(model, model.base_model_prefix).register_forward_hook(keep_last),
        model.get_submodule(backbone.head[0]).register_forward_pre_hook(keep_head),
    ]
    try:
        with _arithmetic(precision, inputs[PIXEL_VALUES].device.type):
            outputs = model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    last = seen[Pooling.MEAN.value].float()
    seen[Pooling.MEAN.value] = last.mean(dim=(2, 3)) if last.ndim == 4 else last.mean(dim=1)  # maps come channels first
    vectors = {name: tensor.float().cpu().numpy() for name, tensor in seen.items()}
    if not backbone.no_source_head:
        vectors[SOURCE] = outputs.logits.float().cpu().numpy()
    return vectors
