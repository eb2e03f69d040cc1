"""What the site says, as finished numbers: an architecture, its base models, their tasks. Points where not said otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from analysis.noise_ranking import Verdict


class Standing(StrEnum):
    """Where a base model stands with the integrity gate."""

    OK = "ok"
    REPAIRED = "repaired"
    """Some of its scores were put back under their names; the lost tasks are lost."""
    QUARANTINED = "quarantined"
    """Set aside: it is not ranked, over whatever tasks."""
    UNTESTED = "untested"
    """No target task was tried; at most a probe score."""


@dataclass(frozen=True, kw_only=True)
class TaskCell:
    """A base model on one task; NaN where there is no trusted score."""

    task: str
    score: float
    """Mean over seeds."""
    gain: float
    """Score less the pretrained model's."""
    noise: float
    """Standard error of the gain from seeds, the pretrained model's part included."""
    n_seeds: int
    """Trusted scores behind it."""
    status: str
    """'ok', 'repaired', 'lost', 'missing', 'quarantined' (see ``RowAudit.cell_status``) or 'failed'."""
    recorded: float
    """What was recorded under this task's name, before the gate; NaN where nothing was."""
    trained_on: bool | None
    """Whether the base model was trained on this very task; None where that is not known."""
    runs: tuple[str, ...]
    """MLflow runs it comes from."""

    @property
    def beyond_noise(self) -> bool:
        """Whether the gain is more than two standard errors away from zero."""
        return abs(self.gain) > 2 * self.noise


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the integrity gate says about one row of a base model."""

    row: str
    """Which row: a line of a file, a seed, or empty."""
    status: str
    kind: str
    reason: str
    evidence: str
    lost_tasks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A cell without result."""

    task: str
    seed: int | None
    stage: str
    reason: str
    run: str


@dataclass(frozen=True, kw_only=True)
class ModelReport:
    """A base model; numbers are NaN and ranks None where there are none."""

    name: str
    stem: str
    """File name of its page without the ending; no two models of an architecture share one."""
    standing: Standing
    rank: int | None = None
    """By average gain, among the models with every task."""
    rank_low: int | None = None
    rank_high: int | None = None
    """Best and worst rank that the noise of seeds and the choice of tasks allow."""
    rank_low_seeds: int | None = None
    rank_high_seeds: int | None = None
    """Best and worst rank that the noise of seeds allows on these very tasks."""
    tie_group: int | None = None
    avg_score: float = math.nan
    avg_gain: float = math.nan
    noise: float = math.nan
    """Standard error of the average gain."""
    low: float = math.nan
    high: float = math.nan
    """95 % interval of the average gain."""
    p_adjusted: float = math.nan
    gain_shrunken: float = math.nan
    """Average gain with the winner's curse taken off."""
    n_tasks: int = 0
    n_scores: int = 0
    """Trusted scores, all tasks and seeds."""
    probe: float = math.nan
    """Linear-probe score on MNLI."""
    probe_note: str = ""
    """Why there is no probe score although one was recorded."""
    trained_on: tuple[str, ...] | None = None
    """Tasks it was finetuned on before; None where that is not known."""
    cells: tuple[TaskCell, ...] = ()
    """One a task, in the order of ``ArchReport.tasks``; none of an untested model."""
    findings: tuple[Finding, ...] = ()
    failures: tuple[Failure, ...] = ()
    runs: tuple[str, ...] = ()
    """Every MLflow run it comes from."""

    @property
    def saw_target(self) -> bool | None:
        """Whether it was trained on one of the target tasks; None where that is not known."""
        if self.trained_on is None:
            return None
        return any(cell.trained_on for cell in self.cells)


@dataclass(frozen=True, kw_only=True)
class TaskBaseline:
    """The pretrained model on one task."""

    task: str
    mean: float
    sd: float
    """Of one seed, the pretrained model's own (ddof = 1); NaN below two seeds."""
    n_seeds: int
    test_size: int
    """Examples of the test set; 0 where unknown."""
    pooled_sd: float
    """Of one seed, pooled over all models with several seeds: what standard errors rest on."""
    pooled_df: float


@dataclass(frozen=True, kw_only=True)
class ProbeFit:
    """Line of average gain on probe score."""

    intercept: float
    slope: float
    pearson: float
    spearman: float
    n: int
    band: tuple[tuple[float, float, float, float], ...]
    """(probe, mean, low, high) along the line: 95 % interval for one further model; empty without a line."""
    reason: str
    """Why there is no line; else empty."""


@dataclass(frozen=True, kw_only=True)
class ArchReport:
    """Everything the site says about one architecture."""

    name: str
    stem: str
    """Name of its folder."""
    pretrained: str
    tasks: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    """Task groups that are a true part of the tasks, by name."""
    baseline: tuple[TaskBaseline, ...]
    """One a task."""
    baseline_runs: tuple[str, ...]
    avg_score: float
    """Mean over tasks of the pretrained model."""
    avg_sd: float
    """Standard deviation of that mean over seeds that have every task; NaN below two."""
    models: tuple[ModelReport, ...]
    """Ranked ones first, best first; then those with some tasks, those set aside, those not tested."""
    verdict: Verdict
    sentence: str
    """The verdict in words and numbers."""
    best_of_noise: float
    notes: tuple[str, ...]
    probe_fit: ProbeFit
    settings: str
    run_prefix: str
    """What stands before a run id in its address in MLflow's UI; empty where MLflow is no server."""

    @property
    def ranked(self) -> tuple[ModelReport, ...]:
        """Models with a rank, best first."""
        return tuple(model for model in self.models if model.rank is not None)

    def count(self, standing: Standing | str) -> int:
        """Models of a standing."""
        return sum(model.standing == standing for model in self.models)


@dataclass(frozen=True, kw_only=True)
class Unranked:
    """An architecture that has results, but none that can be ranked."""

    name: str
    reason: str
