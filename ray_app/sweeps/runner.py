"""Runs a plan on Ray Tune: warm workers, retries of lost workers, nothing but records as output."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray_app.sweeps.orders import Order, Storage
from ray_app.sweeps.plan import PlannedCell
from ray_app.sweeps.progress import SweepProgress
from ray_app.sweeps.settings import ClusterConfig
from tracking.errors import ClusterError
from tracking.records import CellRecord, write_record
from tracking.schema import Metric, State, Tag

logger = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parent.parent.parent
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""Tune's own state is not used (a sweep is planned anew from MLflow), so it is written as seldom as can be."""


@dataclass
class SweepOutcome:
    """How the cells of a sweep ended."""

    complete: list[str] = field(default_factory=list)
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Key -> (stage, reason)."""
    train_s: float = 0.0
    """Seconds in training steps, all cells."""
    step_s: float = 0.0
    """Seconds in training, validation and test steps, all cells."""
    interrupted: bool = False


@contextlib.contextmanager
def ray_cluster(cluster: ClusterConfig) -> Iterator[None]:
    """A Ray to run on: this machine's own (loopback, token, no dashboard), or the one at ``cluster.address``.

    Raises:
        ClusterError: it cannot be started or reached.
    """
    local = cluster.address is None
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if local:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # on Linux: listen on 127.0.0.1 only
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    paths = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(PROJECT), *([paths] if paths else [])])
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import ray

    given: dict[str, Any] = {"address": cluster.address, "log_to_driver": False, "logging_level": logging.ERROR}
    if local:
        given |= {"include_dashboard": False, "object_store_memory": 200 * 2**20}
        given |= {"num_cpus": cluster.cpus} if cluster.cpus is not None else {}
        given |= {"num_gpus": cluster.gpus} if cluster.gpus is not None else {}
    try:
        ray.init(**given)
    except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
        where = cluster.address or "on this machine"
        raise ClusterError(
            f"Ray {where} cannot be {'started' if local else 'reached'} ({str(error).splitlines()[0]}); "
            "check cluster.address, or use CLUSTER=local",
            address=cluster.address,
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def check_resources(cluster: ClusterConfig) -> None:
    """Refuse a cell size that no node has, which Ray would wait for without end.

    Raises:
        ClusterError: no node has the CPUs or GPUs that one cell asks for.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for name, wanted in (("CPU", cluster.cpus_per_cell), ("GPU", cluster.gpus_per_cell)):
        most = max((node.get(name, 0.0) for node in nodes), default=0.0)
        if wanted > most and cluster.address is None:
            raise ClusterError(
                f"a cell asks for {wanted:g} {name}, this machine has {most:g}; set cluster.{name.lower()}s_per_cell",
                resource=name,
            )


def run_cells(
    cells: list[PlannedCell],
    make_order: Callable[[PlannedCell], Order],
    *,
    cluster: ClusterConfig,
    storage: Storage,
    sweep: str,
    progress: SweepProgress,
) -> SweepOutcome:
    """Run cells as Tune trials on the Ray that is up; returns how they ended. Ctrl-C ends it with what is done."""
    from ray import tune

    from ray_app.sweeps.queue import PlanQueue
    from ray_app.sweeps.trial import CellTrial

    orders: dict[str, Order] = {}

    def config_of(cell: PlannedCell) -> dict[str, Any]:
        orders[cell.key] = make_order(cell)
        return {"order": orders[cell.key].plain()}

    outcome = SweepOutcome()
    queue = PlanQueue(cells, config_of)
    resources = {"cpu": cluster.cpus_per_cell}
    if cluster.gpus_per_cell:
        resources["gpu"] = cluster.gpus_per_cell
    watcher = _make_watcher({cell.key: cell for cell in cells}, orders, outcome, progress)
    tuner = tune.Tuner(
        tune.with_resources(CellTrial, resources),
        tune_config=tune.TuneConfig(search_alg=queue, num_samples=len(cells), reuse_actors=True),
        run_config=tune.RunConfig(
            name=sweep,
            storage_path=str(storage.tune),
            failure_config=tune.FailureConfig(max_failures=cluster.max_failures),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            callbacks=[watcher],
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    except KeyboardInterrupt:
        outcome.interrupted = True
    for cell in queue.blocked.values():
        outcome.failed[cell.key] = ("source", f"its base model, cell {cell.requires}, failed")
        progress.ended(cell.key, cost=cell.cost, failed=True)
    shutil.rmtree(storage.tune / sweep, ignore_errors=True)
    return outcome


def _make_watcher(
    cells: dict[str, PlannedCell], orders: dict[str, Order], outcome: SweepOutcome, progress: SweepProgress
) -> Any:
    """The Tune callback that counts; cells whose worker was lost too often are recorded here."""
    from ray.tune import Callback

    class Watcher(Callback):
        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            progress.started(trial.trial_id, _spell(cells[trial.config["order"]["key"]]))

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            key = trial.config["order"]["key"]
            if "validation_score" in result:
                note = f"{result['examples_seen']} examples, validation {100 * result['validation_score']:.1f}"
                progress.reported(trial.trial_id, f"{_spell(cells[key])}: {note}")
            if not result.get("done"):
                return
            seconds = result.get("seconds", {})
            outcome.train_s += seconds.get(Metric.TRAIN_S, 0.0)
            steps = (Metric.TRAIN_S, Metric.VALIDATE_S, Metric.TEST_S)
            outcome.step_s += sum(seconds.get(name, 0.0) for name in steps)
            failed = result.get("state") == State.FAILED
            if failed:
                outcome.failed[key] = (str(result.get("failed_stage", "")), str(result.get("reason", "")))
            else:
                outcome.complete.append(key)
            progress.ended(trial.trial_id, cost=cells[key].cost, failed=failed)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            key = trial.config["order"]["key"]
            reason = _reason(trial)
            outcome.failed[key] = ("worker", reason)
            _record_loss(orders[key], reason)
            progress.ended(trial.trial_id, cost=cells[key].cost, failed=True)

    return Watcher()


def _spell(cell: PlannedCell) -> str:
    return f"{cell.identity.base_model} on {cell.identity.task}, seed {cell.identity.seed}"


def _reason(trial: Any) -> str:
    try:
        text = Path(trial.error_file).read_text().strip() if trial.error_file else ""
    except OSError:
        text = ""
    return (text.splitlines() or ["the worker was lost"])[-1][:300]


def _record_loss(order: Order, reason: str) -> None:
    """Record that a cell failed because its worker or node did."""
    now = int(time.time() * 1000)
    tags = {**order.tags, Tag.FAILED_STAGE: "worker", Tag.REASON: reason}
    record = CellRecord(
        key=order.key,
        attempt=order.attempt,
        state=State.FAILED,
        arch=order.arch,
        params=order.params,
        tags=tags,
        metrics={},
        started_ms=now,
        ended_ms=now,
    )
    write_record(order.storage.records, record)
