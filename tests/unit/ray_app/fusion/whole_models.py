"""The rules once more, on whole models in memory with nothing but numpy: what the streamed code is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from ray_app.fusion.merging import drawing

Model = Mapping[str, np.ndarray]


def load(folder: Path, prefix: str = "") -> dict[str, np.ndarray]:
    """Float64 tensors of a checkpoint; ``prefix`` and all heads are left out where it is given."""
    tensors = load_file(folder / "model.safetensors")
    return {
        name.removeprefix(prefix): value.astype(np.float64)
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def stacked(models: Sequence[Model], name: str) -> np.ndarray:
    return np.stack([model[name] for model in models])


def mean(models: Sequence[Model], name: str) -> np.ndarray:
    return np.asarray(stacked(models, name).mean(axis=0))


def weighted(models: Sequence[Model], name: str, weights: Sequence[float]) -> np.ndarray:
    return np.asarray(np.average(stacked(models, name), axis=0, weights=weights))


def fisher(models: Sequence[Model], name: str, fishers: Sequence[Model], weights: Sequence[float]) -> np.ndarray:
    norms = [np.sqrt(sum((value**2).sum() for value in one.values())) for one in fishers]
    shares = np.stack(
        [weight / norm * np.maximum(one[name], 1e-6) for one, norm, weight in zip(fishers, norms, weights, strict=True)]
    )
    return np.asarray((shares * stacked(models, name)).sum(axis=0) / shares.sum(axis=0))


def task_arithmetic(
    base: Model, models: Sequence[Model], name: str, weights: Sequence[float], scaling: float
) -> np.ndarray:
    deltas = stacked(models, name) - base[name]
    return np.asarray(base[name] + scaling * np.tensordot(np.asarray(weights), deltas, axes=1))


def ties(
    base: Model, models: Sequence[Model], name: str, weights: Sequence[float], *, density: float, scaling: float
) -> np.ndarray:
    """By sorting whole tensors, as the paper tells it."""
    trimmed = []
    for model in models:
        delta = (model[name] - base[name]).ravel()
        n_kept = max(1, int(density * delta.size))
        kept = np.argsort(-np.abs(delta.astype(np.float32)), kind="stable")[:n_kept]
        sparse = np.zeros_like(delta)
        sparse[kept] = delta[kept]
        trimmed.append(sparse.reshape(base[name].shape))
    weighed = np.stack(trimmed) * np.asarray(weights).reshape(-1, *[1] * base[name].ndim)
    positive = weighed.sum(axis=0) >= 0
    agree = np.where(positive, weighed > 0, weighed < 0)
    above = np.where(agree, weighed, 0).sum(axis=0)
    below = (agree * np.asarray(weights).reshape(-1, *[1] * base[name].ndim)).sum(axis=0)
    return np.asarray(base[name] + scaling * np.divide(above, below, out=np.zeros_like(above), where=below != 0))


def dare(
    base: Model, models: Mapping[str, Model], name: str, *, density: float, scaling: float, seed: int
) -> np.ndarray:
    total = np.zeros_like(base[name])
    for source, model in models.items():
        mask = drawing(seed, source, name).random(base[name].size, np.float32).reshape(base[name].shape) < density
        total += mask * (model[name] - base[name]) / density
    return np.asarray(base[name] + scaling * total)
