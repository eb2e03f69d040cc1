"""Transferability scores of candidates: features of the training rows, then every score, on this machine or spread over Ray."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.proxies import PROXIES, LabelledRows, RefusalError, prepare_rows, score_all
from ray_app.probing.settings import ProbeConfig
from ray_app.sweeps.orders import Order
from ray_app.sweeps.settings import ClusterConfig
from ray_app.training.tokens import EncodedTask
from tracking.errors import StartlineError

if TYPE_CHECKING:
    from ray_app.probing.backbone import BackboneShelf

WHAT_A_MODEL_RAISES = (
    StartlineError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OSError,
    MemoryError,
    ArithmeticError,
    ImportError,
)
"""What a checkpoint that cannot be used may raise while it is loaded or run; it costs that candidate its scores, not the ranking."""
SPLIT = "train"
"""Scores read training rows only."""


@dataclass(frozen=True, kw_only=True)
class CandidateScores:
    """Every score of one candidate on one task."""

    base_model: str
    task: str
    values: dict[str, float] = field(default_factory=dict)
    """By name; NaN where refused; empty when the candidate could not be run at all."""
    refusals: dict[str, str] = field(default_factory=dict)
    """Reason by name."""
    reason: str = ""
    """Why there is no score at all."""
    seconds: float = 0.0
    """Time it took, the forward pass included unless its features were there."""


def score_order(
    order: Order, shelf: BackboneShelf, *, device: str = "cpu", names: Sequence[str] = tuple(PROXIES)
) -> CandidateScores:
    """Score the base model of an order on the training rows of its task; never raises for what is wrong with the model."""
    from ray_app.sweeps.probe_attempt import features_of

    started = time.perf_counter()
    task = EncodedTask(order.encoded)
    name = task.facts.name
    try:
        (features,) = features_of(order, task, (SPLIT,), shelf=shelf, device=device)
        assert isinstance(order.config, ProbeConfig)
        rows: LabelledRows = prepare_rows(
            features.pooled(order.config.pooling),
            np.asarray(features.labels),
            regression=task.facts.regression,
            source_logits=features.source_logits,
            no_source_head=features.no_source_head,
        )
        scores = score_all(rows, names)
    except RefusalError as refusal:
        return CandidateScores(base_model=order.base_name, task=name, reason=str(refusal))
    except WHAT_A_MODEL_RAISES as error:
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
        return CandidateScores(base_model=order.base_name, task=name, reason=reason[:300])
    seconds = time.perf_counter() - started
    return CandidateScores(
        base_model=order.base_name, task=name, values=scores.values, refusals=scores.refusals, seconds=seconds
    )


def score_here(
    orders: Iterable[Order], cluster: ClusterConfig, names: Sequence[str] = tuple(PROXIES)
) -> Iterator[CandidateScores]:
    """Score one order after the other in this process, one model in memory at a time."""
    from ray_app.probing.backbone import BackboneShelf
    from ray_app.sweeps.trial import device_here, prepare_worker

    prepare_worker(cluster.cpus or os.cpu_count() or 1)
    shelf, device = BackboneShelf(), device_here()
    for order in orders:
        yield score_order(order, shelf, device=device, names=names)


def score_on_ray(
    orders: list[Order], cluster: ClusterConfig, names: Sequence[str] = tuple(PROXIES)
) -> Iterator[CandidateScores]:
    """Score orders on the Ray that is up, each in a task of its own on a warm worker; results come as they are ready."""
    import ray

    remote = ray.remote(
        num_cpus=cluster.cpus_per_cell,
        num_gpus=cluster.gpus_per_cell,
        max_retries=cluster.max_failures,
        max_calls=0,  # Ray starts a new process for every task with a GPU, unless it is told not to
    )(_score_plain)
    waiting = [remote.remote(order.plain(), tuple(names)) for order in orders]
    while waiting:
        ready, waiting = ray.wait(waiting, num_returns=1)
        yield from ray.get(ready)


def _score_plain(plain: dict[str, Any], names: tuple[str, ...]) -> CandidateScores:
    """In a worker: one order."""
    from ray_app.sweeps.trial import device_here, frozen_models, prepare_worker

    order = Order.from_plain(plain)
    prepare_worker(order.execution.threads)
    return score_order(order, frozen_models(), device=device_here(), names=names)
