"""Is a folder in hub format a checkpoint that can be finetuned? Every question is asked before any training."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from ray_app.hub.model_files import MODEL_TYPES, VISION_TYPES, VOCABULARY_FILES
from ray_app.hub.safetensors_header import Weights, read_weights
from tracking.errors import CheckpointError

EMBEDDING_NAMES = (
    "word_embeddings.weight",
    "tok_embeddings.weight",
    "shared.weight",
    "embed_tokens.weight",
    "word_embedding.weight",
)
"""How the token embedding's name ends: BERT and its kin, ModernBERT, T5 and BART, T5 without 'shared', XLNet."""
_ELSEWHERE = frozenset({"transformers_weights", "configuration_files"})
"""Entries by which transformers reads other files of a folder, pickled ones among them."""
_IMPLEMENTATIONS = frozenset(
    {"attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation", "use_kernels"}
)
"""Entries by which transformers may fetch compiled code from the hub."""
_OWN_IMPLEMENTATIONS = (None, False, "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
_FIXED_SIZE = frozenset({"vit", "deit", "beit", "vit_msn"})
"""Architectures of images whose positions are those of one size."""
_loading = Lock()  # transformers imports an architecture's modules on first use, which two threads must not do at once


@dataclass(frozen=True, kw_only=True)
class FolderFacts:
    """What the checks found out about a checkpoint."""

    model_type: str
    """``model_type`` of config.json."""
    size_bytes: int
    """Bytes of its weights."""
    n_parameters: int
    """Parameters, from the safetensors headers."""


def inspect_folder(folder: Path, *, model_id: str, expected_model_types: Sequence[str]) -> FolderFacts:
    """Check a checkpoint in hub format: configuration, architecture, weights, tokenizer.

    Args:
        folder: where config.json, weights and tokenizer are.
        model_id: name of the base model in errors.
        expected_model_types: the ``model_type`` values that this study compares; empty: any architecture taken.

    Returns:
        Its architecture and size.

    Raises:
        CheckpointError: the first thing that is wrong, in one sentence.

    Cost: reads configuration, safetensors headers and the tokenizer, never the weights.
    """
    config = read_config(folder, model_id=model_id)
    if (folder / "adapter_config.json").exists():
        raise CheckpointError(
            f"{model_id}: {folder} holds an adapter (adapter_config.json), expected a whole model; merge it into the model it "
            "was made for, or leave it out.",
            model_id=model_id,
        )
    model_type = check_architecture(config, model_id=model_id, expected_model_types=expected_model_types)
    weights = read_weights(folder)
    rows = embedding_rows(weights, config, model_id=model_id)
    if model_type in VISION_TYPES:
        _check_image_processor(folder, config, model_id)
    else:
        _check_tokenizer(folder, model_id=model_id, rows=rows)
    return FolderFacts(model_type=model_type, size_bytes=weights.size_bytes, n_parameters=weights.n_parameters)


def read_config(folder: Path, *, model_id: str) -> dict[str, object]:
    """config.json as a mapping.

    Raises:
        CheckpointError: it is missing, not JSON, or not an object.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(
            f"{model_id}: {folder} has no config.json; expected a checkpoint in hub format (config.json, "
            "model.safetensors, tokenizer files): check the folder.",
            model_id=model_id,
        )
    return parse_config(path.read_bytes(), model_id=model_id)


def parse_config(raw: bytes, *, model_id: str) -> dict[str, object]:
    """The text of a config.json as a mapping.

    Raises:
        CheckpointError: not JSON, or not an object.
    """
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{model_id}: config.json is not valid JSON ({error}); get the checkpoint again.", model_id=model_id
        ) from error
    if not isinstance(config, dict):
        raise CheckpointError(
            f"{model_id}: config.json holds a {type(config).__name__}, expected an object; get the checkpoint again.",
            model_id=model_id,
        )
    return config


def check_architecture(config: dict[str, object], *, model_id: str, expected_model_types: Sequence[str]) -> str:
    """The architecture of a configuration, once it is sure that it may be used here.

    Args:
        config: config.json as a mapping.
        model_id: name of the base model in errors.
        expected_model_types: the ``model_type`` values that this study compares; empty: any architecture taken.

    Returns:
        Its ``model_type``.

    Raises:
        CheckpointError: no model_type, one that needs code of its own, one not in `MODEL_TYPES` or not the one
            expected, or quantised weights.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise CheckpointError(
            f"{model_id}: config.json has no 'model_type', expected one such as "
            f"{_listed(expected_model_types or ['bert', 'roberta', 't5'])}; leave this model out.",
            model_id=model_id,
        )
    if model_type not in MODEL_TYPES:
        if "auto_map" in config:
            raise CheckpointError(
                f"{model_id}: architecture '{model_type}' needs Python code of its own (auto_map in config.json), which "
                "is never run here; expected an architecture of transformers: leave this model out.",
                model_id=model_id,
                model_type=model_type,
            )
        raise CheckpointError(
            f"{model_id}: architecture '{model_type}' is not one of those taken ({_listed(sorted(MODEL_TYPES))}); "
            "leave this model out.",
            model_id=model_id,
            model_type=model_type,
        )
    if expected_model_types and model_type not in expected_model_types:
        raise CheckpointError(
            f"{model_id}: architecture is '{model_type}', expected {_listed(expected_model_types)}; leave this model out "
            "or run it under its own architecture.",
            model_id=model_id,
            model_type=model_type,
            expected=list(expected_model_types),
        )
    if config.get("quantization_config") is not None:
        raise CheckpointError(
            f"{model_id}: its weights are quantised (quantization_config in config.json), expected plain ones; "
            "name the checkpoint it was made from.",
            model_id=model_id,
        )
    _check_own_files(config, model_id)
    return model_type


def _check_own_files(config: object, model_id: str) -> None:
    """Refuse a configuration that sends transformers to other files than those checked, or to compiled code on the hub."""
    for key, value in _entries(config):
        if key in _ELSEWHERE and value is not None:
            raise CheckpointError(
                f"{model_id}: config.json names other files to read ({key}), expected weights in model.safetensors and one "
                "configuration; remove that entry, or leave this model out.",
                model_id=model_id,
                key=key,
            )
        if key in _IMPLEMENTATIONS and value not in _OWN_IMPLEMENTATIONS:
            raise CheckpointError(
                f"{model_id}: config.json asks for the code {str(value)[:80]!r} ({key}), expected one of "
                f"{_listed([name for name in _OWN_IMPLEMENTATIONS if isinstance(name, str)])}; remove that entry, or leave this model out.",
                model_id=model_id,
                key=key,
            )


def _entries(value: object) -> Iterator[tuple[str, object]]:
    """Every entry of a configuration and of those nested in it."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield from part.items()
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def embedding_rows(weights: Weights, config: dict[str, object], *, model_id: str) -> int | None:
    """Rows of the token embedding: how many token ids the model knows.

    Returns:
        Rows of the embedding tensor, else ``vocab_size`` of the configuration, else None (not a text model).

    Raises:
        CheckpointError: the two disagree, so that the weights cannot be loaded.
    """
    stated = config.get("vocab_size")
    for ending in EMBEDDING_NAMES:
        for name, tensor in weights.tensors.items():
            if not name.endswith(ending) or len(tensor.shape) != 2:
                continue
            if type(stated) is int and stated != tensor.shape[0]:
                raise CheckpointError(
                    f"{model_id}: config.json says vocab_size {stated} and the embedding '{name}' has {tensor.shape[0]} "
                    "rows, expected the same; get the checkpoint again or leave it out.",
                    model_id=model_id,
                )
            return tensor.shape[0]
    return stated if type(stated) is int else None


def _check_image_processor(folder: Path, config: dict[str, object], model_id: str) -> None:
    """An image processor that makes images of one size, the one that the model has positions for."""
    if not (folder / "preprocessor_config.json").is_file():
        raise CheckpointError(
            f"{model_id}: {folder} has no preprocessor_config.json, expected one for a model of images (size, mean and "
            "deviation of its pixels); add the one of its pretrained model.",
            model_id=model_id,
        )
    from ray_app.training.pixels import image_size, load_processor, read_scaling

    try:
        with _loading:
            processor = load_processor(folder)
        read_scaling(processor)
        made = image_size(processor)
    except CheckpointError as error:
        raise CheckpointError(f"{model_id}: {error.message}", model_id=model_id) from error
    side = config.get("image_size")
    stated = tuple(side) if isinstance(side, list) else (side, side)
    if config["model_type"] in _FIXED_SIZE and side is not None and stated != made:
        raise CheckpointError(
            f"{model_id}: its image processor makes images of {made[0]}x{made[1]} pixels and config.json says image_size {side}, "
            "expected the same; correct size (or crop_size) in preprocessor_config.json",
            model_id=model_id,
        )


def _check_tokenizer(folder: Path, *, model_id: str, rows: int | None) -> None:
    present = sorted(name for name in VOCABULARY_FILES if (folder / name).is_file())
    if not present:
        raise CheckpointError(
            f"{model_id}: {folder} has no tokenizer, expected one of {_listed(sorted(VOCABULARY_FILES))}; add the tokenizer "
            "of the pretrained model it was finetuned from.",
            model_id=model_id,
        )
    tokenizer = load_tokenizer(folder, model_id=model_id)
    vocabulary = tokenizer.get_vocab()
    if len(vocabulary) <= len(tokenizer.all_special_ids):
        raise CheckpointError(
            f"{model_id}: its tokenizer knows no word ({len(vocabulary)} tokens, all special), expected the vocabulary it "
            f"was trained with; check {_listed(present)}.",
            model_id=model_id,
        )
    if tokenizer.pad_token_id is None:
        raise CheckpointError(
            f"{model_id}: its tokenizer has no pad token, expected one to make batches of texts of unlike length; set "
            "pad_token in its tokenizer_config.json.",
            model_id=model_id,
        )
    largest = max(vocabulary.values())
    if rows is not None and largest >= rows:
        raise CheckpointError(
            f"{model_id}: its tokenizer has ids up to {largest} and the embedding only {rows} rows, expected a tokenizer of "
            "the same vocabulary; use the tokenizer it was trained with.",
            model_id=model_id,
            largest_id=largest,
            rows=rows,
        )


def load_tokenizer(folder: Path, *, model_id: str):  # type: ignore[no-untyped-def]  # transformers is imported lazily
    """Tokenizer of a local folder, without code from it and without the network.

    Raises:
        CheckpointError: its files cannot be read as a tokenizer.
    """
    try:
        with _loading:
            from transformers import AutoTokenizer

            return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the tokenizers library raises the bare class, so nothing narrower catches a bad file
        raise CheckpointError(
            f"{model_id}: its tokenizer cannot be loaded ({type(error).__name__}: {_first_line(error)}), expected tokenizer "
            "files that transformers reads; get the checkpoint again or leave it out.",
            model_id=model_id,
        ) from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
