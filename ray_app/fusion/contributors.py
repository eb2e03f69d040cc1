"""The cells that a loop asks for: contributions, which are finetunes whose model is kept, and probes on held-out tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ray_app.fusion.lineage import Base, Contribution
from ray_app.hub.splits import draw_order
from ray_app.hub.tasks import SplitCaps
from ray_app.probing.settings import PROBE_RECIPE, ProbeConfig
from ray_app.sweeps.materials import TaskVariant
from ray_app.sweeps.plan import PlannedCell, Study
from ray_app.training.settings import RECIPE, FinetuneConfig
from tracking.cells import CellIdentity
from tracking.schema import Method

if TYPE_CHECKING:
    from ray_app.sweeps.session import SweepSession

SEED_STRIDE = 1000
"""A contributor of iteration i is finetuned with the seed of the run plus (i - 1) times this: its rows come in another order
every time, and those of the first iteration are the cells that any sweep makes of these sources."""
HELD_OUT = "held_out"
"""Role of the probes that a loop decides by."""


def fused_name(arch: str) -> str:
    """Name of the base models between iterations, which their revisions tell apart: equal content, equal cells."""
    return f"startline/{arch.replace('/', '_')}-cold-fusion"


def draw_tasks(tasks: Sequence[str], n: int, *, seed: int, iteration: int) -> list[str]:
    """Datasets of an iteration, drawn without repetition.

    Raises:
        ValueError: more are asked for than there are.
    """
    if n > len(tasks):
        raise ValueError(f"{n} contributors for {len(tasks)} datasets")
    order = draw_order(len(tasks), seed=seed, stream=f"cold-fusion/{iteration}")
    return [tasks[index] for index in order[:n]]


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """A task as it is needed for any number of cells."""

    fingerprint: dict[str, object]
    encoded: Path
    cost: float


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What cells are made of; every task is tokenised once, with the pretrained model's tokenizer, which all models share."""

    session: SweepSession
    study: Study
    """Holds the pretrained model and the shelf of every task that may be asked for."""
    method: FinetuneConfig
    """Of the contributors."""
    caps: SplitCaps
    probe: ProbeConfig | None = None
    """None: nothing is decided by probes."""
    probe_tasks: tuple[str, ...] = ()
    probe_caps: SplitCaps = field(default_factory=SplitCaps)
    _prepared: dict[tuple[TaskVariant, bool], _Prepared] = field(default_factory=dict)

    @property
    def pretrained(self) -> Base:
        """The base model that every loop begins with."""
        found = self.study.checkpoints[self.study.arch.pretrained.id]
        return Base(revision=found.revision, folder=found.path, pretrained=True)

    @property
    def models(self) -> Path:
        """Where the contributors' models are, by key."""
        return self.session.storage.models

    def variant(self, task: str, part: tuple[int, int] | None) -> TaskVariant:
        """The rows that a contributor has."""
        whole = TaskVariant.of(task, self.study.targets[0].split_rule, self.caps)
        return dataclasses.replace(whole, part=part)

    def contribution(self, base: Base, task: str, *, seed: int, part: tuple[int, int] | None = None) -> PlannedCell:
        """The finetune of a base model on a contributor's dataset; its model is kept under its key."""
        return self._cell(base, self.variant(task, part), self.method, seed=seed, role="source")

    def probes_of(self, revision: str, folder: Path, *, pretrained: bool = False) -> list[PlannedCell]:
        """Probes of a model on every held-out task."""
        assert self.probe is not None
        base = Base(revision=revision, folder=folder, pretrained=pretrained)
        variants = [
            TaskVariant.of(task, self.study.targets[0].split_rule, self.probe_caps) for task in self.probe_tasks
        ]
        return [self._cell(base, variant, self.probe, seed=0, role=HELD_OUT) for variant in variants]

    def probes_of_contribution(self, contribution: Contribution) -> list[PlannedCell]:
        """Probes of a contributor's model."""
        return self.probes_of(contribution.key, self.models / contribution.key)

    def _cell(
        self, base: Base, variant: TaskVariant, config: FinetuneConfig | ProbeConfig, *, seed: int, role: str
    ) -> PlannedCell:
        prepared = self._prepare(variant, config)
        probed = isinstance(config, ProbeConfig)
        arch = (
            self.study.arch
        )  # "contribution" keeps these cells apart from what is ranked: other settings, another hash
        identity = CellIdentity(
            arch=arch.name,
            base_model=arch.pretrained.id if base.pretrained else fused_name(arch.name),
            base_revision=base.revision,
            task=variant.name,
            data=prepared.fingerprint,
            method=Method.PROBE.value if probed else Method.FINETUNE.value,
            hyperparameters=config.hyperparameters() | ({} if base.pretrained else {"contribution": True}),
            seed=seed,
            recipe=PROBE_RECIPE if probed else RECIPE,
        )
        return PlannedCell(
            identity=identity,
            role=role,
            variant=variant,
            config=config,
            checkpoint=base.folder,
            baseline=base.pretrained,
            licence=arch.pretrained.licence,
            cost=prepared.cost,
            encoded=prepared.encoded,
        )

    def _prepare(self, variant: TaskVariant, config: FinetuneConfig | ProbeConfig) -> _Prepared:
        kind = (variant, isinstance(config, ProbeConfig))
        if kind not in self._prepared:
            fingerprint = self.study.shelf.fingerprint(variant)
            identity = CellIdentity(
                arch="", base_model="", base_revision="", task=variant.name, data=fingerprint, method="", hyperparameters={},
                seed=0, recipe="",
            )  # fmt: skip
            cell = PlannedCell(
                identity=identity, role="", variant=variant, config=config, checkpoint=self.pretrained.folder
            )
            ready = self.session.prepare(self.study, cell)
            assert ready.encoded is not None
            self._prepared[kind] = _Prepared(fingerprint=fingerprint, encoded=ready.encoded, cost=ready.cost)
        return self._prepared[kind]
