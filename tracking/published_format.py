"""The format of the model-recycling site: its file and column names, its 36 tasks, and what can be wrong with it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from tracking.delimited import DelimitedFile
from tracking.errors import TableError

MODELS_FILE = "models_tested.csv"
MODEL_COLUMN, ARCH_COLUMN, PROBE_COLUMN = "model_name", "base_model", "mnli_lp"
TASK_COLUMN, STAGE_COLUMN = "dataset name", "stage"
ACCURACY_COLUMN, SPEARMAN_COLUMN = "accuracy", "spearmanr"
TASKS = (
    "cola",
    "mrpc",
    "qqp",
    "stsb",
    "boolq",
    "cb",
    "copa",
    "multirc",
    "wic",
    "wsc",
    "ag_news",
    "isear",
    "yahoo_answers",
    "dbpedia",
    "20_newsgroup",
    "trec_fine",
    "trec_coarse",
    "poem_sentiment",
    "imdb",
    "rotten_tomatoes",
    "sst_5bins",
    "sst2",
    "amazon_reviews_multi",
    "financial_phrasebank",
    "tweet_ev_emoji",
    "tweet_ev_emotion",
    "tweet_ev_hate",
    "tweet_ev_irony",
    "tweet_ev_offensive",
    "tweet_ev_sentiment",
    "mnli",
    "qnli",
    "rte",
    "wnli",
    "esnli",
    "anli",
)
"""The 36 target tasks, in the published column order; every score matrix here has them in this order."""
SPEARMAN_TASKS = frozenset({"stsb"})
"""Tasks scored by Spearman's correlation, in [-1, 1]; all others by accuracy, in [0, 1]."""


class FaultKind(StrEnum):
    """What is wrong with a row, a repetition or an architecture."""

    NO_NAME = "no name"
    BAD_ARCHITECTURE = "bad architecture"
    UNSAFE_NAME = "unsafe name"
    REPEATED_NAME = "repeated name"
    PARTIAL_ROW = "partial row"
    PRETRAINED_AS_MODEL = "pretrained model among the models"
    OUT_OF_RANGE = "out of range"
    NO_PRETRAINED = "no pretrained rows"
    FEW_PRETRAINED = "fewer than 2 pretrained repetitions"
    MISSING_PRETRAINED_SCORE = "missing pretrained score"
    UNUSED_FILE = "unused file"


@dataclass(frozen=True, kw_only=True)
class PublishedFault:
    """One fault, stated: nothing is dropped or averaged because of it but as ``message`` says."""

    kind: FaultKind
    file: str
    line: int = 0
    """Line of the file; 0 where the fault is of no single line."""
    arch: str = ""
    model: str = ""
    message: str


def pretrained_file_name(arch: str) -> str:
    """Published file of the pretrained repetitions of ``arch`` ('/' and '-' become '_')."""
    return f"models_results_{arch.replace('/', '_').replace('-', '_')}_pretrain.csv"


def check_tasks(file: DelimitedFile, given: Sequence[str], what: str) -> None:
    missing = [task for task in TASKS if task not in given]
    extra = [task for task in given if task not in TASKS]
    if not missing and not extra:
        return
    parts = [f"lacks the {what} {', '.join(missing)}"] if missing else []
    for task in extra:
        near = difflib.get_close_matches(task, missing or TASKS, n=1)
        parts.append(f"has the unknown {what} {task!r}" + (f" (nearest: {near[0]})" if near else ""))
    raise TableError(
        f"{file.path.name} {' and '.join(parts)}; expected exactly the 36 published tasks",
        path=str(file.path),
        missing=missing,
        extra=extra,
    )


def check_fraction(file: DelimitedFile, column: str, values: NDArray[np.float64]) -> None:
    """Refuse a column of which more than half the values exceed 1."""
    held = values[~np.isnan(values)]
    above = held[held > 1]
    if above.size * 2 > held.size:
        raise TableError(
            f"{file.path.name}: {above.size} of {held.size} values of {column} exceed 1 (the first is {above[0]:g}), "
            "expected fractions between 0 and 1; if these are percent, divide by 100",
            path=str(file.path),
            column=column,
        )
