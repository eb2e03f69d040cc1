"""From MLflow and the task files to the studies that analyses take."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from analysis.assessment import Assessment
from analysis.study import GainStudy, part_of, study_of
from ray_app.commands.rank import assess_table
from ray_app.config import CONF, AppConfig
from ray_app.hub.task_yaml import read_task_config
from tracking.errors import TableError
from tracking.schema import Method
from tracking.table import scored_cells, sync_table

MIN_SIZES = 3


@dataclass(frozen=True, kw_only=True)
class LoadedStudy:
    """A study and where it came from."""

    study: GainStudy
    assessment: Assessment
    table: pa.Table
    """All cells of the architecture."""
    groups: dict[str, tuple[str, ...]]
    """Task -> groups of the papers."""
    faults: tuple[str, ...] = ()
    """Runs that could not be read."""


def task_groups() -> dict[str, tuple[str, ...]]:
    """Groups that every known task belongs to."""
    paths = sorted((CONF / "task").glob("*.yaml"))
    return {path.stem: tuple(read_task_config(path).groups) for path in paths}


def load_study(config: AppConfig, *, subset: str | None = None) -> LoadedStudy:
    """Bring the result table up to date, gate and gather its cells.

    Raises:
        TableError: nothing to analyse, no pretrained model to measure gains against, or an empty set.
    """
    table, report = sync_table(config.tracking_uri, config.arch.name, config.table_path, rebuild=config.rebuild)
    assessment = assess_table(config, table)
    groups = task_groups()
    whole = study_of(config.arch.name, assessment, scored_cells(table), groups)
    if not whole.bases:
        raise TableError(
            f"{config.arch.name} has cells of the pretrained model only, expected at least one other base model; add candidates "
            "and run `make sweep`",
            arch=config.arch.name,
        )
    try:
        study = part_of(whole, subset, groups)
    except ValueError as error:
        raise TableError(str(error), arch=config.arch.name) from error
    return LoadedStudy(study=study, assessment=assessment, table=table, groups=groups, faults=report.faults)


def studies_by_target_size(
    config: AppConfig, loaded: LoadedStudy, *, subset: str | None = None
) -> dict[int, GainStudy]:
    """Studies that differ in the cap on training rows alone, by that cap; empty where fewer than three sizes were tried.

    A target whose training set is smaller than the cap is left out at that size. Of several such series the one with the most
    cells is taken.
    """
    cells = scored_cells(loaded.table)
    finetuned = cells.filter(pc.equal(cells["method"], str(Method.FINETUNE)))
    capped = finetuned.filter(pc.and_(pc.is_valid(finetuned["series"]), pc.is_valid(finetuned["cap_train"])))
    based = pc.fill_null(pc.equal(capped["baseline"], "true"), False)
    measured = set(capped.filter(based)["settings"].to_pylist())
    compared = capped.filter(pc.invert(based))
    sizes: dict[str, dict[str, int]] = {}
    for series, settings, cap in zip(
        *(compared[name].to_pylist() for name in ("series", "settings", "cap_train")), strict=True
    ):
        if settings in measured:
            sizes.setdefault(series, {})[settings] = cap
    weights = {series: pc.sum(pc.equal(capped["series"], series)).as_py() for series in sizes}
    for series in sorted(sizes, key=lambda name: (-weights[name], name)):
        if len(sizes[series]) >= MIN_SIZES:
            return {cap: _at_size(config, loaded, settings, cap, subset) for settings, cap in sizes[series].items()}
    return {}


def _at_size(config: AppConfig, loaded: LoadedStudy, settings: str, cap: int, subset: str | None) -> GainStudy:
    assessment = assess_table(config, loaded.table, settings=settings)
    study = study_of(config.arch.name, assessment, scored_cells(loaded.table), loaded.groups)
    filled = ~(study.target_sizes < cap)
    return part_of(study.select([True] * len(study.bases), filled), subset, loaded.groups)


def other_studies(config: AppConfig, names: list[str], *, subset: str | None = None) -> dict[str, GainStudy]:
    """Studies of other architectures in the same store.

    Raises:
        TableError: one of them has nothing to analyse.
    """
    found = {}
    for name in names:
        arch = dataclasses.replace(config.arch, name=name)
        found[name] = load_study(dataclasses.replace(config, arch=arch, settings=None), subset=subset).study
    return found
