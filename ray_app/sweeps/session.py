"""One invocation that runs cells: plans them against what MLflow holds, tokenises, trains on Ray Tune, uploads.

`make sweep` runs one plan, `make start` a plan a round; both come through here, so a cell that is complete costs neither anything.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from rich.console import Console

from ray_app.commit import code_commit
from ray_app.config import CONF, AppConfig
from ray_app.embedded.vit import EmbeddedVitConfig
from ray_app.hub.task_yaml import read_task_config
from ray_app.hub.tasks import SplitCaps, SplitRule
from ray_app.probing.settings import POOLINGS, ProbeConfig
from ray_app.sweeps.materials import TaskShelf, TaskVariant, check_inputs, require_all
from ray_app.sweeps.orders import Order, Storage, make_order
from ray_app.sweeps.outcome import SweepOutcome
from ray_app.sweeps.plan import PlannedCell, Study, base_models, in_running_order, plan_cells, remaining_cells
from ray_app.sweeps.progress import SweepProgress
from ray_app.sweeps.uploader import Uploader
from ray_app.training.settings import FinetuneConfig, Precision
from tracking.errors import CheckpointError, ConfigError, StartlineError, StorageError
from tracking.schema import Tag
from tracking.store import TrackingStore, writer_id
from tracking.table import newest_upload_ms, scored_cells, sync_table

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler

    from ray_app.sweeps.fed_queue import CellFeed
    from ray_app.sweeps.queue import PlanQueue


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """What a study comes to, given what is complete."""

    study: Study
    cells: list[PlannedCell]
    """Every cell of the study."""
    todo: list[PlannedCell]
    """Cells to be run, tokenised and costed, in running order."""
    done: list[PlannedCell]
    """Cells that need not be run."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Candidates that cannot be used, with the reason."""

    @property
    def settings(self) -> str | None:
        """Settings hash of the target cells; None without any."""
        return next((cell.identity.settings for cell in self.cells if cell.role == "target"), None)


class SweepSession:
    """Plans and runs cells under one id, with one uploader beside the driver.

    Args:
        config: the request; ``study`` takes others of the same architecture and output folder.
        console: where progress is shown.
    """

    def __init__(self, config: AppConfig, *, console: Console) -> None:
        self.config = config
        self.console = console
        self.id = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)
        self.storage = Storage(root=config.storage)
        self.cache = config.cache.expanduser().absolute()
        self.mirror = config.mirror.expanduser().absolute() if config.mirror else None
        self.store = TrackingStore(
            config.tracking_uri, config.arch.name, artifact_root=config.artifact_root, writer=writer_id(config.out)
        )
        self.uploader = Uploader(self.store, self.storage.records, complete=(), writers=config.tracking.n_writers)
        self.tags = run_tags()
        self.up = False
        """Whether the cluster is."""
        self._runs = 0
        self._licences: dict[str, str] = {}

    def open(self) -> pa.Table:
        """Settle what an interrupted run left behind, learn which cells are complete; returns the result table."""
        self.store.discard_half_written()
        table = self.sync(rebuild=self.config.rebuild)
        self.store.know_stamp(newest_upload_ms(table))
        self.uploader.complete.update(scored_cells(table)["key"].to_pylist())
        self.uploader.drain(check=True)
        if self.uploader.last_error is not None:
            raise self.uploader.last_error
        if self.uploader.uploaded:
            table = self.sync()
        if self.config.embedded is not None:
            self._make_embedded()
        if self.config.embedded_vit is not None:
            self.config.arch.pretrained.path = str(self._make_vit(self.config.embedded_vit))
        return table

    def sync(self, *, rebuild: bool = False) -> pa.Table:
        """The result table, brought up to date."""
        config = self.config
        return sync_table(config.tracking_uri, config.arch.name, config.table_path, rebuild=rebuild)[0]

    def _make_embedded(self) -> None:
        from ray_app.embedded.mirror import make_embedded_mirror

        assert self.config.embedded is not None
        made = make_embedded_mirror(
            self.cache / "embedded", self.config.embedded, lambda text: self.console.print(text)
        )
        self.mirror = made.folder

    def _make_vit(self, vit: EmbeddedVitConfig) -> Path:
        from ray_app.embedded.vit import make_vit

        task = read_task_config(CONF / "task" / f"{vit.task}.yaml")
        shelf = TaskShelf({task.name: task}, mirror=self.mirror, cache=self.cache, offline=self.config.offline)
        data = shelf.read(TaskVariant.of(task.name, SplitRule.SITE, SplitCaps()))
        return make_vit(self.cache / "embedded-vit", vit, data, lambda text: self.console.print(text))

    def study(self, config: AppConfig | None = None, *, probe: bool = False, lenient: bool = False) -> Study:
        """Settle precision, find every checkpoint and task of a request (the session's own, or a part of it).

        Args:
            config: the request; None: the session's own.
            probe: targets are probed, and candidates that cannot be used are left out; else they are finetuned, all of them.
            lenient: candidates that cannot be used are left out of a finetune too.
        """
        config = config or self.config
        method = dataclasses.replace(config.method, precision=settle_precision(config))
        names = [*config.suite.tasks, *(task for group in config.candidates.sources for task in group.tasks)]
        tasks = {name: read_task_config(CONF / "task" / f"{name}.yaml") for name in dict.fromkeys(names)}
        check_inputs(tasks.values(), config.arch)
        shelf = TaskShelf(tasks, mirror=self.mirror, cache=self.cache, offline=config.offline)
        rule = config.suite.split_rule
        targets = [TaskVariant.of(task, rule, caps) for caps in config.suite.variants() for task in config.suite.tasks]
        made = [TaskVariant.of(task, rule, group.caps) for group in config.candidates.sources for task in group.tasks]
        models = base_models(config.arch, config.candidates.models)
        checkpoints, left_out = require_all(
            models,
            [*targets, *made],
            shelf,
            model_types=config.arch.model_types,
            min_free_bytes=int(config.cluster.min_free_gb * 1e9),
            optional=[ref.id for ref in models[1:]] if probe or lenient else (),
        )
        return Study(
            arch=config.arch,
            checkpoints=checkpoints,
            models=[ref for ref in models if ref.id in checkpoints],
            sources=config.candidates.sources,
            targets=targets,
            seeds=config.seeds,
            method=method,
            shelf=shelf,
            probe=settled_probe(config, method) if probe else None,
            lenient=probe or lenient,
            left_out=left_out,
        )

    def plan(self, study: Study) -> SweepPlan:
        """Cells of a study that are still to be run, ready to be run, and those that are not."""
        cells = plan_cells(study)
        todo, done = remaining_cells(cells, complete=self.uploader.complete, models_at=self.storage.models)
        left_out = dict(study.left_out)
        todo = in_running_order(self._all_prepared(study, todo, left_out))
        if self.config.debug.max_cells is not None:
            todo = todo[: self.config.debug.max_cells]
        return SweepPlan(study=study, cells=cells, todo=todo, done=done, left_out=left_out)

    def _all_prepared(self, study: Study, cells: list[PlannedCell], left_out: dict[str, str]) -> list[PlannedCell]:
        """Cells made ready; a probe goes on without the candidates whose tokenizer is broken."""
        ready = []
        for cell in cells:
            try:
                ready.append(self.prepare(study, cell))
            except CheckpointError as error:
                if not study.lenient or cell.baseline or cell.role == "source":
                    raise
                left_out[cell.identity.base_model] = error.message
        return ready

    def prepare(self, study: Study, cell: PlannedCell) -> PlannedCell:
        """Encode the cell's task where that was not done yet, and cost the cell."""
        pretrained = study.checkpoints[study.arch.pretrained.id]
        base = cell.checkpoint or pretrained.path
        length, family = cell.config.max_length or study.method.max_length, study.arch.family
        folder = study.shelf.encoded_folder(
            cell.variant, base, family=family, max_length=length, fingerprint=dict(cell.identity.data)
        )
        study.shelf.encode(cell.variant, base, folder=folder, family=family, max_length=length)
        tokens = count_tokens(folder)
        rows_factor = 1.0 if isinstance(cell.config, ProbeConfig) else 3 * cell.config.max_epochs
        work = pretrained.n_parameters * (rows_factor * tokens["train"] + tokens["validation"] + tokens["test"])
        return dataclasses.replace(cell, encoded=folder, cost=float(work))

    @contextlib.contextmanager
    def cluster(self) -> Iterator[None]:
        """Ray and the uploader, for as many ``run`` as are wanted; afterwards ``finish``."""
        from ray_app.sweeps.runner import check_resources, ray_cluster

        with ray_cluster(self.config.cluster):
            check_resources(self.config.cluster)
            self.uploader.start()
            self.up = True
            try:
                yield
            except StartlineError:
                self.finish()
                raise
            finally:
                self.up = False

    def order(self, cell: PlannedCell) -> Order:
        """What a worker is handed for a cell that is ready."""
        return make_order(
            cell,
            family=self.config.arch.family,
            execution=self.config.execution,
            storage=self.storage,
            sweep=self.id,
            attempt=f"{self.id}.{secrets.token_hex(3)}",
            tags={**self.tags, Tag.TASK_LICENCE: self._licence(cell.identity.task)},
            features=self.cache / "features",
            empty=self.config.debug.empty_cells,
        )

    def _licence(self, task: str) -> str:
        if task not in self._licences:
            path = CONF / "task" / f"{task}.yaml"
            self._licences[task] = read_task_config(path).license if path.exists() else ""  # several tasks have no file
        return self._licences[task]

    def _progress(self, todo: list[PlannedCell]) -> SweepProgress:
        return SweepProgress(total=len(todo), total_cost=sum(cell.cost for cell in todo), console=self.console)

    def run(
        self, todo: list[PlannedCell], *, scheduler: Callable[[PlanQueue], TrialScheduler] | None = None
    ) -> SweepOutcome:
        """Run cells on the cluster that is up, to their end unless a scheduler stops them; returns how they ended."""
        from ray_app.sweeps.runner import run_cells

        self._runs += 1
        name = self.id if self._runs == 1 else f"{self.id}-{self._runs}"
        with self._progress(todo) as progress:
            return run_cells(
                todo,
                self.order,
                cluster=self.config.cluster,
                storage=self.storage,
                uploaded=self.uploader.complete,
                sweep=name,
                progress=progress,
                scheduler=scheduler,
            )

    def run_feed(self, feed: CellFeed) -> SweepOutcome:
        """Run what a feed asks for until it has ended, on the cluster that is up; returns how the cells ended."""
        from ray_app.sweeps.runner import run_cells

        self._runs += 1
        with self._progress([]) as progress:
            return run_cells(
                [],
                self.order,
                cluster=self.config.cluster,
                storage=self.storage,
                uploaded=self.uploader.complete,
                sweep=f"{self.id}-{self._runs}",
                progress=progress,
                feed=feed,
            )

    def run_here(self, todo: list[PlannedCell]) -> SweepOutcome:
        """Run cells one after the other in this process, for a few that are not worth a cluster; none may be a source."""
        from ray_app.sweeps.inline import run_inline

        with self._progress(todo) as progress:
            return run_inline(todo, self.order, cluster=self.config.cluster, progress=progress)

    def finish(self) -> int:
        """Upload what is left; returns how many results still wait on disk."""
        return self.uploader.stop(patience_s=self.config.tracking.patience_s)


def check_folder(folder: Path, *, min_free_bytes: int) -> None:
    """Refuse a folder that cannot be written or whose disk is nearly full, before any work is done.

    Raises:
        StorageError: with what came and what is needed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise StorageError(
            f"the output folder {folder} cannot be written ({error.strerror}); choose another with OUT=dir",
            path=str(folder),
        ) from error
    free = shutil.disk_usage(folder).free
    if free < min_free_bytes:
        raise StorageError(
            f"the disk of {folder} has {free / 1e9:.2f} GB free, a sweep needs {min_free_bytes / 1e9:.2f} GB; free space, "
            "choose another disk with OUT=dir, or lower cluster.min_free_gb",
            path=str(folder),
            free_bytes=free,
        )


def settle_precision(config: AppConfig) -> Precision:
    """The arithmetic cells will use: 'auto' is bf16 on GPUs and on CPUs that multiply bf16, fp32 elsewhere."""
    if config.method.precision is not Precision.AUTO:
        return config.method.precision
    if config.cluster.gpus_per_cell:
        return Precision.BF16
    if config.cluster.address is not None:
        return Precision.FP32
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return Precision.FP32
    return Precision.BF16 if "avx512_bf16" in flags or "amx_bf16" in flags else Precision.FP32


def settled_probe(config: AppConfig, method: FinetuneConfig) -> ProbeConfig:
    """The probe with what it takes over from the training method filled in.

    Raises:
        ConfigError: a pooling that this family of models does not have.
    """
    probe = config.probe
    known = POOLINGS[config.arch.family]
    if probe.pooling not in known:
        names = ", ".join(pooling.value for pooling in known)
        raise ConfigError(
            f"probe.pooling: {probe.pooling.value}; a model of family {config.arch.family.value} has {names}"
        )
    return dataclasses.replace(
        probe,
        max_length=probe.max_length or method.max_length,
        precision=method.precision if probe.precision is Precision.AUTO else probe.precision,
    )


def count_tokens(folder: Path) -> dict[str, int]:
    """Tokens of each split of an encoded task; of images squares of 16 pixels."""
    from ray_app.training.tokens import SPLITS, EncodedTask

    task = EncodedTask(folder)
    return {split: int(np.sum(task[split].lengths)) for split in SPLITS}


def run_tags() -> dict[str, str]:
    """Commit and environment, for every run."""
    names = ("torch", "transformers", "ray", "mlflow", "datasets")
    environment = {name: version(name) for name in names} | {
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    return {Tag.COMMIT: code_commit(), Tag.ENVIRONMENT: json.dumps(environment)}
