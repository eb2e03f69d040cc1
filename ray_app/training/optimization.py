"""Steps of a finetune: which weights decay, how the learning rate runs, how gradients are limited."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from ray_app.training.settings import FinetuneConfig


def count_steps(n_rows: int, config: FinetuneConfig) -> tuple[int, int]:
    """Optimiser steps of one epoch (the last batch may be smaller) and of the whole training, at least one."""
    per_epoch = math.ceil(n_rows / config.batch_size)
    return per_epoch, max(1, math.ceil(round(per_epoch * config.max_epochs, 6)))  # 10 x 1.1 is 11.000000000000002


def stage_end(stage: int, *, n_stages: int, total_steps: int) -> int:
    """Optimiser step after which a stage (from 1) is over: ceil(total_steps stage / n_stages), the last one the last step's."""
    return -(-total_steps * stage // n_stages)


def make_optimizer(model: nn.Module, config: FinetuneConfig) -> torch.optim.AdamW:
    """AdamW over what is trained; vectors (biases, norms) do not decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def rate_factor(step: int, *, total_steps: int, warmup_fraction: float) -> float:
    """Share of the peak learning rate at an optimiser step: linear rise, then linear fall to 0 after the last.

    With w = ceil(warmup_fraction T) steps of warm-up out of T: (s + 1) / (w + 1) below w, then (T - s) / (T - w).

    Differs: transformers' schedule gives the very first step a rate of 0; a task of ten steps would lose one.
    """
    warmup = math.ceil(round(warmup_fraction * total_steps, 6))
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return max(0.0, (total_steps - step) / max(1, total_steps - warmup))


def limit_gradients(model: nn.Module, max_norm: float) -> float:
    """Scale all gradients down to a common norm, where that is above 0; returns the norm they had."""
    if max_norm > 0:
        return float(nn.utils.clip_grad_norm_(model.parameters(), max_norm))
    return float(
        nn.utils.get_total_norm([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    )


def add_distance_penalty(model: nn.Module, anchor: Mapping[str, torch.Tensor], weight: float) -> torch.Tensor:
    """Add to the gradients those of (weight / 2) sum |parameter - anchor|^2 and return that value, a scalar.

    Args:
        model: its gradients are changed.
        anchor: parameters to stay close to, by name; others are free.
        weight: of the penalty.
    """
    total = torch.zeros((), device=next(model.parameters()).device)
    for name, parameter in model.named_parameters():
        if name in anchor and parameter.requires_grad:
            apart = parameter.detach() - anchor[name]
            total = total + apart.square().sum()
            parameter.grad = apart * weight if parameter.grad is None else parameter.grad.add_(apart, alpha=weight)
    return total * (weight / 2)
