"""The section that a published model card carries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from analysis.report.faithful_numbers import COLUMNS, FaithfulRanking, FaithfulRow
from analysis.report.faithful_pages import gain_chart_url
from analysis.report.pipe_table import PipeColumn, escape_markdown, pipe_table

SITE = "https://ibm.github.io/model-recycling/"

_SECTION = """\

## Model Recycling

[Evaluation on {n_tasks} datasets]({site}{chart}) using {model} as a base model yields average score of {avg:.2f} in \
comparison to {pretrained_avg:.2f} by {arch}.

The model is ranked {rank} among all tested models for the {arch} architecture as of {day}
Results:

{table}


For more information, see: [Model Recycling]({site})
"""


def ordinal(rank: int) -> str:
    """A rank in words of the card: 1st, 2nd, 3rd, 4th, 11th, 21st.

    Differs: the published code wrote 'th' after every number above 3; it made cards for ranks 1 to 3 only.

    Raises:
        ValueError: below 1.
    """
    if rank < 1:
        raise ValueError(f"rank is {rank}, expected 1 or more")
    ending = "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank}{ending}"


def card_section(ranking: FaithfulRanking, model: str, *, as_of: date) -> str:
    """Section for the card of a fully tested model: sentence with gain chart, rank, table of its 36 scores.

    Args:
        ranking: of the model's architecture.
        model: a name that the pages show; the best row counts where the name is repeated.
        as_of: day named in the section.

    Raises:
        ValueError: the pages show no such model, or it was not finetuned on the tasks.
    """
    for rank, row in enumerate(ranking.shown, start=1):
        if row.model == model:
            return section(ranking, row, rank=rank, as_of=as_of)
    raise ValueError(f"{model!r} is not among the {len(ranking.shown)} models shown for {ranking.arch}")


def section(ranking: FaithfulRanking, row: FaithfulRow, *, rank: int, as_of: date) -> str:
    """Section for one row of the ranking; see ``card_section``.

    Raises:
        ValueError: the row has no task scores.
    """
    if row.avg != row.avg:
        raise ValueError(f"{row.model!r} has no task scores, expected all {len(COLUMNS)}: only its probe was tested")
    return _SECTION.format(
        n_tasks=len(COLUMNS),
        site=SITE,
        chart=gain_chart_url(ranking, row),
        model=escape_markdown(row.model),
        avg=row.avg,
        pretrained_avg=ranking.baseline.avg,
        arch=ranking.arch,
        rank=ordinal(rank),
        day=as_of.strftime("%d/%m/%Y"),
        table=_scores_table(row.scores),
    )


def _scores_table(scores: Sequence[float]) -> str:
    """One line of scores in points, six significant digits."""
    pairs = zip(COLUMNS, scores, strict=True)
    return pipe_table([PipeColumn(header=task, cells=(f"{score:g}",), numeric=True) for task, score in pairs])
