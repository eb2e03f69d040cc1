"""What a model card says of a base model: the section, and the same results as plain data for the hub's formats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from scipy import stats

from analysis.report.faithful_card import ordinal
from analysis.report.pipe_table import PipeColumn, escape_markdown, pipe_table
from analysis.report.site import numbers
from analysis.report.site.content import ArchReport, ModelReport, Standing, TaskBaseline, TaskCell
from tracking.names import visible

BEGIN, END = "<!-- startline:begin -->", "<!-- startline:end -->"
"""Marks around the section, by which a later one replaces it."""
METRIC_NAME = "after finetuning (Startline)"
"""How the names of our metrics in a ``model-index`` end."""
_SECTION = """\
{begin}
## Evaluation as a base model

{evaluation} using {model} as a base model yields average score of {avg:.2f} in comparison to {start:.2f} by {pretrained}: \
a gain of {gain} points{interval}.

{rank}

Results of finetuning on each task, in points ({seeds}; score of the pretrained model: {start_seeds}):

{table}

{verdict} Gains are for models finetuned from this one by the same recipe, not for this model as it is. \
Evaluated with Startline {version}, settings `{settings}`.
{end}
"""


@dataclass(frozen=True, kw_only=True)
class TaskSource:
    """Where a task's data is, and how it is scored."""

    dataset: str
    """Id on the hub; empty where it is not there."""
    config: str
    """Configuration (subset) of it; empty where it has none."""
    metric: str
    """'accuracy' or 'spearman'."""
    revision: str = ""
    """Commit of the data that the scores were measured on; empty where not recorded."""


@dataclass(frozen=True, kw_only=True)
class CardResult:
    """A base model on one task, as the hub's formats want it."""

    task: str
    source: TaskSource
    score: float
    """Fraction."""
    gain: float
    """Over the pretrained model, points."""
    low: float
    high: float
    """95 % interval of the gain; NaN where the noise of seeds is unknown."""
    n_seeds: int
    notes: str
    """What the number is and where it comes from, in one line."""


def refusal(model: ModelReport) -> str:
    """Why a card about a base model cannot be written; empty where it can."""
    if model.standing in (Standing.OK, Standing.REPAIRED):
        return ""
    if model.standing is Standing.UNTESTED:
        return "it was not finetuned on any target task"
    reasons = "; ".join(finding.reason for finding in model.findings)
    return f"the integrity gate set it aside ({reasons or 'no trusted score'})"


def card_section(report: ArchReport, model: ModelReport, *, as_of: date, version: str, site: str = "") -> str:
    """The section in Markdown: evaluation sentence, rank, table, verdict. Names in it are escaped.

    Args:
        report: of the model's architecture.
        model: one of its models with trusted scores.
        as_of: day of the ranking.
        version: of Startline.
        site: address at which the leaderboard site is published, without '/' at its end; empty where it is not.

    Raises:
        ValueError: the model has no trusted score.
    """
    reason = refusal(model)
    if reason:
        raise ValueError(f"no card for {model.name!r}: {reason}")
    evaluation = f"Evaluation on {model.n_tasks} datasets"
    if model.n_tasks < len(report.tasks):
        evaluation += f" (of {len(report.tasks)})"
    interval = numbers.interval(model)
    return _SECTION.format(
        begin=BEGIN,
        end=END,
        evaluation=f"[{evaluation}]({page_address(report, model, site)})" if site else evaluation,
        model=_text(model.name),
        pretrained=_text(report.pretrained),
        avg=model.avg_score,
        start=model.avg_score - model.avg_gain,
        gain=numbers.signed(model.avg_gain),
        interval="" if interval == numbers.NONE else f" (95 % interval {interval})",
        rank=_rank_sentence(report, model, as_of=as_of),
        seeds=_seeds_of(model),
        start_seeds=numbers.seeds(report),
        table=_table(report, model),
        verdict=escape_markdown(report.sentence),
        version=version,
        settings=report.settings,
    )


def page_address(report: ArchReport, model: ModelReport, site: str) -> str:
    """Address of the model's page on the published site."""
    return f"{site.rstrip('/')}/arch/{report.stem}/model/{model.stem}.html"


def _text(text: str) -> str:
    return escape_markdown(visible(text))


def _rank_sentence(report: ArchReport, model: ModelReport, *, as_of: date) -> str:
    day = as_of.strftime("%d/%m/%Y")
    name = _text(report.name)
    if model.rank is None:
        lost = len(report.tasks) - model.n_tasks
        return f"The model is not ranked among the tested models for the {name} architecture as of {day}: {lost} tasks have no trusted score."
    spread = numbers.rank_span_seeds(model)
    words = f"; under other seeds it may be ranked {spread}" if spread not in (numbers.NONE, str(model.rank)) else ""
    tie = " It cannot be told from the best." if model.tie_group == 1 and model.rank > 1 else ""
    return (
        f"The model is ranked {ordinal(model.rank)} among all {len(report.ranked)} tested models for the {name} architecture as of "
        f"{day}{words}.{tie}"
    )


def _seeds_of(model: ModelReport) -> str:
    counts = {cell.n_seeds for cell in model.cells if cell.n_seeds}
    low, high = min(counts), max(counts)
    return f"{low} to {high} seeds" if low != high else "1 seed" if high == 1 else f"{high} seeds"


def _table(report: ArchReport, model: ModelReport) -> str:
    """A line of scores as published, with lines of gains and standard errors under it; tasks are columns."""
    columns = [PipeColumn(header="", cells=("score", "gain", "± se"))]
    for cell in model.cells:
        cells = (_score(cell), numbers.signed(cell.gain), numbers.points(cell.noise))
        columns.append(PipeColumn(header=_text(cell.task), cells=cells, numeric=True))
    return pipe_table(columns)


def _score(cell: TaskCell) -> str:
    return numbers.NONE if math.isnan(cell.score) else f"{cell.score:g}"


def card_results(report: ArchReport, model: ModelReport, *, sources: Mapping[str, TaskSource]) -> list[CardResult]:
    """A result for every task with a trusted score, gains with Student's t intervals.

    gain -+ t_{0.975, df} se, se and df those of the task's pooled seeds.

    Args:
        report: of the model's architecture.
        model: one of its models.
        sources: by task; a task that is not in it is taken as one without a data set on the hub.
    """
    unknown = TaskSource(dataset="", config="", metric="accuracy")
    start = {task.task: task for task in report.baseline}
    return [
        _result(report, cell, start[cell.task], sources.get(cell.task, unknown))
        for cell in model.cells
        if not math.isnan(cell.score)
    ]


def _result(report: ArchReport, cell: TaskCell, start: TaskBaseline, source: TaskSource) -> CardResult:
    half = float(stats.t.ppf(0.975, start.pooled_df)) * cell.noise if start.pooled_df > 0 else math.nan
    low, high = cell.gain - half, cell.gain + half
    seeds = "1 seed" if cell.n_seeds == 1 else f"mean of {cell.n_seeds} seeds"
    interval = "" if math.isnan(half) else f", 95 % interval {numbers.signed(low)} to {numbers.signed(high)}"
    against = "1 seed" if start.n_seeds == 1 else f"{start.n_seeds} seeds"
    notes = (
        f"{source.metric} after finetuning this model on the task ({seeds}); gain {numbers.signed(cell.gain)} points over "
        f"{visible(report.pretrained)} ({against}){interval}; Startline settings {report.settings}"
    )
    return CardResult(
        task=cell.task,
        source=source,
        score=cell.score / 100,
        gain=cell.gain,
        low=low,
        high=high,
        n_seeds=cell.n_seeds,
        notes=notes,
    )


def with_section(text: str, section: str) -> str:
    """A README with the section in it: in the place of an earlier one, else at its end.

    Raises:
        ValueError: the marks of an earlier section are not in pairs.
    """
    if text.count(BEGIN) != text.count(END) or text.count(BEGIN) > 1:
        raise ValueError(
            f"the card has {text.count(BEGIN)} marks {BEGIN} and {text.count(END)} marks {END}, expected one of each or none; "
            "remove the leftover by hand"
        )
    if BEGIN not in text:
        head = text.rstrip("\n")
        return f"{head}\n\n{section}" if head else section
    before, _, rest = text.partition(BEGIN)
    if END not in rest:
        raise ValueError(f"the card has {END} before {BEGIN}; remove the leftover by hand")
    return f"{before}{section.rstrip()}{rest.partition(END)[2]}"


def without_own(results: Sequence[Mapping[str, object]]) -> list[Mapping[str, object]]:
    """Results of a ``model-index`` that were not written here, told by the names of their metrics (``METRIC_NAME``)."""

    def is_own(result: Mapping[str, object]) -> bool:
        metrics = result.get("metrics")
        named = (
            [metric.get("name") for metric in metrics if isinstance(metric, Mapping)]
            if isinstance(metrics, list)
            else []
        )
        return any(isinstance(name, str) and name.endswith(METRIC_NAME) for name in named)

    return [result for result in results if not is_own(result)]
