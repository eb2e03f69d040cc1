"""Repeated finetunes of the pretrained model, as published per architecture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tracking.delimited import DelimitedFile, read_delimited
from tracking.errors import TableError
from tracking.published_format import (
    ACCURACY_COLUMN,
    SPEARMAN_COLUMN,
    SPEARMAN_TASKS,
    STAGE_COLUMN,
    TASK_COLUMN,
    TASKS,
    FaultKind,
    PublishedFault,
    check_fraction,
    check_tasks,
    pretrained_file_name,
)

_STAGE_LIMIT = 2**31


@dataclass(frozen=True, kw_only=True)
class Repetitions:
    scores: NDArray[np.float64]
    stages: tuple[int, ...]
    lines: tuple[int, ...]


def read_pretrained(folder: Path, arch: str, sha256: dict[str, str], faults: list[PublishedFault]) -> Repetitions:
    """Repetitions of the pretrained model; too few of them is a stated fault."""
    name = pretrained_file_name(arch)

    def state(kind: FaultKind, message: str, line: int = 0) -> None:
        faults.append(PublishedFault(kind=kind, file=name, line=line, arch=arch, message=message))

    empty = Repetitions(scores=np.empty((0, len(TASKS))), stages=(), lines=())
    if not (folder / name).exists():
        state(FaultKind.NO_PRETRAINED, f"{arch}: {name} is absent, so there is no baseline and no gain")
        return empty
    required = (TASK_COLUMN, ACCURACY_COLUMN, SPEARMAN_COLUMN, STAGE_COLUMN)
    file = read_delimited(folder / name, delimiter="\t", required=required)
    sha256[name] = file.sha256
    if not file.rows:
        state(FaultKind.NO_PRETRAINED, f"{arch}: {name} holds no rows, so there is no baseline and no gain")
        return empty
    repetitions = _pivot(file)
    if len(repetitions.stages) == 1:
        state(FaultKind.FEW_PRETRAINED, f"{arch}: {name} holds 1 repetition, so the noise of a score is unknown")
    for row, stage, line in zip(repetitions.scores, repetitions.stages, repetitions.lines, strict=True):
        lacking = [task for task, value in zip(TASKS, row, strict=True) if np.isnan(value)]
        if lacking:
            text = f"{arch}: stage {stage} of {name} has no score for {', '.join(lacking)}; means are over the others"
            state(FaultKind.MISSING_PRETRAINED_SCORE, text, line)
    return repetitions


def _pivot(file: DelimitedFile) -> Repetitions:
    """One row per (stage, task) -> (stages, tasks); accuracy where given, else Spearman."""
    names = file.column(TASK_COLUMN)
    check_tasks(file, names, "task")
    accuracy, spearman = np.array(file.numbers(ACCURACY_COLUMN)), np.array(file.numbers(SPEARMAN_COLUMN))
    values = np.where(np.isnan(accuracy), spearman, accuracy)
    for task in TASKS:
        check_fraction(file, task, values[[name == task for name in names]])
    first_line: dict[tuple[int, str], int] = {}
    stages: dict[int, int] = {}
    cells: list[tuple[int, int]] = []
    for name, number, value, line in zip(names, file.numbers(STAGE_COLUMN), values, file.lines, strict=True):
        _check_pretrained_cell(file, name, number=number, value=float(value), line=line)
        stage = int(number)
        if (stage, name) in first_line:
            raise TableError(
                f"{file.path.name} line {line} gives {name} of stage {stage} again (first on line "
                f"{first_line[stage, name]}); keep one row per task and stage",
                path=str(file.path),
                line=line,
            )
        first_line[stage, name] = line
        stages.setdefault(stage, line)
        cells.append((stage, TASKS.index(name)))
    order = {stage: place for place, stage in enumerate(stages)}
    scores = np.full((len(stages), len(TASKS)), np.nan)
    for (stage, column), value in zip(cells, values, strict=True):
        scores[order[stage], column] = value
    return Repetitions(scores=scores, stages=tuple(stages), lines=tuple(stages.values()))


def _check_pretrained_cell(file: DelimitedFile, task: str, *, number: float, value: float, line: int) -> None:
    if np.isnan(number) or number != int(number) or not 0 <= number < _STAGE_LIMIT:
        raise TableError(
            f"{file.path.name} line {line} has no stage number from 0 to {_STAGE_LIMIT - 1}; the stage tells the repetitions apart",
            path=str(file.path),
            line=line,
        )
    low = -1 if task in SPEARMAN_TASKS else 0
    if value > 1 or value < low:
        raise TableError(
            f"{file.path.name} line {line}: {task} has the score {value:g}, expected {low} to 1; the baseline needs "
            "sound scores, correct or remove that row",
            path=str(file.path),
            line=line,
        )
