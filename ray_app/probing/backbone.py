"""A checkpoint as a frozen model: its backbone, and the classification head it came with, where there is one."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ray_app.training.models import IncompleteCheckpointError, auto_class, head_modules, lacking_pooler, read_weights
from ray_app.training.tokens import Family

_CLASSIFIERS = ("ForSequenceClassification", "ForImageClassification", "ForImageClassificationWithTeacher")
"""How a model with a classification head is called in a config.json."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A model in memory, in evaluation mode, float32."""

    model: Any
    """A transformers model (``nn.Module``); of a text-to-text model, its encoder."""
    family: Family
    head: tuple[str, ...] = ()
    """Names of the modules of its own head; none of a text-to-text model."""
    no_source_head: str
    """Why the answers of its own head mean nothing; empty when the head is a trained one."""


def load_backbone(path: Path, family: Family) -> Backbone:
    """Load a checkpoint folder (hub format, safetensors) as it is.

    A head that the checkpoint lacks is made at random by transformers; ``no_source_head`` says so and nothing reads it.

    Raises:
        CheckpointError: files are missing or damaged.
        IncompleteCheckpointError: the weights lack tensors of the backbone, or hold non-finite values.
    """
    text_to_text = family is Family.TEXT_TO_TEXT
    with torch.random.fork_rng(devices=[]):
        model, info = read_weights(auto_class(family), path)
    head = () if text_to_text else head_modules(model, path)
    made_new = lacking_pooler(model, info, head, path)
    lacking = {str(name) for name in info["missing_keys"]}
    lacking |= {str(entry[0]) for entry in info.get("mismatched_keys", ())}
    bad = [
        name
        for name, tensor in model.state_dict().items()
        if name not in lacking and tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]
    if bad:
        raise IncompleteCheckpointError(
            f"the checkpoint in {path} holds non-finite values in {', '.join(bad[:3])}, expected numbers; get it again or leave "
            "it out",
            path=str(path),
        )
    model.eval().requires_grad_(False)
    if text_to_text:
        return Backbone(
            model=model.get_encoder(), family=family, no_source_head="a text-to-text model has no classification head"
        )
    missing_head = sorted(name for name in lacking if name.rpartition(".")[0] in head)
    return Backbone(
        model=model, family=family, head=head, no_source_head=_why_no_head(model.config, missing_head, made_new)
    )


def _why_no_head(config: Any, missing_head: list[str], made_new: list[str]) -> str:
    """Why the model's own head cannot be asked; empty when it can."""
    named = list(config.architectures or [])
    if not any(name.endswith(_CLASSIFIERS) for name in named):
        return f"the checkpoint has no classification head (it is a {', '.join(named) or 'model of unnamed kind'})"
    if missing_head:
        return f"the checkpoint names a classification head but holds no weights of it ({missing_head[0]})"
    if made_new:
        return f"the checkpoint's head reads a part that it lacks ({made_new[0]})"
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
