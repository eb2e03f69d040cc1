"""What the tensors of an architecture are: body and head, parameters and buffers, which are one tensor under several names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ray_app.training.models import FRESH_BACKBONE_PARTS
from tracking.errors import CheckpointError

_OLD_ENDINGS = {".gamma": ".weight", ".beta": ".bias"}
"""How norms were named before transformers was a library of torch; published BERTs still are."""


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """The body of an architecture: its encoder, or a whole text-to-text model with its language-model head."""

    class_name: str
    """transformers class that the fused model is."""
    shapes: dict[str, tuple[int, ...]]
    """Tensor -> shape, of every floating-point parameter and stored buffer; tied ones once, under their first name."""
    counts: frozenset[str]
    """Stored buffers of whole numbers, which are copied and not fused."""
    alias: dict[str, str]
    """Every name a tensor may have -> the one in ``shapes`` or ``counts``."""
    stored_as: dict[str, str]
    """Tensor -> its name in files, where the library has renamed it since models of the architecture were published."""
    prefix: str
    """What a checkpoint with a head puts before the names of its body."""

    def place(self, name: str) -> str | None:
        """The body's name of a checkpoint's tensor; None for a head, or a buffer that is computed and not loaded."""
        plain = name.removeprefix(f"{self.prefix}.")
        for variant in (name, plain, f"{self.prefix}.{name}"):
            for spelled in (variant, *_modern(variant)):
                if spelled in self.alias:
                    return self.alias[spelled]
        return None

    def may_lack(self, name: str) -> bool:
        """True for a part that many checkpoints do not have and every finetune makes new (a pooler)."""
        return any(part in name.split(".") for part in FRESH_BACKBONE_PARTS)


def _modern(name: str) -> list[str]:
    return [name.removesuffix(old) + new for old, new in _OLD_ENDINGS.items() if name.endswith(old)]


def read_blueprint(folder: Path) -> Blueprint:
    """The body's tensors of the architecture that a checkpoint's config.json describes; no weights are read or made.

    Raises:
        CheckpointError: transformers cannot build a model from the configuration.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModel
        with torch.device("meta"):
            model = kind.from_config(config, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"no model can be built from config.json of {folder} ({reason}), expected one of an architecture that transformers "
            "knows; check the file or leave this model out",
            path=str(folder),
        ) from error
    return _blueprint(model)


def _blueprint(model: Any) -> Blueprint:
    stored = set(model.state_dict())
    first: dict[int, str] = {}
    alias, shapes, counts = {}, {}, set()
    for name, tensor in [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]:
        if name not in stored:
            continue
        own = first.setdefault(id(tensor), name)
        alias[name] = own
        if own == name and tensor.is_floating_point():
            shapes[name] = tuple(tensor.shape)
        elif own == name:
            counts.add(name)
    files = _names_in_files(model, [*shapes, *counts])
    alias |= {
        spelled: alias[name] for name, spelled in _names_in_files(model, list(alias)).items() if spelled not in alias
    }
    return Blueprint(
        stored_as={name: spelled for name, spelled in files.items() if spelled != name},
        class_name=type(model).__name__,
        shapes=shapes,
        counts=frozenset(counts),
        alias=alias,
        prefix=model.base_model_prefix,
    )


def _names_in_files(model: Any, names: list[str]) -> dict[str, str]:
    """How ``save_pretrained`` spells the names of a model, so that older versions of the library read the file too."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming, rename_source_key

    there = reversed(get_model_conversion_mapping(model, add_legacy=False))
    back = cast(
        "list[WeightRenaming]",
        [transform.reverse_transform() for transform in there if isinstance(transform, WeightRenaming)],
    )
    return {name: rename_source_key(name, back, [], reverse=True)[0] for name in names}
