"""The site's tables as Markdown, laid out as the pages of the model-recycling site are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from analysis.report.pipe_table import PipeColumn, escape_markdown, pipe_table
from analysis.report.site import numbers
from analysis.report.site.content import ArchReport, ModelReport
from tracking.names import visible

N_SHOWN = 10
"""Models in the table of an architecture's page, as published."""

_INDEX = """\
# Best base models per architecture

{table}

{verdicts}
"""

_RANKING = """\
# {name}

{sentence}

{n_ranked} of {n_models} base models are ranked on {n_tasks} tasks; {n_aside} are set aside by the integrity gate and {n_untested} \
were not tested ([full table](../arch/{stem}/download/ranking.csv)). The baseline results can be found [here]({stem}_pretrain_scores_table.md).

{table}

[Home](index.md)
"""

_BASELINE = """\
# {name}: baseline

Finetuned from {pretrained}, {seeds}.

{table}

[Home](index.md)
"""


def markdown_files(reports: Sequence[ArchReport]) -> Iterator[tuple[str, str]]:
    """Name and text of every Markdown page: index.md, and per architecture <stem>_table.md and <stem>_pretrain_scores_table.md."""
    yield "index.md", _index(reports)
    for report in reports:
        yield f"{report.stem}_table.md", _ranking(report)
        yield f"{report.stem}_pretrain_scores_table.md", _baseline(report)


def _text(text: str) -> str:
    return escape_markdown(visible(text))


def _link(report: ArchReport, model: ModelReport) -> str:
    return f"[{_text(model.name)}](../arch/{report.stem}/model/{model.stem}.html)"


def _index(reports: Sequence[ArchReport]) -> str:
    best = [report.ranked[0] if report.ranked else None for report in reports]
    columns = {
        "Pretrained": [f"[{_text(r.pretrained)}]({r.stem}_pretrain_scores_table.md)" for r in reports],
        "Best model": [_link(r, m) if m else numbers.NONE for r, m in zip(reports, best, strict=True)],
    }
    counted = {
        "Avg.": [numbers.points(m.avg_score) if m else numbers.NONE for m in best],
        "Pretrained Avg.": [numbers.points(r.avg_score) for r in reports],
        "Gain": [numbers.signed(m.avg_gain) if m else numbers.NONE for m in best],
        "95 % interval": [numbers.interval(m) if m else numbers.NONE for m in best],
    }
    links = {"Ranking": [f"[link]({r.stem}_table.md)" for r in reports]}
    verdicts = "\n".join(f"* {_text(r.name)}: {escape_markdown(r.sentence)}" for r in reports)
    table = pipe_table([*_columns(columns), *_columns(counted, numeric=True), *_columns(links)])
    return _INDEX.format(table=table, verdicts=verdicts)


def _ranking(report: ArchReport) -> str:
    shown = report.ranked[:N_SHOWN]
    start = {task.task: task.mean for task in report.baseline}
    names = [f"*{_text(report.pretrained)}*", *(_link(report, model) for model in shown)]
    text = {"": ["*baseline*", *(str(model.rank) for model in shown)], "model_name": names}
    counted = {
        "avg": [numbers.points(report.avg_score), *(numbers.points(m.avg_score) for m in shown)],
        "gain": [numbers.NONE, *(numbers.signed(m.avg_gain) for m in shown)],
        "95 % interval": [numbers.NONE, *(numbers.interval(m) for m in shown)],
        "ranks": [numbers.NONE, *(numbers.rank_span(m) for m in shown)],
        "mnli_lp": [numbers.NONE, *(numbers.points(m.probe) for m in shown)],
    }
    for place, task in enumerate(report.tasks):
        counted[_text(task)] = [numbers.points(start[task]), *(numbers.points(m.cells[place].score) for m in shown)]
    return _RANKING.format(
        name=_text(report.name),
        sentence=escape_markdown(report.sentence),
        n_ranked=len(report.ranked),
        n_models=len(report.models),
        n_tasks=len(report.tasks),
        n_aside=report.count("quarantined"),
        n_untested=report.count("untested"),
        stem=report.stem,
        table=pipe_table([*_columns(text), *_columns(counted, numeric=True)]),
    )


def _baseline(report: ArchReport) -> str:
    values = [("avg", report.avg_score, report.avg_sd), *((_text(t.task), t.mean, t.sd) for t in report.baseline)]
    columns = [PipeColumn(header="", cells=("mean", "std"))]
    columns += [
        PipeColumn(header=name, cells=(numbers.points(mean), numbers.points(sd)), numeric=True)
        for name, mean, sd in values
    ]
    return _BASELINE.format(
        name=_text(report.name),
        pretrained=_text(report.pretrained),
        seeds=numbers.seeds(report),
        table=pipe_table(columns),
    )


def _columns(columns: dict[str, list[str]], *, numeric: bool = False) -> Iterable[PipeColumn]:
    return [PipeColumn(header=header, cells=cells, numeric=numeric) for header, cells in columns.items()]
