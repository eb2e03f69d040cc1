"""Base models of an assessment, one by one, as the site shows them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.assessment import Assessment
from analysis.integrity.ledger import QUARANTINED, REPAIRED
from analysis.noise import POINTS, SeedNoise
from analysis.report.site.content import Finding, ModelReport, Standing, TaskCell
from analysis.report.site.lineage import Lineage
from analysis.report.site.names import file_stems
from analysis.report.site.recorded import Recorded

FloatArray = npt.NDArray[np.float64]
_GONE = ("lost", "quarantined", "missing")
"""Status of a cell without score, the most telling first, where rows of a base model differ."""


def model_reports(
    assessment: Assessment, recorded: Recorded, lineage: Lineage, *, noise: SeedNoise
) -> tuple[ModelReport, ...]:
    """Every base model the table knows: ranked and tested ones in the order of the assessment, then those set aside by
    name, then those never tested by probe score.

    Args:
        assessment: of the architecture.
        recorded: from the same table.
        lineage: from the same table.
        noise: of the assessment's tasks.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(assessment.rows):
        rows[row.base_model].append(index)
    place = {name: index for index, name in enumerate(assessment.bases)}
    set_aside = sorted(set(rows) - set(place))
    untested = sorted(recorded.names - set(rows), key=lambda name: (-recorded.probe.get(name, -math.inf), name))
    standing = {name: _standing([assessment.audit.status[index] for index in rows[name]]) for name in assessment.bases}
    standing |= dict.fromkeys(set_aside, Standing.QUARANTINED) | dict.fromkeys(untested, Standing.UNTESTED)
    stems = file_stems(standing)
    low, high = assessment.estimate.interval()
    start = assessment.baseline_score
    cells = _Cells(assessment=assessment, recorded=recorded, lineage=lineage, noise=noise, start=start)
    reports = []
    for name, stands in standing.items():
        numbers = _numbers(assessment, place[name], low=low, high=high) if name in place else {}
        probe, note = _probe(recorded, name)
        report = ModelReport(
            name=name,
            stem=stems[name],
            standing=stands,
            probe=probe,
            probe_note=note,
            trained_on=lineage.trained_on.get(name),
            cells=cells.of(name, rows[name], place.get(name)) if stands is not Standing.UNTESTED else (),
            findings=tuple(_finding(assessment, index) for index in rows[name] if assessment.audit.reason[index]),
            failures=lineage.failures.get(name, ()),
            runs=tuple(dict.fromkeys((*lineage.source_runs.get(name, ()), *recorded.all_runs.get(name, ())))),
            **numbers,
        )
        reports.append(report)
    return tuple(reports)


def _standing(statuses: Sequence[str]) -> Standing:
    """Of a base model with trusted scores, from its rows: set aside where every row is (one that lacks tasks keeps its scores)."""
    if all(status == QUARANTINED for status in statuses):
        return Standing.QUARANTINED
    return Standing.REPAIRED if REPAIRED in statuses else Standing.OK


def _numbers(assessment: Assessment, place: int, *, low: FloatArray, high: FloatArray) -> dict[str, Any]:
    """Fields of a base model that has trusted scores."""
    ranking, scores = assessment.ranking, assessment.scores[place]
    there = np.isfinite(scores)
    by_task = np.where(there, scores, 0.0).sum(axis=1)[there.any(axis=1)] / there.sum(axis=1)[there.any(axis=1)]
    return {
        "rank": int(assessment.rank[place]) or None,
        "rank_low": int(ranking.rank_low[place]) or None,
        "rank_high": int(ranking.rank_high[place]) or None,
        "rank_low_seeds": int(ranking.rank_low_seeds[place]) or None,
        "rank_high_seeds": int(ranking.rank_high_seeds[place]) or None,
        "tie_group": int(ranking.tie_group[place]) or None,
        "avg_score": float(POINTS * by_task.mean()),
        "avg_gain": float(assessment.estimate.gain[place]),
        "noise": float(assessment.estimate.se[place]),
        "low": float(low[place]),
        "high": float(high[place]),
        "p_adjusted": float(ranking.significance.p_holm[place]),
        "gain_shrunken": float(ranking.shrunken.gain[place]),
        "n_tasks": len(by_task),
        "n_scores": int(there.sum()),
    }


def _probe(recorded: Recorded, name: str) -> tuple[float, str]:
    """Probe score in points, by the rule of the integrity gate: one of 0 says that the probe was not run."""
    score = recorded.probe.get(name, math.nan)
    if math.isnan(score) or 0 < score <= 1:
        return POINTS * score, ""
    return math.nan, f"a recorded probe score of {score:g} is set aside: probes score above 0 and at most 1"


def _finding(assessment: Assessment, index: int) -> Finding:
    row, audit = assessment.rows[index], assessment.audit
    line = f"line {row.source_row} of the published file" if row.source_row is not None else ""
    return Finding(
        row=line or (f"seed {row.seed}" if row.seed is not None else ""),
        status=audit.status[index],
        kind=audit.kind[index],
        reason=audit.reason[index],
        evidence=audit.evidence[index],
        lost_tasks=audit.lost_tasks[index],
    )


@dataclass(frozen=True, kw_only=True)
class _Cells:
    """Makes the cells of one base model at a time."""

    assessment: Assessment
    recorded: Recorded
    lineage: Lineage
    noise: SeedNoise
    start: FloatArray
    """(n_tasks,) mean score of the pretrained model, points."""

    def of(self, name: str, rows: Sequence[int], place: int | None) -> tuple[TaskCell, ...]:
        """One cell a task; ``place`` is the base model's row in the assessment, None where no score of it is trusted."""
        failed = {failure.task for failure in self.lineage.failures.get(name, ())}
        trained_on = self.lineage.trained_on.get(name)
        cells = []
        for column, task in enumerate(self.assessment.tasks):
            seeds = self.assessment.scores[place, column] if place is not None else np.empty(0)
            seeds = seeds[np.isfinite(seeds)]
            score = float(POINTS * seeds.mean()) if len(seeds) else math.nan
            status = self._status(rows, column, there=len(seeds) > 0)
            taken = self.recorded.scores.get((name, task), ())
            cells.append(
                TaskCell(
                    task=task,
                    score=score,
                    gain=score - float(self.start[column]),
                    noise=self._noise(column, len(seeds)),
                    n_seeds=len(seeds),
                    status="failed" if status == "missing" and task in failed else status,
                    recorded=POINTS * sum(taken) / len(taken) if taken else math.nan,
                    trained_on=None if trained_on is None else task in trained_on,
                    runs=tuple(self.recorded.runs.get((name, task), ())),
                )
            )
        return tuple(cells)

    def _noise(self, column: int, n_seeds: int) -> float:
        """Standard error of a gain on one task: sd * sqrt(1 / seeds of the base model + 1 / seeds of the pretrained one)."""
        start = int(np.isfinite(self.assessment.baseline[column]).sum())
        return float(self.noise.sd[column] * math.sqrt(1 / n_seeds + 1 / start)) if n_seeds else math.nan

    def _status(self, rows: Sequence[int], column: int, *, there: bool) -> str:
        found = {str(self.assessment.audit.cell_status[row, column]) for row in rows}
        if there:
            return "repaired" if "repaired" in found else "ok"
        return next((status for status in _GONE if status in found), "missing")
