"""A checkpoint as a frozen model: its backbone, and the classification head it came with, where there is one."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ray_app.training.models import FRESH_BACKBONE_PARTS, IncompleteCheckpointError
from ray_app.training.tokens import Family


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A model in memory, in evaluation mode, float32."""

    model: Any
    """A transformers model (``nn.Module``); of a text-to-text model, its encoder."""
    family: Family
    no_source_head: str
    """Why the answers of its own head mean nothing; empty when the head is a trained one."""


def load_backbone(path: Path, family: Family) -> Backbone:
    """Load a checkpoint folder (hub format, safetensors) as it is.

    A head that the checkpoint lacks is made at random by transformers; ``no_source_head`` says so and nothing reads it.

    Raises:
        IncompleteCheckpointError: the weights lack tensors of the backbone, or hold non-finite values.
    """
    from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

    given: dict[str, Any] = {
        "dtype": torch.float32,
        "trust_remote_code": False,
        "local_files_only": True,
        "use_safetensors": True,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,
    }
    auto = AutoModelForSeq2SeqLM if family is Family.TEXT_TO_TEXT else AutoModelForSequenceClassification
    with torch.random.fork_rng(devices=[]):
        model, info = auto.from_pretrained(path, **given)
    lacking = {str(name) for name in info["missing_keys"]}
    lacking |= {str(entry[0]) for entry in info.get("mismatched_keys", ())}
    head = set() if family is Family.TEXT_TO_TEXT else _outside(model, lacking)
    made_new = {name for name in lacking - head if any(part in name.split(".") for part in FRESH_BACKBONE_PARTS)}
    gaps = sorted(lacking - head - made_new)
    if gaps:
        raise IncompleteCheckpointError(
            f"the checkpoint in {path} fills {type(model).__name__} only in part: {len(gaps)} tensors are missing "
            f"({', '.join(gaps[:3])}{', ...' if len(gaps) > 3 else ''}); is it of another architecture?"
        )
    bad = [
        name
        for name, tensor in model.state_dict().items()
        if name not in lacking and tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]
    if bad:
        raise IncompleteCheckpointError(f"the checkpoint in {path} holds non-finite values in {', '.join(bad[:3])}")
    model.eval().requires_grad_(False)
    if family is Family.TEXT_TO_TEXT:
        return Backbone(
            model=model.get_encoder(), family=family, no_source_head="a text-to-text model has no classification head"
        )
    return Backbone(model=model, family=family, no_source_head=_why_no_head(model.config, head, made_new))


def _outside(model: Any, names: set[str]) -> set[str]:
    """Names of tensors that are no part of the backbone."""
    return {name for name in names if not name.startswith(model.base_model_prefix + ".")}


def _why_no_head(config: Any, missing_head: set[str], made_new: set[str]) -> str:
    """Why the model's own head cannot be asked; empty when it can."""
    named = list(config.architectures or [])
    if not any(name.endswith("ForSequenceClassification") for name in named):
        return f"the checkpoint has no classification head (it is a {', '.join(named) or 'model of unnamed kind'})"
    if missing_head:
        return f"the checkpoint names a classification head but holds no weights of it ({sorted(missing_head)[0]})"
    if made_new:
        return f"the checkpoint's head reads a part that it lacks ({sorted(made_new)[0]})"
    if config.num_labels < 2:
        return "the checkpoint's head gives one number, not classes"
    if config.problem_type == "multi_label_classification":
        return "the checkpoint's head gives several labels a row, not one class"
    return ""


class BackboneShelf:
    """The frozen models a worker keeps in memory: the last few."""

    def __init__(self, capacity: int = 1) -> None:
        self.capacity = capacity
        self._kept: OrderedDict[tuple[str, Family], Backbone] = OrderedDict()

    def get(self, path: Path, family: Family) -> Backbone:
        """The model in a folder, loaded only where it is not here yet."""
        key = (str(path), family)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        while len(self._kept) >= self.capacity:
            self._kept.popitem(last=False)
        self._kept[key] = load_backbone(path, family)
        return self._kept[key]
