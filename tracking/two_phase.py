"""Results in the format in which the two-phase selection paper publishes its own: a folder with a matrix, or one line of scores.

``matrix.txt``: tab-separated; the first line names base models, every further line holds their scores on one benchmark task.
``datasets.txt``: the tasks, one a line, in the order of those lines. ``<proxy>_score_<task>.txt``: a line of base models and
a line of proxy scores. Beside them our own ``validation.csv`` may stand: base_model, task, stage_1, stage_2, ..., test.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tracking.delimited import DelimitedFile, read_delimited
from tracking.errors import TableError

MATRIX_FILE, TASKS_FILE, CURVES_FILE = "matrix.txt", "datasets.txt", "validation.csv"
_STAGE = re.compile(r"stage_([1-9][0-9]*)")
_SCORES_NAME = re.compile(r"(?P<proxy>[A-Za-z0-9_]+?)_score_(?P<task>.+)\.(?:txt|tsv)")


@dataclass(frozen=True, kw_only=True)
class PublishedMatrix:
    """A folder, read and checked; scores are fractions, NaN where there is none."""

    name: str
    """Name of the folder."""
    base_models: tuple[str, ...]
    tasks: tuple[str, ...]
    test: NDArray[np.float64]
    """(n_bases, n_tasks)."""
    validation: NDArray[np.float64]
    """(n_bases, n_tasks, n_stages); no stage without ``validation.csv``."""


@dataclass(frozen=True, kw_only=True)
class PublishedScores:
    """One file of proxy scores."""

    proxy: str
    """From the file's name; empty where it is not named <proxy>_score_<task>.txt."""
    task: str
    scores: dict[str, float]
    """Base model -> score; NaN where the file has none."""


def read_matrix(folder: Path) -> PublishedMatrix:
    """Read a folder in the published format.

    Raises:
        TableError: a file is missing or unreadable, a name stands twice, the number of tasks is not that of the lines, a cell
            is no number, a score is outside [-1, 1], or ``validation.csv`` speaks of other base models or tasks.
    """
    if not folder.is_dir():
        raise TableError(
            f"{folder} is not a folder; expected one with {MATRIX_FILE} and {TASKS_FILE}", path=str(folder)
        )
    table = _read(folder / MATRIX_FILE)
    tasks = _names(folder / TASKS_FILE)
    if len(tasks) != len(table.rows):
        raise TableError(
            f"{TASKS_FILE} names {len(tasks)} tasks and {MATRIX_FILE} has {len(table.rows)} lines of scores; expected a line "
            "for each task, in the same order",
            path=str(folder),
        )
    if not tasks:
        raise TableError(f"{folder} has no task; expected at least one line of scores", path=str(folder))
    test = np.array([_numbers(table, name) for name in table.header], dtype=np.float64)
    bases, test, validation = _with_curves(folder / CURVES_FILE, table.header, tasks, test)
    return PublishedMatrix(
        name=folder.resolve().name,
        base_models=bases,
        tasks=tasks,
        test=test,
        validation=validation,
    )


def read_scores(path: Path, base_models: Sequence[str]) -> PublishedScores:
    """Read a file of proxy scores.

    Args:
        path: the file.
        base_models: those of the matrix; '/' and '--' are the same in a name.

    Raises:
        TableError: unreadable, not exactly one line of scores, a base model that is not in the matrix, or no score at all.
    """
    table = _read(path)
    if len(table.rows) != 1:
        raise TableError(
            f"{path.name} has {len(table.rows)} lines below its header; expected one, the score of each base model",
            path=str(path),
        )
    known = {_flat(name): name for name in base_models}
    unknown = [name for name in table.header if _flat(name) not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], base_models, n=1)
        raise TableError(
            f"{path.name} scores {len(unknown)} base models that the matrix has not, such as {unknown[0]!r}"
            f"{f' (nearest: {near[0]})' if near else ''}; expected names of the matrix",
            path=str(path),
            unknown=unknown,
        )
    scores = {known[_flat(name)]: table.numbers(name)[0] for name in table.header}
    if not np.isfinite(list(scores.values())).any():
        raise TableError(f"{path.name} holds no score; expected one of a base model at least", path=str(path))
    named = _SCORES_NAME.fullmatch(path.name)
    return PublishedScores(
        proxy=named["proxy"].lower() if named else "", task=named["task"] if named else path.stem, scores=scores
    )


def _flat(name: str) -> str:
    return name.replace("/", "--")


def _read(path: Path) -> DelimitedFile:
    if not path.is_file():
        raise TableError(
            f"{path} is not a file; expected a tab-separated table in the published format", path=str(path)
        )
    table = read_delimited(path, delimiter="\t", required=())
    if "" in table.header or not table.header:
        raise TableError(f"{path.name} has a column without a name; expected a base model a column", path=str(path))
    return table


def _numbers(table: DelimitedFile, name: str) -> list[float]:
    values = table.numbers(name)
    for value, line in zip(values, table.lines, strict=True):
        if abs(value) > 1:
            raise TableError(
                f"{table.path.name} line {line}: {name} has the score {value:g}, expected a fraction; divide points by 100",
                path=str(table.path),
                line=line,
            )
    return values


def _names(path: Path) -> tuple[str, ...]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(
            f"{path} cannot be read ({error}); expected a UTF-8 file with a task a line", path=str(path)
        ) from error
    names = tuple(line for line in lines if line)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(f"{path.name} names {twice[0]} more than once; expected every task once", path=str(path))
    return names


def _with_curves(
    path: Path, header: tuple[str, ...], tasks: tuple[str, ...], test: NDArray[np.float64]
) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
    """Base models, test scores and validation scores; those of ``validation.csv``, which are exact, where there is one."""
    if not path.is_file():
        return header, test, np.empty((*test.shape, 0))
    table = read_delimited(path, delimiter=",", required=("base_model", "task", "test"))
    stages = sorted(int(found[1]) for column in table.header if (found := _STAGE.fullmatch(column)))
    if stages != list(range(1, len(stages) + 1)):
        raise TableError(
            f"{path.name} has the stages {stages}; expected stage_1, stage_2, ... without a gap", path=str(path)
        )
    places = {_flat(name): row for row, name in enumerate(header)}
    names, test = list(header), np.full_like(test, np.nan)
    validation = np.full((*test.shape, len(stages)), np.nan)
    columns = [_numbers(table, f"stage_{stage}") for stage in stages]
    finals = _numbers(table, "test")
    for line, (base, task) in enumerate(zip(table.column("base_model"), table.column("task"), strict=True)):
        if _flat(base) not in places or task not in tasks:
            raise TableError(
                f"{path.name} line {table.lines[line]} is about {base} on {task}; expected names of {MATRIX_FILE} and "
                f"{TASKS_FILE}",
                path=str(path),
            )
        row = places[_flat(base)]
        place = row, tasks.index(task)
        names[row] = base
        test[place] = finals[line]
        validation[place] = [column[line] for column in columns]
    return tuple(names), test, validation
