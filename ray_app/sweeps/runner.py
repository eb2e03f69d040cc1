"""Runs a plan on Ray Tune: warm workers, retries of lost workers, nothing but records as output."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_app.cluster.quiet import tell_in_one_line
from ray_app.sweeps.notice import give_notice_here, interrupt_on_sigterm
from ray_app.sweeps.orders import Order, Storage
from ray_app.sweeps.outcome import SweepOutcome
from ray_app.sweeps.plan import PlannedCell
from ray_app.sweeps.progress import SweepProgress
from ray_app.sweeps.settings import ClusterConfig
from ray_app.sweeps.traces import Traces
from tracking.errors import ClusterError

if TYPE_CHECKING:
    from ray.tune import Callback, Stopper, Tuner
    from ray.tune.schedulers import TrialScheduler

    from ray_app.sweeps.fed_queue import CellFeed
    from ray_app.sweeps.queue import PlanQueue

logger = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parent.parent.parent
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""Tune's own state is not used (a sweep is planned anew from MLflow), so it is written as seldom as can be."""


def set_ray_environment(cluster: ClusterConfig) -> None:
    """What Ray reads when it is first imported: call it before anything that may import Ray in this process."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if cluster.address is None:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # on Linux: listen on 127.0.0.1 only
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@contextlib.contextmanager
def ray_cluster(cluster: ClusterConfig) -> Iterator[None]:
    """A Ray to run on: this machine's own (loopback, token, no dashboard), or the one at ``cluster.address``.

    Raises:
        ClusterError: it cannot be started or reached.
    """
    local = cluster.address is None
    set_ray_environment(cluster)
    paths = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(PROJECT), *([paths] if paths else [])])
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import ray

    for name in (
        "ray.tune.tune",
        "ray.tune.execution.experiment_state",
    ):  # cells that are tried again, and a state nobody needs
        logging.getLogger(name).setLevel(logging.CRITICAL)
    given: dict[str, Any] = {
        "address": cluster.address or "local",
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
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
    tell_in_one_line()
    interrupt_on_sigterm()  # in place of Ray's own handler, which ends the driver without more ado
    try:
        yield
    finally:
        _shut_down()


def _shut_down() -> None:
    """Stop Ray, with what Tune left behind collected before and nothing collected meanwhile.

    A cycle that holds an actor handle and is collected by another thread (the uploader) between the end of Ray's core worker
    and its removal in Python makes Ray exit the whole process on the spot, results not yet uploaded and all.
    """
    import ray

    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        if was_enabled:
            gc.enable()


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
    uploaded: Collection[str] = (),
    scheduler: Callable[[PlanQueue], TrialScheduler] | None = None,
    trainable: type | None = None,
    feed: CellFeed | None = None,
) -> SweepOutcome:
    """Run cells as Tune trials on the Ray that is up; returns how they ended. Ctrl-C ends it with what is done.

    Args:
        cells: in running order.
        make_order: what a worker is handed for a cell.
        cluster: resources of a cell, and how often a lost one is tried again.
        storage: folders that driver and workers share.
        sweep: name of Tune's folder.
        progress: told of every start, validation and end.
        uploaded: keys whose score is in MLflow; may grow meanwhile.
        scheduler: made with the queue; stops trials before their end. None: all run to it.
        trainable: what a trial is; None: ``CellTrial``.
        feed: where more cells come from as others end; workers stay warm in between, and what still runs when it has ended
            is ended too.
    """
    from ray_app.sweeps.allotment import allotted, trial_class
    from ray_app.sweeps.fed_queue import FedQueue, UntilFinished, WarmWorkers
    from ray_app.sweeps.queue import PlanQueue
    from ray_app.sweeps.vigil import Vigil
    from ray_app.sweeps.watcher import Watcher

    traces = Traces(storage, uploaded)
    orders: dict[str, Order] = {}
    known = {cell.key: cell for cell in cells}

    def config_of(cell: PlannedCell) -> dict[str, Any]:
        orders[cell.key] = allotted(make_order(cell), cluster, traces)
        return {"order": orders[cell.key].plain()}

    def note_taken(taken: list[PlannedCell]) -> None:
        known.update({cell.key: cell for cell in taken})
        progress.extend(taken)

    outcome = SweepOutcome()
    queue: PlanQueue = (
        PlanQueue(cells, config_of, max_failures=cluster.max_failures, traces=traces)
        if feed is None
        else FedQueue(feed, config_of, on_taken=note_taken, max_failures=cluster.max_failures, traces=traces)
    )
    keeps = feed is not None and cluster.team == 1  # a team's processes hold GPUs of their own
    chosen = scheduler(queue) if scheduler else WarmWorkers() if keeps else None
    vigil = Vigil(cluster.hang_timeout_s)
    watcher = Watcher(
        known, orders, outcome, progress,
        handed_again=queue.handed_again, ended_unheard=queue.ended_unheard, hung=vigil.ended,
    )  # fmt: skip
    tuner = _make_tuner(
        queue, [watcher, vigil],
        trainable=trainable or trial_class(cluster), cluster=cluster, folder=storage.tune / sweep, scheduler=chosen,
        stop=None if feed is None else UntilFinished(feed),
    )  # fmt: skip
    try:
        tuner.fit()
    except KeyboardInterrupt:
        outcome.interrupted = True
        give_notice_here()
    for cell in queue.blocked.values():
        outcome.failed[cell.key] = ("source", f"its base model, cell {cell.requires}, failed")
        progress.ended(cell.key, cost=cell.cost, failed=True)
    shutil.rmtree(storage.tune / sweep, ignore_errors=True)
    return outcome


def _make_tuner(
    queue: PlanQueue,
    callbacks: list[Callback],
    *,
    trainable: type,
    cluster: ClusterConfig,
    folder: Path,
    scheduler: TrialScheduler | None,
    stop: Stopper | None,
) -> Tuner:
    """Tune as a sweep uses it: cells come from the queue, which also tries lost ones again; nothing of Tune's own is kept."""
    from ray import tune

    from ray_app.sweeps.allotment import most_trials, resources_of

    return tune.Tuner(
        tune.with_resources(trainable, resources_of(cluster)),
        tune_config=tune.TuneConfig(
            search_alg=queue,
            scheduler=scheduler,
            num_samples=-1,  # the queue says when there are no more
            max_concurrent_trials=most_trials(cluster),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            callbacks=callbacks,
            stop=stop,
            verbose=0,
        ),
    )
