"""The text of the published pages."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from analysis.report.faithful_numbers import COLUMNS, FaithfulRanking, FaithfulRow, gains
from analysis.report.pipe_table import PipeColumn, escape_markdown, pipe_table
from tracking.published_format import pretrained_file_name

N_SHOWN = 10
"""Models in the table of an architecture's page."""

_RANKING_PAGE = """\
---
layout: default
title: {name}
parent: Rankings
has_children: true
---
[comment]: # (This page contains a link to a table with the ranking and performance of all ranked {name} models. \
In addition, it contains a table with the baseline and the 10 best models. The original ranking was done by finetuning only \
the classification head of the model (linear probing) over the MNLI dataset.  The best models  by this ranking where ranked \
by the average accuracy after finetuning over the {n_tasks} datasets (except for the stsb dataset, where we used the Spearman \
correlation instead of accuracy).)

Ranking and performance of all {n_ranked} ranked {name} models ([full table](./results/{name}_table.csv)).  \
The top {n_full} models were fully tested.

Notes:
1. The baseline results can be found [here]({name}_pretrain_scores_table)
1. While the average improvement is small, many datasets show large gains
{note}
<br>


{table}


<br>
<br>
Download full models ranking table: [csv](./results/{name}_table.csv)

[Home](.)"""

_HIDDEN_NOTE = (
    "1. [ColD Fusion](https://arxiv.org/abs/2212.01378) variations were removed to avoid cluttering the table"
)

_BASELINE_PAGE = """\
---
layout: default
title: {name}-Baseline
parent: {name}
grand_parent:Rankings
---
This page contains the baseline scores of finetuning {name} pretrained model over the {n_tasks} tasks,
aggregated over runs of {n_repetitions} random initializations.
<br>

{table}

Download full repetitions table: [csv](./results/{file})

[Home](.)"""

_INDEX_PAGE = """\
---
layout: default
title: Home
nav_order: 0
image: "Twitter_card.png"
description: "Model-recycling - the best model per architecture. Comparing finetuned models from HF, as base models for \
future finetuning. "

---
# Welcome to model-recycling page

Hardly anyone trains from scratch anymore, we all finetune over a pretrained model.\x20

[Research](https://arxiv.org/abs/2211.00107) slowly reaches consensus that some finetuned models are better base models than \
the pretrained models
themselves.

This site presents a dynamic view of the best models to choose for a given model size and architecture.
We follow the findings and methodology from our [paper](https://arxiv.org/abs/2211.00107):
We download finetuned models found in HuggingFace per architecture and efficiently rank them over a representative task.
We then evaluate the top ranked models by finetuning over a large set of {n_tasks} target tasks, and report the average
performance of each base model.

Tested so far: {n_ranked} (and counting)
## Best models per architectures
<br>

{table}

<br>
<br>

To learn more see our [FAQ](faq) or read the paper. See detailed evaluation results on each architecture [here](Rankings).
If you have any feedback or question please [contact us](contact_us).

<span style="font-size:0.8em;">This work was performed in IBM Research by Leshem Choshen, Elad Venezian, Shachar Don-Yehiya, \
Noam Slonim and Yoav Katz.</span>
"""


def page_name(arch: str) -> str:
    """Architecture in the name of its pages: '/' becomes '_'."""
    return arch.replace("/", "_")


def gain_chart_url(ranking: FaithfulRanking, row: FaithfulRow) -> str:
    """Address of the gain chart: every gain in points with two decimals, then the two names.

    The gain of the probe score is always 'nan': the pretrained model has no published probe score.
    """
    query = {"avg": f"{row.avg - ranking.baseline.avg:.2f}", "mnli_lp": "nan"}
    query |= {task: f"{gain:.2f}" for task, gain in zip(COLUMNS, gains(ranking, row), strict=True)}
    return "model_gain_chart?" + urlencode(query | {"model_name": row.model, "base_name": ranking.arch})


def ranking_csv(ranking: FaithfulRanking) -> str:
    """The download with the baseline and every ranked model, names byte for byte as they came.

    Names that begin like a spreadsheet formula are not defused here: this file is data for programs and equals the published
    one. In tables of our own ``tracking.delimited.spreadsheet_safe`` defuses them.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["", "model_name", "avg", "mnli_lp", *COLUMNS])
    baseline = ranking.baseline
    rows = [(ranking.arch, [baseline.avg, math.nan, *map(float, baseline.mean)])]
    rows += [(row.model, [row.avg, row.probe, *row.scores]) for row in ranking.rows]
    for number, (name, values) in enumerate(rows):
        writer.writerow([number, name, *("" if math.isnan(value) else repr(value) for value in values)])
    return out.getvalue()


def ranking_page(ranking: FaithfulRanking) -> str:
    """The page of an architecture: counts, baseline and the ten best models."""
    shown = ranking.shown[:N_SHOWN]
    return _RANKING_PAGE.format(
        name=page_name(ranking.arch),
        n_tasks=len(COLUMNS),
        n_ranked=len(ranking.rows),
        n_full=sum(row.fully_tested for row in ranking.rows),
        note=_HIDDEN_NOTE if len(ranking.shown) < len(ranking.rows) else "",
        table=_ranking_table(ranking, shown),
    )


def _ranking_table(ranking: FaithfulRanking, shown: Sequence[FaithfulRow]) -> str:
    baseline = ranking.baseline
    first = [f"[{ranking.arch}]({ranking.arch}_pretrain_scores_table)"]
    first += [f"{value:.2f}" for value in (baseline.avg, math.nan, *baseline.mean)]
    lines = [["*baseline*", *(f"*{cell}*" for cell in first)]]
    for number, row in enumerate(shown, start=1):
        values = [f"{value:.2f}" for value in (row.avg, row.probe, *row.scores)]
        lines.append([str(number), model_link(ranking, row), *values])
    headers = ["", "model_name", "avg", "mnli_lp", *COLUMNS]
    columns = zip(headers, zip(*lines, strict=True), strict=True)
    return pipe_table([PipeColumn(header=header, cells=cells) for header, cells in columns])


def model_link(ranking: FaithfulRanking, row: FaithfulRow) -> str:
    """Markdown link from a model's name to its gain chart."""
    return f"[{escape_markdown(row.model)}]({gain_chart_url(ranking, row)})"


def baseline_page(ranking: FaithfulRanking) -> str:
    """The page of the pretrained model: mean and standard deviation per task."""
    baseline = ranking.baseline
    numbers = [("avg", baseline.avg, baseline.avg_std), *zip(COLUMNS, baseline.mean, baseline.std, strict=True)]
    columns = [PipeColumn(header="", cells=("mean", "std"))]
    columns += [
        PipeColumn(header=name, cells=(f"{mean:.2f}", f"{std:.2f}"), numeric=True) for name, mean, std in numbers
    ]
    return _BASELINE_PAGE.format(
        name=page_name(ranking.arch),
        n_tasks=len(COLUMNS),
        n_repetitions=baseline.n_repetitions,
        table=pipe_table(columns),
        file=pretrained_file_name(ranking.arch),
    )


@dataclass(frozen=True, kw_only=True)
class IndexRow:
    """An architecture's line on the index."""

    pretrained: str
    """Markdown link to the baseline page."""
    best: str
    """Markdown link to the gain chart of the best model."""
    avg: float
    pretrained_avg: float
    ranking: str
    """Markdown link to the ranking page."""


def index_row(ranking: FaithfulRanking) -> IndexRow:
    """The line of one architecture.

    Raises:
        ValueError: it has no model to show.
    """
    if not ranking.shown:
        raise ValueError(f"{ranking.arch} has no model to show, expected at least one")
    best = ranking.shown[0]
    name = page_name(ranking.arch)
    return IndexRow(
        pretrained=f"[{ranking.arch}]({name}_pretrain_scores_table)",
        best=model_link(ranking, best),
        avg=best.avg,
        pretrained_avg=ranking.baseline.avg,
        ranking=f"[link]({quote(name)}_table)",
    )


def index_page(rows: Sequence[IndexRow], *, n_ranked: int) -> str:
    """The start page: the best model of every architecture.

    Args:
        rows: one an architecture, in the order of the file.
        n_ranked: models ranked over all architectures.
    """
    table = pipe_table(
        [
            PipeColumn(header="Pretrained", cells=[row.pretrained for row in rows]),
            PipeColumn(header="Best model", cells=[row.best for row in rows]),
            PipeColumn(header="Avg.", cells=[f"{row.avg:.2f}" for row in rows], numeric=True),
            PipeColumn(header="Pretrained Avg.", cells=[f"{row.pretrained_avg:.2f}" for row in rows], numeric=True),
            PipeColumn(header="Ranking", cells=[row.ranking for row in rows]),
        ]
    )
    return _INDEX_PAGE.format(n_tasks=len(COLUMNS), n_ranked=n_ranked, table=table)
