"""`make matrix`: finetune every base model over the benchmark tasks in equal stages; the performance matrix of selection."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from analysis.selection.performance import PerformanceMatrix
from ray_app.commands import sweep
from ray_app.commands.console import console, write_csv
from ray_app.config import AppConfig
from ray_app.selection.matrix import matrix_of, measured_part, missing_cells
from ray_app.selection.settings import staged
from ray_app.sweeps.session import SweepPlan, SweepSession
from tracking.names import file_name
from tracking.records import write_atomically

SHOWN = 10
"""Missing cells that are named."""


def run(config: AppConfig) -> int:
    """A sweep whose cells are validated at every stage, then the matrix as files; returns the sweep's exit code."""
    return sweep.run(staged(config), afterwards=_write_and_tell)


def _write_and_tell(session: SweepSession, plan: SweepPlan) -> None:
    """The matrix of the suite's tasks as files; cells of other tasks (TASKS=) are in MLflow alone, where selection finds them."""
    config = session.config
    if config.tasks is not None:
        console.print("TASKS= was given: the files of the matrix, which are of the suite's tasks, stay as they are")
        return
    n_stages = config.method.stages
    planned = matrix_of(plan.cells, session.sync(), n_stages=n_stages)
    matrix = measured_part(planned)
    folder = config.out / "matrix" / file_name(config.arch.name)
    write_matrix(folder, matrix)
    missing = missing_cells(planned)
    console.print(
        f"matrix: {len(matrix.base_models)} base models x {len(matrix.tasks)} tasks, {n_stages} stages, {len(missing)} cells "
        f"missing; written: {folder}; next: make clusters, make select TASK=... with the same variables"
    )
    for base, task in missing[:SHOWN]:
        console.print(f"missing: {base} on {task}", markup=False)


def write_matrix(folder: Path, matrix: PerformanceMatrix) -> None:
    """Write ``matrix.txt`` and ``datasets.txt`` as the paper's authors publish theirs, and ``validation.csv`` beside them.

    matrix.txt has base models as tab-separated columns ('/' in a name becomes '--') and tasks as rows, in the order of
    datasets.txt; 'nan' where a cell is missing. validation.csv has a row per base model and task: the validation score of every
    stage and the test score, fractions.
    """
    lines = ["\t".join(name.replace("/", "--") for name in matrix.base_models)]
    lines += ["\t".join(f"{score:.6f}" for score in column) for column in matrix.test.T]
    write_atomically(folder / "matrix.txt", ("\n".join(lines) + "\n").encode())
    write_atomically(folder / "datasets.txt", ("\n".join(matrix.tasks) + "\n").encode())
    stages = [f"stage_{stage}" for stage in range(1, matrix.n_stages + 1)]
    rows: list[list[object]] = []
    for row, base in enumerate(matrix.base_models):
        for column, task in enumerate(matrix.tasks):
            scores = [*matrix.validation[row, column], matrix.test[row, column]]
            rows.append([base, task, *(None if np.isnan(score) else float(score) for score in scores)])
    write_csv(folder / "validation.csv", ["base_model", "task", *stages, "test"], rows)
