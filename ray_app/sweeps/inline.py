"""Runs cells in this process, one after the other: what a handful of probes costs on a cluster is mostly starting it."""

from __future__ import annotations

import os
from collections.abc import Callable

from ray_app.sweeps.orders import Order
from ray_app.sweeps.outcome import SweepOutcome
from ray_app.sweeps.plan import PlannedCell
from ray_app.sweeps.progress import SweepProgress
from ray_app.sweeps.settings import ClusterConfig
from tracking.records import CellRecord
from tracking.schema import Metric, State, Tag


def run_inline(
    cells: list[PlannedCell],
    make_order: Callable[[PlannedCell], Order],
    *,
    cluster: ClusterConfig,
    progress: SweepProgress,
) -> SweepOutcome:
    """Run cells in their order with all CPUs the cluster may use; returns how they ended. Ctrl-C ends it with what is done."""
    from ray_app.probing.backbone import BackboneShelf
    from ray_app.sweeps.probe_attempt import begin_attempt
    from ray_app.sweeps.trial import device_here, prepare_worker
    from ray_app.training.models import ModelPool

    prepare_worker(cluster.cpus or os.cpu_count() or 1)
    pool, shelf, device = ModelPool(), BackboneShelf(), device_here()
    outcome = SweepOutcome()
    try:
        for cell in cells:
            progress.started(cell.key, f"{cell.identity.base_model} on {cell.identity.task}")
            attempt = begin_attempt(make_order(cell), pool, shelf, device=device)
            record = None
            while record is None:
                _, record = attempt.step()
            note_end(outcome, record)
            progress.ended(cell.key, cost=cell.cost, failed=record.state is State.FAILED)
    except KeyboardInterrupt:
        outcome.interrupted = True
    return outcome


def note_end(outcome: SweepOutcome, record: CellRecord) -> None:
    """Count a record."""
    seconds = [record.metrics.get(name, 0.0) for name in (Metric.TRAIN_S, Metric.VALIDATE_S, Metric.TEST_S)]
    outcome.train_s += seconds[0]
    outcome.step_s += sum(seconds)
    if record.state is State.FAILED:
        outcome.failed[record.key] = (record.tags.get(Tag.FAILED_STAGE, ""), record.tags.get(Tag.REASON, ""))
    else:
        outcome.complete.append(record.key)
