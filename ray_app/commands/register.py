"""`make register ARCH=...`: the best base model into MLflow's model registry, under the alias best-base."""

from __future__ import annotations

import math

from analysis.report.site import ArchReport, ModelReport
from analysis.report.site.lineage import Lineage, trace_lineage
from analysis.report.site.numbers import interval, signed
from ray_app.commands.console import console
from ray_app.commands.report import assess_report, read_cells, require_store
from ray_app.config import AppConfig
from tracking.cells import digest
from tracking.errors import InputError
from tracking.registry import BEST_BASE, Registration, register_base
from tracking.schema import ModelTag, Tag
from tracking.store import exclusive_writer

ALPHA = 0.05
"""Holm-corrected p value below which a base model counts as better than the pretrained one."""


def run(config: AppConfig) -> int:
    """Register the best base model; returns the exit code.

    Raises:
        InputError: no base model is ranked, or none is significantly better than the pretrained one and FORCE=1 is not given.
        StoreError: the store or its registry failed.
    """
    require_store(config)
    table = read_cells(config, config.arch.name)
    report = assess_report(config, config.arch.name, table)
    model = choose_base(report, force=config.force)
    lineage = trace_lineage(table, pretrained=report.pretrained)
    with exclusive_writer(config.out):
        done = register(config.tracking_uri, report, model, lineage)
    state = "registered as" if done.created else "is registered already as"
    console.print(
        f"{model.name}: {state} {done.name} version {done.version}, alias {BEST_BASE} "
        f"(gain {signed(model.avg_gain)} points, 95 % interval {interval(model)}, rank {model.rank} of {len(report.ranked)})"
    )
    console.print(f"to finetune from it: models:/{done.name}@{BEST_BASE}")
    return 0


def choose_base(report: ArchReport, *, force: bool) -> ModelReport:
    """The highest-ranked base model that is significantly better than the pretrained one.

    Args:
        report: of the architecture.
        force: take the highest-ranked one even if none is.

    Raises:
        InputError: there is none; the message is the verdict.
    """
    better = [model for model in report.ranked if model.p_adjusted < ALPHA]
    if better:
        return better[0]
    if force and report.ranked:
        return report.ranked[0]
    if not report.ranked:
        raise InputError(
            f"{report.name}: no base model is ranked, so there is none to register; {report.sentence}", arch=report.name
        )
    raise InputError(
        f"{report.name}: nothing was registered. {report.sentence} FORCE=1 registers the highest-ranked base model all the same",
        arch=report.name,
    )


def register(uri: str, report: ArchReport, model: ModelReport, lineage: Lineage) -> Registration:
    """Write the version and its tags.

    Raises:
        StoreError: the registry failed.
    """
    tags = {name: text for name, text in version_tags(report, model, lineage).items() if text}
    return register_base(
        uri,
        arch=report.name,
        base_model=model.name,
        source=_source(model, lineage),
        key=digest([report.name, model.name, sorted(tags.items())]),
        tags=tags,
        description=(
            f"Base model for {report.name}: average gain {signed(model.avg_gain)} points over {report.pretrained} on "
            f"{model.n_tasks} tasks (95 % interval {interval(model)}). {report.sentence}"
        ),
    )


def version_tags(report: ArchReport, model: ModelReport, lineage: Lineage) -> dict[str, str]:
    """Facts about the base model by tag; empty where there is none."""
    return {
        ModelTag.ARCH: report.name,
        ModelTag.PRETRAINED: report.pretrained,
        ModelTag.BASE_MODEL: model.name,
        ModelTag.BASE_REVISION: " ".join(lineage.revisions.get(model.name, ())),
        ModelTag.SETTINGS: report.settings,
        ModelTag.RANK: str(model.rank),
        ModelTag.N_RANKED: str(len(report.ranked)),
        ModelTag.N_TASKS: str(model.n_tasks),
        ModelTag.GAIN: _number(model.avg_gain),
        ModelTag.GAIN_SE: _number(model.noise),
        ModelTag.GAIN_LOW: _number(model.low),
        ModelTag.GAIN_HIGH: _number(model.high),
        ModelTag.GAIN_SHRUNKEN: _number(model.gain_shrunken),
        ModelTag.P_ADJUSTED: _number(model.p_adjusted),
        ModelTag.VERDICT: report.verdict.value,
        ModelTag.TRAINED_ON: " ".join(model.trained_on or ()),
        ModelTag.SOURCE_RUNS: " ".join(lineage.source_runs.get(model.name, ())),
        Tag.CHECKPOINT: lineage.checkpoints.get(model.name, ""),
        ModelTag.FORCED: "" if model.p_adjusted < ALPHA else "true",
    }


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _source(model: ModelReport, lineage: Lineage) -> str:
    """Where the weights are: the folder that the finetune left them in, else the hub at the revision that was tried."""
    if model.name in lineage.checkpoints:
        return lineage.checkpoints[model.name]
    revisions = lineage.revisions.get(model.name, ())
    return f"hf://{model.name}" + (f"@{revisions[-1]}" if revisions else "")
