"""The plan of a sweep: candidates x tasks x seeds as cells, minus those already complete, in the order they are run."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ray_app.hub.checkpoints import Checkpoint, ModelRef
from ray_app.hub.tasks import SplitRule
from ray_app.probing.settings import PROBE_RECIPE, ProbeConfig
from ray_app.sweeps.materials import TaskShelf, TaskVariant
from ray_app.sweeps.settings import ArchConfig, SourcesConfig
from ray_app.training.settings import RECIPE, FinetuneConfig
from tracking.cells import CellIdentity
from tracking.errors import ConfigError
from tracking.schema import Method


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """A cell to be run."""

    identity: CellIdentity
    role: str
    """'target', or 'source' when its finetuned model becomes a base model."""
    variant: TaskVariant
    config: FinetuneConfig | ProbeConfig
    checkpoint: Path | None
    """Folder of the base model; None when it is the model of cell ``requires``."""
    requires: str | None = None
    """Key of the source cell whose model is the base model."""
    baseline: bool = False
    """Its base model is the pretrained one."""
    licence: str = ""
    """Licence of the base model, where known."""
    cost: float = 0.0
    """Work in arbitrary units (parameters x tokens), for the order and the estimate."""
    encoded: Path | None = None
    """Folder of the tokenised task."""
    keep: bool = False
    """Its finetuned model is stored though no other cell needs it."""

    @property
    def key(self) -> str:
        """Key of the cell."""
        return self.identity.key


def base_models(arch: ArchConfig, candidates: Collection[ModelRef]) -> list[ModelRef]:
    """The pretrained model first, then every candidate that is not the pretrained model itself."""
    return [arch.pretrained, *(ref for ref in candidates if ref.id != arch.pretrained.id)]


def source_name(arch: str, task: str, sources: SourcesConfig, seed: int) -> str:
    """Name of an intermediate model made here: startline/<arch>-<task>[-<label>][-s<seed>]."""
    parts = [arch.replace("/", "_"), task, *([sources.label] if sources.label else [])]
    if not sources.pair_seeds:
        parts.append(f"s{seed}")
    return "startline/" + "-".join(parts)


def changed_method(method: FinetuneConfig, changes: Mapping[str, object], where: str) -> FinetuneConfig:
    """The method with some hyperparameters changed.

    Raises:
        ConfigError: a name that is no hyperparameter, or a value that cannot be.
    """
    known = {part.name for part in dataclasses.fields(method)}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise ConfigError(
            [f"{where}.{name}: no such hyperparameter; known: {', '.join(sorted(known))}" for name in unknown]
        )
    changed = dataclasses.replace(method, **changes)  # type: ignore[arg-type]
    faults = changed.faults()
    if faults:
        raise ConfigError([f"{where}.{fault}" for fault in faults])
    return changed


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a plan is made from, settled: precision, checkpoints, shelf."""

    arch: ArchConfig
    checkpoints: Mapping[str, Checkpoint]
    """By model id; the pretrained model is among them."""
    models: list[ModelRef]
    """Base models from outside, the pretrained one first."""
    sources: list[SourcesConfig]
    targets: list[TaskVariant]
    seeds: list[int]
    method: FinetuneConfig
    """How source models are finetuned, and targets as well unless they are probed."""
    shelf: TaskShelf
    probe: ProbeConfig | None = None
    """Target cells are probes; None: they are finetunes."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Candidates that cannot be used, with the reason; only a lenient study goes on without them."""
    lenient: bool = False
    """Candidates that turn out to be unusable are left out instead of ending the request."""


def plan_cells(study: Study) -> list[PlannedCell]:
    """Every cell of a study, sources first; nothing is dropped yet and nothing costed.

    A probe draws nothing, so a base model that is the same for every seed is probed under the first one only.
    """
    fingerprints = {variant: study.shelf.fingerprint(variant) for variant in _variants(study)}
    seeds = study.seeds[:1] if study.probe else study.seeds
    cells = [
        _cell(study, ref.id, study.checkpoints[ref.id].revision, variant, seed, fingerprints[variant], model=ref)
        for ref in study.models
        for variant in study.targets
        for seed in seeds
    ]
    sources: list[PlannedCell] = []
    for index, group in enumerate(study.sources):
        method = changed_method(study.method, group.method, f"candidates.sources.{index}.method")
        for task in group.tasks:
            variant = TaskVariant.of(task, _rule(study), group.caps)
            for seed in _source_seeds(study, group):
                made = _source_cell(study, variant, seed, method, fingerprints[variant])
                sources.append(made)
                name = source_name(study.arch.name, task, group, seed)
                targets = [seed] if group.pair_seeds else seeds
                cells += [
                    _cell(study, name, made.key, target, target_seed, fingerprints[target], requires=made.key)
                    for target in study.targets
                    for target_seed in targets
                ]
    return [*{cell.key: cell for cell in sources}.values(), *cells]


def _rule(study: Study) -> SplitRule:
    return study.targets[0].split_rule


def _source_seeds(study: Study, group: SourcesConfig) -> list[int]:
    return study.seeds if group.pair_seeds else group.seeds


def _variants(study: Study) -> list[TaskVariant]:
    made = [TaskVariant.of(task, _rule(study), group.caps) for group in study.sources for task in group.tasks]
    return list(dict.fromkeys([*study.targets, *made]))


def _source_cell(
    study: Study, variant: TaskVariant, seed: int, method: FinetuneConfig, fingerprint: Mapping[str, object]
) -> PlannedCell:
    pretrained = study.arch.pretrained
    revision = study.checkpoints[pretrained.id].revision
    cell = _cell(study, pretrained.id, revision, variant, seed, fingerprint, model=pretrained, method=method)
    return dataclasses.replace(cell, role="source")


def _cell(
    study: Study,
    base_model: str,
    revision: str,
    variant: TaskVariant,
    seed: int,
    fingerprint: Mapping[str, object],
    *,
    model: ModelRef | None = None,
    requires: str | None = None,
    method: FinetuneConfig | None = None,
) -> PlannedCell:
    chosen = method or study.probe or study.method
    probed = isinstance(chosen, ProbeConfig)
    identity = CellIdentity(
        arch=study.arch.name,
        base_model=base_model,
        base_revision=revision,
        task=variant.name,
        data=fingerprint,
        method=Method.PROBE.value if probed else Method.FINETUNE.value,
        hyperparameters=chosen.hyperparameters(),
        seed=seed,
        recipe=PROBE_RECIPE if probed else RECIPE,
    )
    return PlannedCell(
        identity=identity,
        role="target",
        variant=variant,
        config=chosen,
        checkpoint=study.checkpoints[model.id].path if model else None,
        requires=requires,
        baseline=base_model == study.arch.pretrained.id,
        licence=model.licence if model else "",
    )


def remaining_cells(
    cells: list[PlannedCell], *, complete: Collection[str], models_at: Path
) -> tuple[list[PlannedCell], list[PlannedCell]]:
    """Cells still to be run, and those that are not.

    A source cell is run when it is not complete, or when a remaining target cell needs its model and the model is gone. A
    cell that is both a target (of the pretrained model) and a source has one key and is run once, as a source.

    Args:
        cells: the whole plan.
        complete: keys that are scored already.
        models_at: folder of the finetuned source models, by key.
    """
    done = set(complete)
    source_keys = {cell.key for cell in cells if cell.role == "source"}
    targets = [cell for cell in cells if cell.role == "target" and cell.key not in done and cell.key not in source_keys]
    needed = {cell.requires for cell in targets if cell.requires}
    gone = {key for key in needed if not (models_at / key / "config.json").exists()}
    sources = [cell for cell in cells if cell.role == "source" and (cell.key not in done or cell.key in gone)]
    chosen = list({cell.key: cell for cell in [*sources, *targets]}.values())
    kept = {cell.key for cell in chosen}
    return chosen, list({cell.key: cell for cell in cells if cell.key not in kept}.values())


def in_running_order(cells: list[PlannedCell]) -> list[PlannedCell]:
    """Sources first, then base model by base model (a warm worker keeps its weights), the most work first in each."""
    work: dict[str, float] = {}
    for cell in cells:
        work[cell.identity.base_model] = work.get(cell.identity.base_model, 0.0) + cell.cost

    def place(cell: PlannedCell) -> tuple[bool, float, str, float, str]:
        name = cell.identity.base_model
        return (cell.role != "source", -work[name], name, -cell.cost, cell.key)

    return sorted(cells, key=place)
