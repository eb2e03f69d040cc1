"""Base models made ready for a task: weights loaded once, the old head dropped, a new one drawn from the cell's seed."""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ray_app.training.randomness import derive_seed
from ray_app.training.tokens import Family, TaskFacts

logger = logging.getLogger(__name__)

FRESH_BACKBONE_PARTS = ("pooler",)
"""Parts of a backbone that a checkpoint may lack (a language model has no use for them); made new like the head."""


class IncompleteCheckpointError(ValueError):
    """The weights do not fill the architecture."""


@dataclass
class LoadedModel:
    """A model in memory with its pristine weights, so that the next cell on the same base model starts from them again."""

    model: Any
    """A transformers model (``nn.Module``)."""
    tokenizer: Any
    """Its fast tokenizer."""
    family: Family
    pristine: dict[str, torch.Tensor]
    """The checkpoint's own tensors, on the CPU, float32."""
    fresh: tuple[str, ...]
    """Names of the modules made new for every cell: the head, and what the checkpoint lacks."""

    def reset(self, seed: int) -> None:
        """Put the checkpoint's weights back and draw the new parts from ``seed``."""
        self.model.load_state_dict(self.pristine, strict=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "head") % 2**63)
            for name in self.fresh:
                _draw(self.model, self.model.get_submodule(name))
        self.model.zero_grad(set_to_none=True)


def _draw(model: Any, module: nn.Module) -> None:
    """Initialise one module's own parameters as its architecture does for a new model."""
    for parameter in module.parameters(recurse=False):
        if hasattr(parameter, "_is_hf_initialized"):
            del parameter._is_hf_initialized
    if hasattr(module, "_is_hf_initialized"):
        del module._is_hf_initialized
    device = next(module.parameters(recurse=False)).device
    module.to("cpu")  # the draw must not depend on the device
    with torch.no_grad():
        model._init_weights(module)
    module.to(device)


def load_model(path: Path, facts: TaskFacts, family: Family) -> LoadedModel:
    """Load a checkpoint folder (hub format, safetensors) for a task; ``reset`` it before use.

    An encoder gets a classification head (its own, whatever it was trained for, is dropped by parameter name); a
    text-to-text model keeps its language-model head and answers in words. Weights are float32, attention is SDPA.

    Raises:
        IncompleteCheckpointError: the weights lack tensors of the architecture, or hold non-finite values.
    """
    from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, AutoTokenizer

    given: dict[str, Any] = {
        "dtype": torch.float32,
        "trust_remote_code": False,
        "local_files_only": True,
        "use_safetensors": True,
        "output_loading_info": True,
    }
    if family is Family.TEXT_TO_TEXT:
        model, info = AutoModelForSeq2SeqLM.from_pretrained(path, **given)
        head: tuple[str, ...] = ()
    else:
        regression = {"problem_type": "regression"} if facts.regression else {}
        model, info = AutoModelForSequenceClassification.from_pretrained(
            path, num_labels=facts.n_outputs, ignore_mismatched_sizes=True, **regression, **given
        )
        prefix = model.base_model_prefix
        head = tuple(
            name for name, part in model.named_modules() if name and not _within(name, prefix) and _has_own(part)
        )
    missing = {name.rpartition(".")[0] for name in info["missing_keys"]}
    mismatched = {str(entry[0]).rpartition(".")[0] for entry in info.get("mismatched_keys", ())}
    lacking = sorted(name for name in missing | mismatched if name not in head)
    fresh_backbone = [name for name in lacking if any(part in name.split(".") for part in FRESH_BACKBONE_PARTS)]
    if len(fresh_backbone) < len(lacking):
        names = [name for name in lacking if name not in fresh_backbone]
        raise IncompleteCheckpointError(
            f"the checkpoint in {path} fills {type(model).__name__} only in part: {len(names)} modules get no weights "
            f"({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}); is it of another architecture?"
        )
    fresh = tuple(dict.fromkeys([*fresh_backbone, *head]))
    pristine = {
        name: tensor.detach().clone()
        for name, tensor in model.state_dict().items()
        if name.rpartition(".")[0] not in fresh and name.rpartition(".")[0] != ""
    }
    bad = [name for name, tensor in pristine.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if bad:
        raise IncompleteCheckpointError(f"the checkpoint in {path} holds non-finite values in {', '.join(bad[:3])}")
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    return LoadedModel(model, tokenizer, family, pristine, fresh)


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _has_own(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))


class ModelPool:
    """The models a worker keeps in memory: the last few, by (checkpoint folder, head width, family)."""

    def __init__(self, capacity: int = 2) -> None:
        self.capacity = capacity
        self.hits = 0
        self._models: OrderedDict[tuple[str, int, Family], LoadedModel] = OrderedDict()

    def get(self, path: Path, facts: TaskFacts, family: Family) -> LoadedModel:
        """The model for a task, loaded only where it is not here yet; ``reset`` it before use."""
        key = (str(path), 0 if family is Family.TEXT_TO_TEXT else facts.n_outputs, family)
        if key in self._models:
            self.hits += 1
            self._models.move_to_end(key)
            loaded = self._models[key]
            if family is Family.ENCODER:
                loaded.model.config.problem_type = "regression" if facts.regression else None
            return loaded
        while len(self._models) >= max(1, self.capacity):
            self._models.popitem(last=False)
        self._models[key] = load_model(path, facts, family)
        return self._models[key]
