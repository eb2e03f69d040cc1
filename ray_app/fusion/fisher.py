"""Diagonal Fisher information as safetensors: a value for every element of a model's body, 0 or more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ray_app.fusion.blueprint import Blueprint
from ray_app.fusion.bodies import Body, open_body
from ray_app.fusion.stored import StoredModel
from tracking.errors import CheckpointError

_PIECE = 1 << 20
"""Elements read at a time."""


def open_fishers(files: Mapping[str, Path], blueprint: Blueprint, stack: ExitStack) -> dict[str, Body]:
    """The Fisher of each source, open for reading; tensors are named as in a checkpoint, with or without a head.

    Args:
        files: source name -> safetensors file.
        blueprint: of the architecture.
        stack: closes the files.

    Raises:
        CheckpointError: a file is missing or damaged, or lacks a tensor of the body, or has one of another shape.
    """
    opened: dict[str, Body] = {}
    faults: list[str] = []
    for name, path in files.items():
        stored = stack.enter_context(StoredModel(path.expanduser()))
        opened[name], found = open_body(f"the Fisher of {name}", blueprint, stored)
        faults += found
    if faults:
        raise CheckpointError(
            f"the Fisher information does not fit the models: {'; '.join(faults)}; expected a value for every element of the body, "
            "estimate it anew",
            faults=faults,
        )
    return opened


def squared_norm(fisher: Body, tensors: Iterable[str]) -> float:
    """Sum of the squares of all values of a Fisher, over the tensors that are fused.

    Raises:
        CheckpointError: a value is negative or no number, or all are 0.
    """
    total = 0.0
    for tensor in sorted(tensors):
        if tensor not in fisher.names:
            raise _unusable(fisher, f"it lacks {tensor}")
        size = fisher.stored.tensors[fisher.names[tensor]].info.n_elements
        for start in range(0, size, _PIECE):
            values = fisher.floats(tensor, start, min(start + _PIECE, size)).astype(np.float64)
            if not (np.isfinite(values).all() and (values >= 0).all()):
                raise _unusable(fisher, f"{tensor} holds values that are negative or no numbers")
            total += float(np.dot(values, values))
    if total == 0:
        raise _unusable(fisher, "all its values are 0")
    return total


def _unusable(fisher: Body, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{fisher.name} in {fisher.stored.folder} cannot be used: {reason}; expected values of 0 or more, estimate it anew",
        path=str(fisher.stored.folder),
    )
