"""Checkpoints held against one blueprint: whether they can be fused is settled before a weight is read, every fault by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ray_app.fusion.blueprint import Blueprint
from ray_app.fusion.stored import StoredModel
from ray_app.hub.model_files import VOCABULARY_FILES
from ray_app.hub.model_folder import EMBEDDING_NAMES, load_tokenizer
from tracking.errors import CheckpointError

_SAME = (
    "model_type", "is_encoder_decoder", "num_hidden_layers", "num_layers", "num_decoder_layers", "encoder_layers", "decoder_layers",
    "hidden_size", "d_model", "intermediate_size", "d_ff", "hidden_act", "hidden_activation", "feed_forward_proj", "num_attention_heads", "num_heads",
    "encoder_attention_heads", "decoder_attention_heads", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "embedding_size",
    "position_embedding_type", "relative_attention", "pos_att_type", "relative_attention_num_buckets",
    "relative_attention_max_distance", "rope_theta", "global_rope_theta", "local_rope_theta", "local_attention",
    "global_attn_every_n_layers", "scale_embedding", "pad_token_id", "patch_size", "image_size",
)  # fmt: skip
"""Settings of config.json that make another model of it: sizes, and what no tensor's shape shows."""
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Body:
    """The body of one checkpoint, open for reading."""

    name: str
    stored: StoredModel
    names: Mapping[str, str]
    """Tensor of the blueprint -> tensor of the checkpoint."""
    dropped: frozenset[str]
    """Tensors of the checkpoint that are no part of the body."""

    def floats(self, tensor: str, start: int, stop: int, *, into: np.ndarray | None = None) -> np.ndarray:
        """Elements of a tensor of the blueprint, as `StoredModel.floats`."""
        return self.stored.floats(self.names[tensor], start, stop, into=into)


def open_body(name: str, blueprint: Blueprint, stored: StoredModel) -> tuple[Body, list[str]]:
    """The body of an open checkpoint, and everything that keeps it from being fused.

    Args:
        name: what to call it in faults.
        blueprint: of the architecture.
        stored: its tensors.
    """
    names: dict[str, str] = {}
    twice: dict[str, list[str]] = {}
    for tensor in sorted(stored.tensors):
        place = blueprint.place(tensor)
        if place is not None:
            twice.setdefault(place, []).append(tensor)
            names.setdefault(place, tensor)
    body = Body(
        name=name,
        stored=stored,
        names=names,
        dropped=frozenset(t for t in stored.tensors if blueprint.place(t) is None),
    )
    return body, [*_tensor_faults(body, blueprint), *_untied(body, twice)]


def _tensor_faults(body: Body, blueprint: Blueprint) -> list[str]:
    wanted = {**blueprint.shapes, **dict.fromkeys(blueprint.counts)}
    missing = [tensor for tensor in wanted if tensor not in body.names and not blueprint.may_lack(tensor)]
    faults = [f"{body.name} lacks {_listed(missing)}, which the architecture has"] if missing else []
    odd: list[str] = []
    vocabulary: list[str] = []
    whole: list[str] = []
    for tensor, shape in blueprint.shapes.items():
        if tensor not in body.names:
            continue
        info = body.stored.tensors[body.names[tensor]].info
        if not info.is_float:
            whole.append(f"{body.names[tensor]} ({info.dtype})")
        elif info.shape != shape:
            text = f"{body.names[tensor]} (shape {list(info.shape)}, expected {list(shape)})"
            (vocabulary if tensor.endswith(EMBEDDING_NAMES) else odd).append(text)
    if whole:
        faults.append(f"{body.name} stores {_listed(whole)} as whole or packed numbers, which cannot be averaged")
    if vocabulary:
        faults.append(f"{body.name} has another vocabulary: {_listed(vocabulary)}")
    if odd:
        faults.append(f"{body.name} has tensors of other shapes: {_listed(odd)}")
    return faults


def _untied(body: Body, twice: Mapping[str, Sequence[str]]) -> list[str]:
    """Names of one tied tensor under which a checkpoint holds unlike values."""
    faults = []
    for tensors in twice.values():
        if len(tensors) > 1 and len({body.stored.raw(tensor) for tensor in tensors}) > 1:
            faults.append(f"{body.name} holds unlike values for {_listed(tensors)}, which the architecture ties to one")
    return faults


def settings_faults(
    name: str, config: Mapping[str, Any], reference: Mapping[str, Any], reference_name: str
) -> list[str]:
    """Settings by which a checkpoint is of another architecture than the reference, although the shapes may agree."""
    both = [key for key in _SAME if key in config and key in reference and config[key] != reference[key]]
    return [
        f"{name} is of another architecture: {key} is {config[key]!r}, and {reference[key]!r} in {reference_name}"
        for key in both
    ]


def vocabulary_faults(folders: Mapping[str, Path]) -> list[str]:
    """Checkpoints whose tokenizer gives ids other meanings than the first one's; those without a tokenizer are not asked.

    Files that are equal byte by byte are not loaded.
    """
    with_files = {name: files for name, folder in folders.items() if (files := _vocabulary_files(folder))}
    if not with_files:
        return []
    first, *others = with_files
    unlike = [name for name in others if with_files[name] != with_files[first]]
    if not unlike:
        return []
    known = _vocabulary(folders[first], first)
    faults = []
    for name in unlike:
        own = _vocabulary(folders[name], name)
        odd = sorted(token for token in {**known, **own} if known.get(token) != own.get(token))
        if odd:
            shown = ", ".join(repr(token) for token in odd[:_SHOWN])
            faults.append(
                f"{name} has another vocabulary than {first}: {len(odd)} tokens have other ids ({shown}{', ...' if odd[_SHOWN:] else ''})"
            )
    return faults


def _vocabulary_files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in sorted(VOCABULARY_FILES) if (folder / name).is_file()}


def _vocabulary(folder: Path, name: str) -> dict[str, int]:
    vocabulary: dict[str, int] = load_tokenizer(folder, model_id=name).get_vocab()
    return vocabulary


def shared_tensors(bodies: Iterable[Body], blueprint: Blueprint) -> list[str]:
    """Floating-point tensors that every body has, in the blueprint's order (a pooler that one lacks is in none)."""
    present = [set(body.names) for body in bodies]
    return [tensor for tensor in blueprint.shapes if all(tensor in names for names in present)]


def agreed_counts(bodies: Sequence[Body], blueprint: Blueprint) -> dict[str, bytes]:
    """Buffers of whole numbers, which must be the same in every body.

    Raises:
        CheckpointError: they differ; every one is named.
    """
    agreed, odd = {}, []
    for tensor in sorted(blueprint.counts):
        values = {body.stored.raw(body.names[tensor]) for body in bodies}
        agreed[tensor] = values.pop()
        if values:
            odd.append(tensor)
    if odd:
        raise CheckpointError(
            f"the buffers {_listed(odd)} hold whole numbers that differ between {', '.join(body.name for body in bodies)}, expected "
            "the same in all; they cannot be averaged: leave the model out that has others",
            tensors=odd,
        )
    return agreed


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
