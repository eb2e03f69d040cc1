"""The matrix from planned cells and the result table."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from ray_app.commands.matrix import write_matrix
from ray_app.hub.tasks import SplitCaps, SplitRule
from ray_app.selection.matrix import matrix_of, measured_part, missing_cells, recorded_cells
from ray_app.sweeps.materials import TaskVariant
from ray_app.sweeps.plan import PlannedCell
from ray_app.training.settings import FinetuneConfig
from tests.result_cells import cell, result_table
from tracking.cells import CellIdentity
from tracking.two_phase import read_matrix


def planned(base: str, task: str, *, seed: int = 0, role: str = "target") -> PlannedCell:
    identity = CellIdentity(
        arch="tiny", base_model=base, base_revision="r", task=task, data={}, method="finetune",
        hyperparameters={"stages": 2}, seed=seed, recipe="1",
    )  # fmt: skip
    variant = TaskVariant.of(task, SplitRule.SITE, SplitCaps())
    return PlannedCell(identity=identity, role=role, variant=variant, config=FinetuneConfig(), checkpoint=Path("x"))


def row(made: PlannedCell, score: float, curve: list[float]) -> dict[str, object]:
    points = [[100 * (stage + 1), value] for stage, value in enumerate(curve)]
    return cell(
        made.identity.base_model, made.identity.task, score, key=made.key, run_id=made.key, curve=json.dumps(points)
    )


def test_cells_are_found_by_their_key_alone() -> None:
    asked = planned("org/a", "t")
    other_settings = cell("org/a", "t", 0.9)
    found = recorded_cells([asked], result_table([other_settings, row(asked, 0.6, [0.5, 0.55])]))
    assert list(found) == [asked.key]
    assert (found[asked.key].score, found[asked.key].curve, found[asked.key].n_test) == (0.6, (0.5, 0.55), 200)


def test_scores_are_means_over_seeds_and_missing_where_one_seed_is() -> None:
    cells = [planned("a", task, seed=seed) for task in ("t", "u") for seed in (0, 1)]
    table = result_table(
        [row(cells[0], 0.6, [0.5, 0.6]), row(cells[1], 0.8, [0.7, 0.7]), row(cells[2], 0.9, [0.9, 0.9])]
    )
    matrix = matrix_of([*cells, planned("a", "source", role="source")], table, n_stages=2)
    assert matrix.base_models == ("a",) and matrix.tasks == ("t", "u")
    assert matrix.test[0, 0] == pytest.approx(0.7) and math.isnan(matrix.test[0, 1])
    np.testing.assert_allclose(matrix.validation[0, 0], [0.6, 0.65])
    assert missing_cells(matrix) == [("a", "u")]
    assert measured_part(matrix).tasks == ("t",)


def test_a_curve_that_ended_early_is_missing_from_there_on() -> None:
    made = planned("a", "t")
    matrix = matrix_of([made], result_table([row(made, 0.3, [0.4])]), n_stages=3)
    assert matrix.validation[0, 0, 0] == 0.4 and np.isnan(matrix.validation[0, 0, 1:]).all()
    assert matrix.test[0, 0] == 0.3


def test_nothing_recorded_is_an_empty_part() -> None:
    matrix = measured_part(matrix_of([planned("a", "t")], result_table([]), n_stages=2))
    assert matrix.base_models == () and matrix.tasks == ()


def test_files_are_read_back_by_the_reader_of_the_published_format(tmp_path: Path) -> None:
    cells = [planned("org/a", "t"), planned("b", "t"), planned("org/a", "u"), planned("b", "u")]
    table = result_table([row(cells[0], 0.6, [0.5, 0.6]), row(cells[1], 0.8, [0.7]), row(cells[2], 0.25, [0.2, 0.3])])
    matrix = matrix_of(cells, table, n_stages=2)
    write_matrix(tmp_path, matrix)
    assert (tmp_path / "datasets.txt").read_text() == "t\nu\n"
    assert (tmp_path / "matrix.txt").read_text() == "org--a\tb\n0.600000\t0.800000\n0.250000\tnan\n"
    back = read_matrix(tmp_path)
    assert back.base_models == matrix.base_models and back.tasks == matrix.tasks
    np.testing.assert_allclose(back.test, matrix.test)
    np.testing.assert_allclose(back.validation, matrix.validation)
