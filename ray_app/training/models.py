"""Base models made ready for a task: weights loaded once, the old head dropped, a new one drawn from the cell's seed."""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from ray_app.training.batches import PAD_TO
from ray_app.training.pixels import PIXEL_VALUES, load_processor
from ray_app.training.randomness import derive_seed
from ray_app.training.tokens import SPLITS, EncodedTask, Family, TaskFacts
from tracking.errors import CheckpointError, InputError, TaskDataError

logger = logging.getLogger(__name__)

FRESH_BACKBONE_PARTS = ("pooler",)
"""Parts of a backbone that a checkpoint may lack (a language model has no use for them); made new like the head."""


class IncompleteCheckpointError(CheckpointError):
    """The weights do not fill the architecture, or are not numbers."""


@dataclass
class LoadedModel:
    """A model in memory with its pristine weights, so that the next cell on the same base model starts from them again."""

    model: Any
    """A transformers model (``nn.Module``)."""
    tokenizer: Any
    """Its fast tokenizer, or its image processor."""
    family: Family
    pristine: dict[str, torch.Tensor]
    """The checkpoint's own tensors by name, on the CPU, float32; tied weights once."""
    fresh: tuple[str, ...]
    """Names of the modules made new for every cell: the head, and what the checkpoint lacks."""

    def reset(self, seed: int) -> None:
        """Put the checkpoint's weights back and draw the new parts, each from ``seed`` and its own name.

        So two base models of one architecture get the same head, also where only one of them lacks a pooler.
        """
        self.model.load_state_dict(self.pristine, strict=False)
        with torch.random.fork_rng(devices=[]):
            for name in self.fresh:
                torch.default_generator.manual_seed(derive_seed(seed, "head", name))
                _draw(self.model, self.model.get_submodule(name))
        self.model.zero_grad(set_to_none=True)

    def suit(self, facts: TaskFacts) -> None:
        """State in the model's own configuration what its head answers, for whoever loads it once it is saved."""
        if self.family is Family.TEXT_TO_TEXT:
            return
        config = self.model.config
        config.problem_type = "regression" if facts.regression else "single_label_classification"
        if facts.label_names:
            config.id2label = dict(enumerate(facts.label_names))
            config.label2id = {name: index for index, name in enumerate(facts.label_names)}


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

    An encoder, of text or of images, gets a classification head (its own, whatever it was trained for, is dropped by parameter
    name); a text-to-text model keeps its language-model head and answers in words. Weights are float32, attention is SDPA.

    Raises:
        CheckpointError: files are missing or damaged.
        IncompleteCheckpointError: the weights lack tensors of the architecture, or hold non-finite values.
    """
    if family is Family.TEXT_TO_TEXT:
        model, info = read_weights(auto_class(family), path)
        _write_plainly(model)
        head: tuple[str, ...] = ()
    else:
        model, info = read_weights(auto_class(family), path, num_labels=facts.n_outputs)
        head = head_modules(model, path)
    fresh = (*lacking_pooler(model, info, head, path), *head)
    pristine = {
        name: tensor.clone() for name, tensor in distinct_tensors(model).items() if name.rpartition(".")[0] not in fresh
    }
    bad = [name for name, tensor in pristine.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if bad:
        raise IncompleteCheckpointError(
            f"the checkpoint in {path} holds non-finite values in {', '.join(bad[:3])}, expected numbers; get it again or leave "
            "it out",
            path=str(path),
        )
    loaded = LoadedModel(model, load_reader(path, family), family, pristine, fresh)
    loaded.suit(facts)
    return loaded


def auto_class(family: Family) -> Any:
    """The automatic class of transformers that answers as this family does."""
    import transformers

    return {
        Family.ENCODER: transformers.AutoModelForSequenceClassification,
        Family.TEXT_TO_TEXT: transformers.AutoModelForSeq2SeqLM,
        Family.IMAGE: transformers.AutoModelForImageClassification,
    }[family]


def load_reader(path: Path, family: Family) -> Any:
    """The tokenizer of a checkpoint folder, or its image processor.

    Raises:
        CheckpointError: an image processor that cannot be loaded.
    """
    if family is Family.IMAGE:
        return load_processor(path)
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)


def read_weights(kind: Any, path: Path, **given: Any) -> tuple[Any, dict[str, Any]]:
    """A model of an automatic class in float32, and what its weights did not fill."""
    try:
        return kind.from_pretrained(
            path,
            dtype=torch.float32,
            trust_remote_code=False,
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # a head of another width is dropped; all else that does not fit is refused below
            output_loading_info=True,
            **given,
        )
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"the checkpoint in {path} cannot be loaded ({str(error).splitlines()[0]}), expected whole files in hub format; "
            "get it again or leave it out",
            path=str(path),
        ) from error


def distinct_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every tensor of the model's state by the first of its names (T5's embedding has four), sharing the model's memory."""
    found: dict[str, torch.Tensor] = {}
    seen = set()
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if tensor.numel() == 0 or place not in seen:
            found[name] = tensor
        seen.add(place)
    return found


def longest_input(model: nn.Module) -> int | None:
    """Most tokens a model has learned positions for; None where positions are relative or computed."""
    limits = [
        part.num_embeddings - (0 if part.padding_idx is None else part.padding_idx + 1)
        for name, part in model.named_modules()
        if name.rpartition(".")[2] == "position_embeddings" and isinstance(part, nn.Embedding)
    ]
    return min(limits, default=None)


def check_task(loaded: LoadedModel, task: EncodedTask) -> None:
    """Refuse a tokenised task that this model cannot be trained on.

    Raises:
        TaskDataError: a split is empty, or a label is none of the task's classes.
        InputError: rows are longer than the model has positions for.
    """
    limit = longest_input(loaded.model)
    for name in SPLITS:
        split, facts = task[name], task.facts
        if not len(split):
            raise TaskDataError(f"task {facts.name} has no {name} rows, expected at least one; check its splits")
        if not facts.regression and not 0 <= split.labels.min() <= split.labels.max() < facts.n_outputs:
            raise TaskDataError(
                f"task {facts.name} has {name} labels from {split.labels.min()} to {split.labels.max()}, expected 0 to "
                f"{facts.n_outputs - 1}; check its label names"
            )
        longest = -(-int(split.lengths.max()) // PAD_TO) * PAD_TO
        if limit is not None and longest > limit:
            raise InputError(
                f"task {facts.name} has rows of up to {longest} tokens (padded to a multiple of {PAD_TO}) and the model has "
                f"positions for {limit}; set method.max_length={limit // PAD_TO * PAD_TO} or less",
                longest=longest,
                limit=limit,
            )


def head_modules(model: Any, path: Path) -> tuple[str, ...]:
    """Modules outside the backbone that have parameters: the head, dropped by name even where its shape would fit.

    Of a model of images only linear ones: PoolFormer keeps the norm after its last stage beside the backbone.
    """
    prefix = model.base_model_prefix
    if not prefix or not hasattr(model, prefix):
        raise IncompleteCheckpointError(
            f"{type(model).__name__} of {path} does not tell its backbone from its head, expected a model that does; leave "
            "this model out",
            path=str(path),
        )
    outside = [(name, part) for name, part in model.named_modules() if name and not _within(name, prefix)]
    images = model.main_input_name == PIXEL_VALUES
    return tuple(name for name, part in outside if _has_own(part) and (not images or isinstance(part, nn.Linear)))


def lacking_pooler(model: Any, info: dict[str, Any], head: tuple[str, ...], path: Path) -> list[str]:
    """Modules of the backbone that get no weights and may be made new; anything else that gets none is an error."""
    missing = {name.rpartition(".")[0] for name in info["missing_keys"]}
    mismatched = {str(entry[0]).rpartition(".")[0] for entry in info.get("mismatched_keys", ())}
    lacking = sorted(name for name in missing | mismatched if name not in head)
    names = [name for name in lacking if not any(part in name.split(".") for part in FRESH_BACKBONE_PARTS)]
    if names:
        raise IncompleteCheckpointError(
            f"the checkpoint in {path} fills {type(model).__name__} only in part: {len(names)} modules get no weights "
            f"({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}), expected all but the head; is it of another "
            "architecture? Get it again or leave it out",
            path=str(path),
            modules=names,
        )
    return lacking


def _write_plainly(model: Any) -> None:
    """Drop how the checkpoint wants to write (beams, least lengths, no repeats, forced words): a label is written greedily."""
    from transformers import GenerationConfig

    if model.config.decoder_start_token_id is None:
        model.config.decoder_start_token_id = model.config.pad_token_id
    model.generation_config = GenerationConfig(
        decoder_start_token_id=model.config.decoder_start_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )


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
            self._models[key].suit(facts)
            return self._models[key]
        while len(self._models) >= max(1, self.capacity):
            self._models.popitem(last=False)
        self._models[key] = load_model(path, facts, family)
        return self._models[key]
