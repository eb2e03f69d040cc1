"""Reading the repetitions of the pretrained model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.published_folder import (
    TASKS,
    Scores,
    write_folder,
    write_pretrained,
)
from tracking.errors import TableError
from tracking.published import FaultKind, PublishedResults, read_published


def kinds(results: PublishedResults) -> list[FaultKind]:
    return [fault.kind for fault in results.faults]


def test_wrong_delimiter_of_the_repetitions(tmp_path: Path) -> None:
    write_folder(tmp_path)
    path = tmp_path / "models_results_acme_tiny_1_pretrain.csv"
    path.write_text(path.read_text().replace("\t", ","))
    with pytest.raises(TableError, match="is separated by a comma, expected a tab"):
        read_published(tmp_path)


def test_a_task_that_no_repetition_has(tmp_path: Path) -> None:
    write_folder(tmp_path)
    path = tmp_path / "models_results_acme_tiny_1_pretrain.csv"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "\tqnli\t" not in line))
    with pytest.raises(TableError, match=r"models_results_acme_tiny_1_pretrain\.csv lacks the task qnli"):
        read_published(tmp_path)


def test_percent_in_the_repetitions(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_pretrained(tmp_path, [50.0, 56.0])
    with pytest.raises(TableError, match=r"pretrain\.csv: 2 of 2 values of cola exceed 1"):
        read_published(tmp_path)


@pytest.mark.parametrize(
    "make", [lambda path: path.unlink(), lambda path: path.write_text(path.read_text().split("\n")[0])]
)
def test_no_pretrained_rows(tmp_path: Path, make) -> None:
    write_folder(tmp_path)
    make(tmp_path / "models_results_acme_tiny_1_pretrain.csv")
    results = read_published(tmp_path)
    assert kinds(results) == [FaultKind.NO_PRETRAINED]
    assert "acme/tiny-1: models_results_acme_tiny_1_pretrain.csv" in results.faults[0].message
    assert results.architectures[0].pretrained.shape == (0, 36)


def test_a_single_repetition(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_pretrained(tmp_path, [0.5])
    results = read_published(tmp_path)
    assert kinds(results) == [FaultKind.FEW_PRETRAINED]
    assert results.architectures[0].pretrained.shape == (1, 36)


def test_a_repetition_without_a_task(tmp_path: Path) -> None:
    repetitions: list[Scores] = [0.5, {task: 0.5 for task in TASKS} | {"stsb": None}]
    write_folder(tmp_path)
    write_pretrained(tmp_path, repetitions)
    results = read_published(tmp_path)
    assert kinds(results) == [FaultKind.MISSING_PRETRAINED_SCORE]
    assert "stage 1" in results.faults[0].message
    assert "no score for stsb" in results.faults[0].message
    assert np.isnan(results.architectures[0].pretrained[1, TASKS.index("stsb")])


def edit_repetitions(folder: Path, old: str, new: str) -> None:
    path = write_folder(folder) / "models_results_acme_tiny_1_pretrain.csv"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "36\tcola\t0.5625\t0.25\t\t1",
            "36\tcola\t0.5625\t0.25\t\t0",
            "line 38 gives cola of stage 0 again .first on line 2",
        ),
        ("36\tcola\t0.5625\t0.25\t\t1", "36\tcola\t1.5\t0.25\t\t1", "line 38: cola has the score 1.5, expected 0 to 1"),
        (
            "36\tcola\t0.5625\t0.25\t\t1",
            "36\tcola\t0.5625\t0.25\t\tx",
            "line 38: column stage holds 'x', expected a finite",
        ),
        (
            "36\tcola\t0.5625\t0.25\t\t1",
            "36\tcola\t0.5625\t0.25\t\t",
            "line 38 has no stage number from 0 to 2147483647",
        ),
        ("36\tcola\t0.5625\t0.25\t\t1", "36\tcola\t0.5625\t0.25\t1", "line 38 has 6 cells, its header has 7"),
    ],
)
def test_unsound_repetitions(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    edit_repetitions(tmp_path, old, new)
    with pytest.raises(TableError, match=sentence):
        read_published(tmp_path)


def test_a_file_of_no_architecture_is_stated(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_pretrained(tmp_path, [0.5, 0.5], arch="other")
    assert kinds(read_published(tmp_path)) == [FaultKind.UNUSED_FILE]
