"""make clusters, make recall and make replay-selection, from folder to files; and what they refuse."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from ray_app.__main__ import main
from tests.selection_matrices import converging_matrix, make_matrix, write_folder


@pytest.fixture(scope="module")
def vision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As large as the paper's vision matrix: 30 models, 6 tasks, no curves."""
    whole = converging_matrix(n_bases=30, n_tasks=6, n_stages=1, seed=1)
    folder = write_folder(tmp_path_factory.mktemp("in") / "vision", make_matrix(whole.test))
    names = "\t".join(whole.base_models)
    scores = "\t".join(f"{-0.5 - place / 100:.3f}" for place in range(30))
    (folder / "leep_score_xray.txt").write_text(f"{names}\n{scores}\n")
    return folder


def _run(command: str, out: Path, **variables: object) -> int:
    return main([command, f"OUT={out}", *(f"{name}={value}" for name, value in variables.items())])


def test_clusters(vision: Path, tmp_path: Path) -> None:
    assert _run("clusters", tmp_path, MATRIX=vision) == 0
    plain = json.loads((tmp_path / "clusters" / "vision.json").read_text())
    assert sorted(name for members in plain["clusters"] for name in members) == sorted(f"m{i}" for i in range(30))
    assert plain["k"] == 5
    assert 0 < plain["threshold"] < 1
    assert {"silhouette_sklearn", "silhouette_reference"} <= set(plain)


def test_recall(vision: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("recall", tmp_path, MATRIX=vision, SCORES=vision / "leep_score_xray.txt", K=3) == 0
    with (tmp_path / "recall" / "xray.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["base_model", "score", "rank", "cluster"]
    assert [row["rank"] for row in rows] == [str(place) for place in range(1, 31)]
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert "3 of 30 base models" in capsys.readouterr().out


def test_more_wanted_than_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "few", make_matrix([[0.5, 0.6], [0.7, 0.8]]))
    (folder / "leep_score_x.txt").write_text("m0\tm1\n-0.5\t-0.6\n")
    assert _run("recall", tmp_path, MATRIX=folder, SCORES=folder / "leep_score_x.txt") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "K = 10 was asked for; only 2" in said
    assert "every base model counts by its own" in said


def test_several_proxies(vision: Path, tmp_path: Path) -> None:
    second = tmp_path / "logme_score_xray.txt"
    second.write_text("m3\tm4\n2.5\t-1\n")
    files = f"{vision / 'leep_score_xray.txt'},{second}"
    assert _run("recall", tmp_path, MATRIX=vision, SCORES=files, VARIANT="reference_code") == 0


@pytest.mark.parametrize("n_stages", [0, 3], ids=["final scores only", "curves"])
def test_replay(n_stages: int, tmp_path: Path) -> None:
    whole = converging_matrix(n_bases=6, n_tasks=4, n_stages=max(n_stages, 1))
    folder = write_folder(tmp_path / "own", whole if n_stages else make_matrix(whole.test))
    assert _run("replay-selection", tmp_path, MATRIX=folder, TASK="t0,t1", K=4) == 0
    written = tmp_path / "replay" / "own"
    summary = json.loads((written / "summary.json").read_text())
    assert summary["targets"] == ["t0", "t1"]
    expected = {"table_1_methods", "table_3_singletons", "table_5_counts", "table_10_differences"}
    if n_stages:
        expected |= {"table_4_thresholds", "table_5_epochs", "table_6_fine_selection", "policies", "forecasts"}
    assert expected <= set(summary["tables"])
    for name, reason in summary["figures"].items():
        drawn = [(written / f"{name}.{ending}").is_file() for ending in ("png", "svg")]
        assert drawn == [not reason] * 2
    assert summary["figures"]["figure_5_recall"] == ""


def test_gaps_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = converging_matrix(n_bases=6, n_tasks=4, n_stages=2)
    test, validation = whole.test.copy(), whole.validation.copy()
    test[0], validation[0] = np.nan, np.nan
    test[:, 3], validation[:, 3] = np.nan, np.nan
    validation[1, 1, 1] = np.nan
    folder = write_folder(tmp_path / "gaps", make_matrix(test, validation))
    assert _run("replay-selection", tmp_path, MATRIX=folder) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "m0 has no score on any task" in said
    assert "t3: no base model has both" in said
    assert "t0: without m0" in said


def test_one_task_leaves_nothing_to_learn_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "one", make_matrix([[0.5], [0.6], [0.9]]))
    assert _run("replay-selection", tmp_path, MATRIX=folder) == 0
    assert "no target could be replayed" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("command", "variables", "expected"),
    [
        ("clusters", {}, "MATRIX: not given"),
        ("clusters", {"MATRIX": "nowhere"}, "is not a folder"),
        ("clusters", {"MATRIX": "{v}", "THRESHOLD": "2"}, "expected a distance from 0 to 1"),
        ("clusters", {"MATRIX": "{v}", "THRESHOLD": "much"}, "expected a number"),
        ("recall", {"MATRIX": "{v}"}, "SCORES: not given"),
        ("recall", {"MATRIX": "{v}", "SCORES": "nowhere.txt"}, "is not a file"),
        ("recall", {"MATRIX": "{v}", "SCORES": "{v}/leep_score_xray.txt", "VARIANT": "mine"}, "mine"),
        ("recall", {"MATRIX": "{v}", "SCORES": "{v}/leep_score_xray.txt", "K": "0"}, "at least one"),
        ("recall", {"MATRIX": "{v}", "SCORES": "{v}/leep_score_xray.txt,{v}/leep_score_xray.txt"}, "two files"),
        ("replay-selection", {"MATRIX": "{v}", "TASK": "t77"}, "no task 't77'"),
        ("replay-selection", {"MATRIX": "{v}", "ARGS": "rounds.threshold=-1"}, "expected a fraction"),
    ],
)
def test_refused(
    command: str,
    variables: dict[str, str],
    expected: str,
    vision: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = {name: value.replace("{v}", str(vision)) for name, value in variables.items()}
    assert _run(command, tmp_path, **given) == 2
    assert expected in capsys.readouterr().err
