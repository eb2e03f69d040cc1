"""What a selection starts from: the matrix of the benchmark tasks, and the candidates' cells on the target."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from analysis.selection.performance import PerformanceMatrix
from ray_app.config import AppConfig
from ray_app.selection.matrix import matrix_of, measured_part, missing_cells
from ray_app.sweeps.plan import PlannedCell, Study, plan_cells
from ray_app.sweeps.session import SweepSession
from ray_app.training.tokens import EncodedTask
from tracking.errors import TableError


@dataclass(frozen=True, kw_only=True)
class Request:
    """Candidates for one target."""

    target: str
    matrix: PerformanceMatrix
    """Of the candidates, the target not among its tasks."""
    study: Study
    cells: dict[str, PlannedCell]
    """Candidate -> its cell on the target; ready to be run unless it is complete."""
    sources: list[PlannedCell]
    """Cells that make candidates which are not there any more."""
    left_out: dict[str, str]
    """Base models that cannot be chosen -> why."""
    n_validation: int
    """Rows of the target's validation set."""
    notes: tuple[str, ...]


def part_for(config: AppConfig, tasks: list[str]) -> AppConfig:
    """The request on some tasks, under the first seed."""
    suite = dataclasses.replace(config.suite, tasks=tasks, train_sizes=[])
    return dataclasses.replace(config, suite=suite, seeds=config.seeds[:1])


def make_request(session: SweepSession, target: str) -> Request:
    """Gather what is known; nothing is trained.

    Raises:
        TableError: no finetune over benchmark tasks under these settings.
    """
    config = session.config
    benchmark = [task for task in config.suite.tasks if task != target]
    notes = [] if len(benchmark) == len(config.suite.tasks) else [f"{target} is left out of the benchmark tasks"]
    matrix = read_matrix(session, benchmark)
    study = session.study(part_for(config, [target]), lenient=True)
    plan = session.plan(study)
    ready = {cell.key: cell for cell in plan.todo}
    made_from = {cell.key: cell.identity.task for cell in plan.cells if cell.role == "source"}
    left_out = dict(plan.left_out)
    cells: dict[str, PlannedCell] = {}
    for cell in plan.cells:
        name = cell.identity.base_model
        if cell.role != "target" or name in left_out:
            continue
        if made_from.get(cell.requires or "") == target:
            left_out[name] = "it was made from the target itself"
        elif name not in matrix.base_models:
            left_out[name] = "it has no result on a benchmark task under these settings; make matrix makes them"
        else:
            cells[name] = ready.get(cell.key, cell)
    if not cells:
        raise TableError(
            f"none of {len(left_out)} base models can be selected for {target} ({'; '.join(dict.fromkeys(left_out.values()))})"
        )
    matrix = measured_part(matrix.select(base_models=[name for name in matrix.base_models if name in cells]))
    missing = missing_cells(matrix)
    if missing:
        base, task = missing[0]
        notes.append(f"{len(missing)} benchmark cells are missing, {base} on {task} the first; make matrix makes them")
    needed = {cell.requires for cell in cells.values()}
    return Request(
        target=target,
        matrix=matrix,
        study=study,
        cells=cells,
        sources=[cell for cell in plan.todo if cell.role == "source" and cell.key in needed],
        left_out=left_out,
        n_validation=_validation_rows(session, study, cells.values()),
        notes=tuple(notes),
    )


def read_matrix(session: SweepSession, tasks: list[str]) -> PerformanceMatrix:
    """The matrix of the request's base models over benchmark tasks, from MLflow.

    Raises:
        TableError: there is none under these settings.
    """
    config = session.config
    variables = f"ARCH={config.arch.name} with the same variables"
    if not tasks:
        raise TableError(
            f"no benchmark task is left, expected one at least besides the target; run make matrix {variables}"
        )
    study = session.study(part_for(config, tasks), lenient=True)
    matrix = measured_part(matrix_of(plan_cells(study), session.sync(), n_stages=config.method.stages))
    if not matrix.base_models:
        raise TableError(
            f"no base model has a finetune in {config.method.stages} stages on {', '.join(tasks[:5])}"
            f"{', ...' if len(tasks) > 5 else ''} under these settings; run make matrix {variables} first",
            tasks=tasks,
        )
    return matrix


def _validation_rows(session: SweepSession, study: Study, cells: Iterable[PlannedCell]) -> int:
    """Rows of the validation set, counted in the tokenised task."""
    cell = next(iter(cells))
    encoded = cell.encoded or session.prepare(study, cell).encoded
    assert encoded is not None
    return len(EncodedTask(encoded)["validation"])
