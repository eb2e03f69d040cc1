"""From an assessment and the result table to what the site says about an architecture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from analysis.assessment import Assessment
from analysis.association import predict
from analysis.noise import POINTS, measure_seed_noise
from analysis.probe_gain import fit_probe_gain
from analysis.report.site.content import ArchReport, ModelReport, ProbeFit, TaskBaseline
from analysis.report.site.lineage import trace_lineage
from analysis.report.site.model_reports import model_reports
from analysis.report.site.names import file_stems
from analysis.report.site.recorded import read_recorded

FloatArray = npt.NDArray[np.float64]

BAND_STEPS = 24
"""Points at which the interval around the probe line is drawn."""


def arch_report(
    assessment: Assessment,
    table: pa.Table,
    *,
    name: str,
    groups: Mapping[str, Sequence[str]] | None = None,
    stem: str | None = None,
    run_prefix: str = "",
) -> ArchReport:
    """What the site says about one architecture.

    Args:
        assessment: of the architecture's scored cells.
        table: its whole result table, with failed, source and probe cells.
        name: the architecture.
        groups: task groups by name; those that hold no task of the architecture, or all of them, are left out.
        stem: name of its folder; made of ``name`` where not given.
        run_prefix: what stands before a run id in its address in MLflow's UI; empty where there is no such address.

    Cost: linear in cells; 1,278 base models and 15,906 cells take about half a second.
    """
    noise = measure_seed_noise(assessment.scores, assessment.baseline)
    baseline = _baseline(assessment, sd=noise.sd, df=noise.df)
    stages = POINTS * assessment.baseline[:, np.isfinite(assessment.baseline).all(axis=0)].mean(axis=0)
    lineage = trace_lineage(table, pretrained=assessment.pretrained)
    models = model_reports(assessment, read_recorded(table, settings=assessment.settings), lineage, noise=noise)
    chosen = {
        label: tuple(task for task in assessment.tasks if task in set(group)) for label, group in (groups or {}).items()
    }
    return ArchReport(
        name=name,
        stem=stem or file_stems([name])[name],
        pretrained=assessment.pretrained,
        tasks=assessment.tasks,
        groups={label: group for label, group in chosen.items() if 0 < len(group) < len(assessment.tasks)},
        baseline=baseline,
        baseline_runs=_baseline_runs(table, assessment.settings),
        avg_score=float(assessment.baseline_score.mean()),
        avg_sd=float(stages.std(ddof=1)) if len(stages) > 1 else math.nan,
        models=models,
        verdict=assessment.ranking.verdict,
        sentence=assessment.ranking.sentence,
        best_of_noise=assessment.ranking.best_of_noise,
        notes=assessment.notes,
        probe_fit=_probe_fit(models),
        settings=assessment.settings,
        run_prefix=run_prefix,
    )


def _baseline(assessment: Assessment, *, sd: FloatArray, df: FloatArray) -> tuple[TaskBaseline, ...]:
    found = []
    for place, task in enumerate(assessment.tasks):
        seeds = POINTS * assessment.baseline[place][np.isfinite(assessment.baseline[place])]
        found.append(
            TaskBaseline(
                task=task,
                mean=float(seeds.mean()),
                sd=float(seeds.std(ddof=1)) if len(seeds) > 1 else math.nan,
                n_seeds=len(seeds),
                test_size=int(assessment.test_sizes.n[place]),
                pooled_sd=float(sd[place]),
                pooled_df=float(df[place]),
            )
        )
    return tuple(found)


def _baseline_runs(table: pa.Table, settings: str) -> tuple[str, ...]:
    wanted = pc.and_(pc.equal(table["baseline"], "true"), pc.equal(table["settings"], settings))
    return tuple(sorted(set(table.filter(pc.fill_null(wanted, False))["run_id"].to_pylist())))


def _probe_fit(models: Sequence[ModelReport]) -> ProbeFit:
    """Line over the ranked models: average gains over different tasks do not compare."""
    probe = np.array([model.probe for model in models], dtype=float)
    gain = np.array([model.avg_gain if model.rank is not None else math.nan for model in models], dtype=float)
    fit = fit_probe_gain(probe, gain)
    both = probe[np.isfinite(probe) & np.isfinite(gain)]
    band: tuple[tuple[float, float, float, float], ...] = ()
    if not fit.line.reason and len(both):
        x = np.linspace(both.min(), both.max(), BAND_STEPS)
        at = predict(fit.line, x)
        band = tuple(zip(x.tolist(), at.mean.tolist(), at.low.tolist(), at.high.tolist(), strict=True))
    return ProbeFit(
        intercept=fit.line.intercept,
        slope=fit.line.slope,
        pearson=fit.association.pearson,
        spearman=fit.association.spearman,
        n=fit.association.n,
        band=band,
        reason=fit.line.reason or fit.reason,
    )
