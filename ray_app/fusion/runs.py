"""Every iteration as a run in MLflow: written beside the loop, and where MLflow was away by the next invocation."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ray_app.fusion.lineage import Iteration
from ray_app.fusion.loop import Loop
from tracking.errors import StoreError
from tracking.schema import Kind, Metric, Param, Tag
from tracking.store import TrackingStore

logger = logging.getLogger(__name__)


class IterationRuns:
    """Writes runs of kind fusion, each once.

    Args:
        store: where runs are written.
        tags: commit and environment.
        sweep: id of this invocation.
    """

    def __init__(self, store: TrackingStore, *, tags: dict[str, str], sweep: str) -> None:
        self.store = store
        self.tags = tags
        self.sweep = sweep
        self.waiting = 0
        """Iterations that MLflow did not take; they are written by the next invocation."""
        self._there: set[str] | None = None
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="iterations")

    def add(self, loop: Loop, iteration: Iteration) -> None:
        """Write an iteration in the background, unless it is there."""
        self._pool.submit(self._write, loop, iteration)

    def close(self) -> None:
        """Wait until all are written."""
        self._pool.shutdown(wait=True)

    def _write(self, loop: Loop, iteration: Iteration) -> None:
        try:
            if self._there is None:
                self._there = set(self.store.summary_keys(Kind.FUSION))
            key = f"{loop.folder.name}-{iteration.number:04d}"
            if key not in self._there:
                self._write_run(loop, iteration, key)
                self._there.add(key)
        except StoreError as error:
            self.waiting += 1
            logger.warning("%s", error.message)

    def _write_run(self, loop: Loop, iteration: Iteration, key: str) -> None:
        contributions = [[one.task, one.key, one.role.value, round(one.weight, 6)] for one in iteration.contributions]
        study = loop.workshop.study
        self.store.write_run(
            name=f"{loop.name} iteration {iteration.number}",
            tags={
                **self.tags,
                Tag.KIND: Kind.FUSION,
                Tag.KEY: key,
                Tag.SWEEP: self.sweep,
                Tag.PARENT: iteration.parent_revision,
                Tag.CONTRIBUTIONS: json.dumps(contributions, separators=(",", ":")),
                Tag.REASON: iteration.reason,
                Tag.CHECKPOINT: str(loop.folder / iteration.folder) if iteration.folder else "",
            },
            params={
                Param.ARCH: study.arch.name,
                Param.BASE_MODEL: loop.base_name(iteration.number),
                Param.BASE_REVISION: iteration.revision,
                Param.VARIANT: loop.label,
                Param.ITERATION: str(iteration.number),
                Param.SEED: str(loop.seed),
                Param.HYPERPARAMETER + "rule": loop.variant.fusion.rule.value,
            },
            history=[
                (name, value, iteration.number, iteration.ended_ms) for name, value in _numbers(iteration).items()
            ],
            files=[_path(loop, iteration)],
            started_ms=iteration.began_ms,
            ended_ms=iteration.ended_ms,
        )


def _numbers(iteration: Iteration) -> dict[str, float]:
    found = {
        Metric.N_CONTRIBUTIONS: float(len(iteration.contributions)),
        Metric.N_USED: float(len(iteration.used)),
        Metric.ACCEPTED: float(iteration.accepted),
        Metric.EXAMPLES_SEEN: float(iteration.examples_seen),
        Metric.WAITED_S: iteration.waited_s,
        Metric.FUSE_S: iteration.fuse_s,
        Metric.TRAIN_S: sum(one.train_s for one in iteration.contributions),
    }
    for name, value in ((Metric.PROBE_BEFORE, iteration.probe_before), (Metric.PROBE_AFTER, iteration.probe_after)):
        if value is not None:
            found[name] = value
    return found


def _path(loop: Loop, iteration: Iteration) -> Path:
    return loop.folder / f"iteration-{iteration.number:04d}.json"
