"""One invocation of `make cold-fusion` up to its base models: who is seen, which loops and baselines are run, what came of them."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from ray_app.config import AppConfig, known_names, nearest
from ray_app.fusion.asynchronous import AsynchronousLoop
from ray_app.fusion.cold_settings import ColdFusionConfig, Mode, VariantConfig
from ray_app.fusion.contributors import Workshop
from ray_app.fusion.feed import Ended, Feed, Gather, Program, Work
from ray_app.fusion.lineage import Iteration
from ray_app.fusion.loop import Loop
from ray_app.fusion.multitask import multitask_cell
from ray_app.hub.splits import draw_order
from ray_app.sweeps.plan import PlannedCell, changed_method
from ray_app.sweeps.session import SweepSession, settled_probe
from tracking.cells import digest
from tracking.errors import ConfigError, QuorumError
from tracking.schema import SCORED_STATES
from tracking.table import scored_cells

FUSED_ONCE, MULTITASK = "fused_once", "multitask"
"""Labels of the baselines that are base models of their own."""


@dataclass(frozen=True, kw_only=True)
class TaskSplit:
    """Targets by whether a contributor has them."""

    seen: list[str]
    """Datasets of the contributors; a seen target is one of them."""
    unseen: list[str]
    """Targets that no contributor has."""


def split_tasks(config: AppConfig) -> TaskSplit:
    """Which datasets contribute, and which targets are held out.

    Raises:
        ConfigError: unknown tasks, a task that is both, more contributors than datasets, probes on a contributor's task or a target.
    """
    cold, targets = config.cold_fusion, config.suite.tasks
    known = known_names("task")
    faults = [
        f"cold_fusion.{path}: there is no task {name!r}{nearest(name, known)}"
        for path, name in cold.named_tasks()
        if name not in known
    ]
    if cold.tasks is None:
        n_drawn = len(targets) // 4
        order = draw_order(len(targets), seed=cold.split_seed, stream="cold-fusion/unseen")
        held = cold.unseen if cold.unseen is not None else [targets[index] for index in order[:n_drawn]]
        seen = [task for task in targets if task not in held]
    else:
        held, seen = cold.unseen or [], cold.tasks
    faults += [f"cold_fusion.unseen: {task} is a contributor's dataset too" for task in held if task in seen]
    faults += [
        f"cold_fusion.unseen: {task} is none of the targets; add it to the suite"
        for task in held
        if task not in targets
    ]
    faults += [
        f"cold_fusion.probe_tasks: {task} is a contributor's dataset or a target; what decides may not be judged by"
        for task in cold.probe_tasks
        if task in seen or task in targets
    ]
    for label, variant in cold.ways.items():
        wanted = cold.contributors_of(variant)
        if variant.single_task is None and wanted > len(seen):
            faults.append(
                f"cold_fusion.contributors: {wanted} for {len(seen)} datasets of variant {label} ({', '.join(seen)}); take fewer "
                "(CONTRIBUTORS=), name more datasets (SUITE=, cold_fusion.tasks), or cut one into parts (single_task)"
            )
    if faults:
        raise ConfigError(faults)
    return TaskSplit(seen=seen, unseen=[task for task in targets if task not in seen])


def make_workshop(config: AppConfig, session: SweepSession, split: TaskSplit) -> Workshop:
    """Find the pretrained model and every dataset that a loop may ask for, and settle how contributors train."""
    cold = config.cold_fusion
    singles = [variant.single_task for variant in cold.ways.values() if variant.single_task]
    names = dict.fromkeys([*config.suite.tasks, *split.seen, *singles, *cold.probe_tasks])
    suite = dataclasses.replace(config.suite, tasks=list(names), train_sizes=[])
    candidates = dataclasses.replace(config.candidates, models=[], sources=[])
    study = session.study(dataclasses.replace(config, suite=suite, candidates=candidates))
    method = changed_method(study.method, cold.method, "cold_fusion.method")
    return Workshop(
        session=session,
        study=study,
        method=method,
        caps=cold.caps,
        probe=settled_probe(config, study.method) if cold.probe_tasks else None,
        probe_tasks=tuple(cold.probe_tasks),
        probe_caps=cold.probe_caps,
    )


@dataclass(kw_only=True)
class Experiment:
    """The loops and baselines of an invocation, and the feed that runs them.

    Args:
        config: the request.
        session: opened.
        table: result table, which tells what need not be run.
        on_iteration: told of every iteration that is stored.
    """

    config: AppConfig
    session: SweepSession
    table: pa.Table
    on_iteration: Callable[[Loop, Iteration], None] = lambda loop, iteration: None
    loops: list[Loop] = field(default_factory=list)
    multitask: dict[int, PlannedCell] = field(default_factory=dict)
    """Cell of the multitask model by seed."""

    def __post_init__(self) -> None:
        self.split = split_tasks(self.config)
        self.workshop = make_workshop(self.config, self.session, self.split)
        self._scored = {row["key"]: row for row in scored_cells(self.table).to_pylist()}
        cold = self.config.cold_fusion
        for seed in self.config.seeds:
            self.loops += [self._loop(label, variant, seed) for label, variant in cold.ways.items()]
            if len(self.split.seen) > 1 and cold.baselines.fuse_once:
                self.loops.append(self._fuse_once(seed))
            if len(self.split.seen) > 1 and cold.baselines.multitask:
                self.multitask[seed] = multitask_cell(self.workshop, self.split.seen, seed=seed, epochs=self._epochs())

    @functools.cached_property
    def feed(self) -> Feed:
        """What runs the loops and baselines; made, and begun, when it is first asked for."""
        programs: dict[str, Program] = {loop.name: loop.program() for loop in self.loops}
        programs |= {f"{MULTITASK}-s{seed}": _one(cell) for seed, cell in self.multitask.items()}
        if any(len(loop.iterations) < loop.total for loop in self.loops):
            programs["libraries"] = _import_libraries()
        return Feed(programs=programs, known=self.known)

    @property
    def first(self) -> str:
        """Label of the variant that others are held against."""
        return next(iter(self.config.cold_fusion.ways))

    def known(self, cell: PlannedCell) -> Ended | None:
        """How a cell ended that need not be run: it is scored and, where it makes a model, the model is there."""
        row = self._scored.get(cell.key)
        if row is None or row["state"] not in SCORED_STATES:
            return None
        if cell.role == "source" and not (self.workshop.models / cell.key / "config.json").exists():
            return None
        return Ended(
            key=cell.key,
            state=row["state"],
            score=row["score"],
            n_eval=row["n_eval"],
            train_s=row["train_s"] or 0.0,
            examples_seen=row["examples_seen"] or 0,
        )

    def _loop(self, label: str, variant: VariantConfig, seed: int) -> Loop:
        kind = AsynchronousLoop if variant.mode is Mode.ASYNCHRONOUS else Loop
        cold = self.config.cold_fusion
        if variant.single_task is not None:  # the last part is the smallest: it is read before anything runs
            n = variant.parts or cold.contributors_of(variant)
            self.workshop.contribution(self.workshop.pretrained, variant.single_task, seed=seed, part=(n - 1, n))
        return self._made(kind, label, variant, seed=seed, tasks=self.split.seen, config=cold)

    def _fuse_once(self, seed: int) -> Loop:
        """One iteration of all datasets from the pretrained model."""
        seen = self.split.seen
        config = dataclasses.replace(self.config.cold_fusion, contributors=len(seen), iterations=1)
        return self._made(Loop, FUSED_ONCE, VariantConfig(), seed=seed, tasks=seen, config=config)

    def _made(
        self,
        kind: type[Loop],
        label: str,
        variant: VariantConfig,
        *,
        seed: int,
        tasks: list[str],
        config: ColdFusionConfig,
    ) -> Loop:
        shop = self.workshop
        identity: dict[str, Any] = {
            "arch": shop.study.arch.name,
            "pretrained": shop.pretrained.revision,
            "method": shop.method.hyperparameters(),
            "datasets": [shop.study.shelf.fingerprint(shop.variant(task, None)) for task in tasks],
            "loop": config.identity(variant),
            "seed": seed,
        }
        if variant.single_task is not None:
            identity["datasets"] = [shop.study.shelf.fingerprint(shop.variant(variant.single_task, None))]
        return kind(
            name=f"{label}-s{seed}",
            prefix=self.prefix(label),
            folder=self.config.storage / "fusion" / f"{label}-s{seed}-{digest(identity)}",
            label=label,
            variant=variant,
            config=config,
            tasks=tasks,
            seed=seed,
            workshop=shop,
            on_iteration=self._stored,
        )

    def _epochs(self) -> float:
        """Passes of the multitask model over all datasets: as many as the contributors of the first variant make over theirs."""
        cold = self.config.cold_fusion
        if cold.baselines.multitask_epochs is not None:
            return cold.baselines.multitask_epochs
        turns = cold.iterations * cold.contributors_of(cold.ways[self.first]) / len(self.split.seen)
        return self.workshop.method.max_epochs * turns

    def _stored(self, loop: Loop, iteration: Iteration) -> None:
        self.on_iteration(loop, iteration)
        self.remove_spent()

    def remove_spent(self) -> None:
        """Remove contributors' models that no loop needs any more; those of the pretrained model are intermediate models and stay."""
        if self.config.cold_fusion.keep_contributions:
            return
        pretrained = self.workshop.pretrained.revision
        for loop in self.loops:
            for iteration in loop.iterations:
                if all(self._past(other, iteration) for other in self.loops if other.seed == loop.seed):
                    for one in iteration.contributions:
                        if one.base_revision != pretrained:
                            shutil.rmtree(self.workshop.models / one.key, ignore_errors=True)

    def _past(self, loop: Loop, iteration: Iteration) -> bool:
        """Whether a loop will not ask for the contributions of an iteration again."""
        return len(loop.iterations) >= min(iteration.number, loop.total) or loop.name in self.feed.failures

    def prefix(self, label: str) -> str:
        """What the names of a variant's or baseline's base models begin with."""
        return f"startline/{self.config.arch.name.replace('/', '_')}-{self.config.cold_fusion.name}-{label}"


def _import_libraries() -> Program:
    """Import what fusing needs while the first contributors train: it takes seconds."""
    yield Work(lambda: importlib.import_module("transformers.models.auto.modeling_auto"))


def _one(cell: PlannedCell) -> Program:
    ended = yield Gather([cell])
    if not ended[cell.key].usable:
        raise QuorumError(
            f"the multitask model could not be trained ({ended[cell.key].state}: {ended[cell.key].reason}); run the same command again, "
            "or leave it out with cold_fusion.baselines.multitask=false"
        )


def disk_bytes(experiment: Experiment) -> int:
    """Space that the models of an experiment take, about: every iteration's, and those of contributors under way."""
    size = experiment.workshop.study.checkpoints[experiment.config.arch.pretrained.id].size_bytes
    kept = sum(loop.total + loop.n_contributors for loop in experiment.loops) + len(experiment.split.seen)
    return size * kept
