"""Folders and score files in the two-phase paper's format: read, and every fault one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.selection_matrices import converging_matrix, write_folder
from tracking.errors import TableError
from tracking.two_phase import read_matrix, read_scores


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "matrix.txt").write_text("a\torg--b\n0.5\t0.6\n-0.1\t\n")
    (tmp_path / "datasets.txt").write_text("cola\n\nrte")
    return tmp_path


def test_models_are_rows_and_tasks_columns(folder: Path) -> None:
    read = read_matrix(folder)
    assert read.base_models == ("a", "org--b")
    assert read.tasks == ("cola", "rte")
    np.testing.assert_array_equal(read.test, [[0.5, -0.1], [0.6, np.nan]])
    assert read.validation.shape == (2, 2, 0)
    assert read.name == folder.name


def test_curves_beside_it(folder: Path) -> None:
    (folder / "validation.csv").write_text(
        "base_model,task,stage_1,stage_2,test\na,cola,0.1,0.2,0.51\norg/b,rte,0.3,,0.7\n"
    )
    read = read_matrix(folder)
    assert read.base_models == ("a", "org/b")
    np.testing.assert_array_equal(read.test, [[0.51, np.nan], [np.nan, 0.7]])
    np.testing.assert_array_equal(read.validation[0, 0], [0.1, 0.2])
    np.testing.assert_array_equal(read.validation[1, 1], [0.3, np.nan])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    matrix = converging_matrix(n_bases=4, n_tasks=3, n_stages=2)
    read = read_matrix(write_folder(tmp_path / "x", matrix))
    np.testing.assert_array_equal(read.validation, matrix.validation)
    np.testing.assert_array_equal(read.test, matrix.test)


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("matrix.txt", "a\tb\n0.5\t0.6\n", "names 2 tasks and matrix.txt has 1 lines"),
        ("matrix.txt", "a\tb\n0.5\n0.1\t0.2\n", "1 cells"),
        ("matrix.txt", "a\tb\n0.5\tx\n0.1\t0.2\n", "expected a finite number"),
        ("matrix.txt", "a\tb\n50\t60\n1\t2\n", "divide points by 100"),
        ("matrix.txt", "a\ta\n0.5\t0.6\n0.1\t0.2\n", "more than once"),
        ("matrix.txt", "a\t\n0.5\t0.6\n0.1\t0.2\n", "without a name"),
        ("matrix.txt", "", "empty"),
        ("datasets.txt", "cola\ncola\n", "more than once"),
        ("validation.csv", "base_model,task,stage_2,test\na,cola,0.1,0.2\n", "without a gap"),
        ("validation.csv", "base_model,task,stage_1,test\nx,cola,0.1,0.2\n", "is about x on cola"),
        ("validation.csv", "base_model,stage_1,test\na,0.1,0.2\n", "no column task"),
    ],
)
def test_faults_of_a_folder(folder: Path, file: str, text: str, expected: str) -> None:
    (folder / file).write_text(text)
    with pytest.raises(TableError, match=expected):
        read_matrix(folder)


def test_missing_files(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(TableError, match="is not a folder"):
        read_matrix(tmp_path / "none")
    (folder / "datasets.txt").unlink()
    with pytest.raises(TableError, match="cannot be read"):
        read_matrix(folder)
    (folder / "matrix.txt").unlink()
    with pytest.raises(TableError, match="is not a file"):
        read_matrix(folder)


def test_scores(tmp_path: Path) -> None:
    path = tmp_path / "leep_score_multirc.txt"
    path.write_text("org--b\ta\n-0.5\t\n")
    read = read_scores(path, ["a", "org/b"])
    assert (read.proxy, read.task) == ("leep", "multirc")
    assert read.scores["org/b"] == -0.5
    assert np.isnan(read.scores["a"])


def test_scores_with_another_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("a\n-0.5\n")
    assert (read_scores(path, ["a"]).proxy, read_scores(path, ["a"]).task) == ("", "mine")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\tbert-bas\n-0.5\t-0.6\n", "nearest: bert-base"),
        ("a\tbert-base\n-0.5\t-0.6\n-0.5\t-0.6\n", "has 2 lines"),
        ("a\tbert-base\n", "has 0 lines"),
        ("a\tbert-base\n\tnan\n", "holds no score"),
    ],
)
def test_faults_of_scores(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "leep_score_x.txt"
    path.write_text(text)
    with pytest.raises(TableError, match=expected):
        read_scores(path, ["a", "bert-base"])
