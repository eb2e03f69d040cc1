"""Diagonal Fisher information of a classifier, estimated on rows of a task."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from ray_app.fusion.blueprint import read_blueprint
from ray_app.probing.backbone import load_backbone
from ray_app.training.batches import collate
from ray_app.training.tokens import EncodedTask, Family
from tracking.errors import CheckpointError, StorageError


def estimate_fisher(
    folder: Path, task: EncodedTask, *, family: Family, rows: int, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Diagonal Fisher of the body of a classifier: F = (1/n) sum_x sum_c p(c|x) (d log p(c|x) / d theta)^2.

    The expectation over the answers is exact, by the model's own probabilities; the labels of the rows are not used.

    Args:
        folder: checkpoint with its own trained classification head.
        task: tokenised task of the same tokenizer; rows are drawn from its training split.
        family: of the architecture.
        rows: most rows, n.
        seed: of the draw.

    Returns:
        Value by tensor of the body, float32, of its shape; 0 where a tensor has no part in the answer.

    Raises:
        CheckpointError: the checkpoint has no classification head that was trained.

    Source: Matena & Raffel 2022, "Merging Models with Fisher-Weighted Averaging", eq. 2 and section 3.3.

    Cost: a forward pass a row, and a backward pass a row and class.
    """
    backbone = load_backbone(folder, family)
    if backbone.no_source_head:
        raise CheckpointError(
            f"no Fisher can be estimated for {folder}: {backbone.no_source_head}; expected a classifier with its own head, or give the "
            "Fisher as a safetensors file",
            path=str(folder),
        )
    model = backbone.model.requires_grad_(True)
    place = read_blueprint(folder).place
    named = {name: parameter for name, parameter in model.named_parameters() if place(name) is not None}
    parameters = list(named.values())
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    split = task["train"]
    chosen = np.sort(np.random.default_rng(seed).permutation(len(split))[:rows])
    for row in chosen:
        batch = collate(split, np.array([row]), pad_id=task.pad_id)
        logs = torch.log_softmax(model(**batch.inputs).logits[0], dim=-1)
        _add_squares(sums, logs, parameters)
    return {name: total / len(chosen) for name, total in zip(named, sums, strict=True)}


def _add_squares(sums: Sequence[torch.Tensor], logs: torch.Tensor, parameters: Sequence[torch.Tensor]) -> None:
    """Add p(c) (d log p(c))^2 of every class."""
    for answer in range(len(logs)):
        gradients = torch.autograd.grad(
            logs[answer], parameters, retain_graph=answer + 1 < len(logs), allow_unused=True
        )
        probability = float(logs[answer].detach().exp())
        for total, gradient in zip(sums, gradients, strict=True):
            if gradient is not None:
                total.addcmul_(gradient, gradient, value=probability)


def save_fisher(fisher: dict[str, torch.Tensor], path: Path) -> Path:
    """Store a Fisher as safetensors, whole or not at all; returns the path.

    Raises:
        StorageError: disk full or folder unwritable.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in fisher.items()}, temporary)
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path} ({error.strerror or error}); free space", path=str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
    return path
