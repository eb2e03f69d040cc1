"""Two-phase selection as a user runs it: a matrix, a selection for two targets, again, and with a model that fails."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from analysis.selection.halving import BruteForce
from analysis.selection.rounds import run_rounds
from tests.tiny_study import TinyStudy, make_mirror

pytestmark = pytest.mark.slow

TARGET = ("suite.tasks=[rte]", "K=3")
SOURCE = "startline/tiny-sst2"


def result(study: TinyStudy, name: str) -> dict[str, Any]:
    return dict(json.loads((study.out / "select" / f"{name}.json").read_text()))


def selections(study: TinyStudy) -> list[dict[str, str]]:
    """Tags of the selection runs in MLflow."""
    from tracking.store import TrackingStore

    store = TrackingStore(f"sqlite:///{study.out}/mlflow.db", "tiny")
    runs = store.client.search_runs([store.experiment_id], filter_string="tags.`startline.kind` = 'selection'")
    return [{**run.data.tags, **{name: str(value) for name, value in run.data.metrics.items()}} for run in runs]


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    """Three base models over one benchmark task."""
    folder = tmp_path_factory.mktemp("select")
    made = TinyStudy(make_mirror(folder / "mirror", rows=160), folder / "out", folder / "cache")
    code, text = made.run("matrix", "suite.tasks=[rte]")
    assert code == 0, text
    shutil.copytree(made.out, folder / "damaged")
    return made


@pytest.fixture(scope="module")
def study(matrix: TinyStudy) -> TinyStudy:
    """Two targets by fine-selection on one slot, and the same again."""
    for name in ("first", "again"):
        code, text = matrix.run("select", *TARGET, "TASK=cola,sst2", "cluster.cpus=1")
        assert code == 0, text
        (matrix.out / f"{name}.json").write_text((matrix.out / "select" / "cola.json").read_text())
    return matrix


@pytest.fixture(scope="module")
def damaged(matrix: TinyStudy) -> tuple[int, TinyStudy]:
    """Brute force over a base model whose weights were damaged after the matrix was made."""
    copied = TinyStudy(matrix.mirror, matrix.out.with_name("damaged"), matrix.cache)
    (source,) = (key for key, row in copied.cells().items() if row["role"] == "source")
    (copied.out / "storage" / "models" / source / "model.safetensors").write_bytes(b"damaged")
    code, _ = copied.run("select", *TARGET, "TASK=cola", "POLICY=brute_force")
    return code, copied


def test_the_matrix_has_every_stage_and_a_final_test(study: TinyStudy) -> None:
    with (study.out / "matrix" / "tiny" / "validation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["base_model"] for row in rows] == ["tiny/base", "tiny/other", SOURCE]
    cells = {row["base_model"]: row for row in study.cells().values() if row["task"] == "rte"}
    for row in rows:
        cell = cells[row["base_model"]]
        curve = json.loads(str(cell["curve"]))
        assert len(curve) == 2 and curve[1][0] == 2 * curve[0][0]  # two epochs, two stages
        assert [float(row["stage_1"]), float(row["stage_2"])] == [score for _, score in curve]
        assert float(row["test"]) == cell["score"]


def test_the_chosen_model_is_fully_trained_kept_and_alone(study: TinyStudy) -> None:
    for target, n_candidates in (("cola", 3), ("sst2", 2)):
        found = result(study, target)
        assert found["n_models"] == n_candidates == len(found["curves"])
        assert len(found["curves"][found["chosen"]]) == 2
        model = Path(found["model"])
        cell = study.cells()[model.name]
        assert (cell["base_model"], cell["task"], cell["score"]) == (found["chosen"], target, found["test_score"])
        assert (model / "config.json").exists()
    kept = {path.name for path in (study.out / "storage" / "models").iterdir()}
    sources = {key for key, row in study.cells().items() if row["role"] == "source"}
    chosen = {Path(result(study, name)["model"]).name for name in ("cola", "sst2")}
    assert kept == sources | chosen
    assert not list((study.out / "storage" / "checkpoints").glob("*/step-*"))


def test_who_was_dropped_when_and_why(study: TinyStudy) -> None:
    found = result(study, "cola")
    assert [drop["stage"] for drop in found["dropped"]] == [1, 1]
    assert {drop["model"] for drop in found["dropped"]} | {found["chosen"]} == {"tiny/base", "tiny/other", SOURCE}
    assert all(drop["reason"] for drop in found["dropped"])
    assert found["alive"] == [3, 1] and found["failed"] == []
    first = {name: curve[0] for name, curve in found["curves"].items()}
    assert first[found["chosen"]] == max(first.values())


def test_a_candidate_made_from_the_target_itself_is_left_out(study: TinyStudy) -> None:
    found = result(study, "sst2")
    assert found["left_out"] == {SOURCE: "it was made from the target itself"}
    assert any(
        "by the average over benchmark tasks alone" in note for note in found["notes"]
    )  # the others have no head


def test_epochs_are_counted_by_hand(study: TinyStudy) -> None:
    found = result(study, "cola")
    # two epochs in two stages: three candidates for one, one for another; brute force 3 x 2; halving 3 + 1
    assert found["epochs_training"] == 4 and found["epochs_brute_force"] == 6
    assert found["epochs_successive_halving"] == 4
    assert found["epochs_proxies"] == 0.5 * len(found["recall"]["scored"])
    assert found["epochs_spent"] == found["epochs_training"] + found["epochs_proxies"]


def test_the_second_time_trains_nothing_and_says_the_same(study: TinyStudy) -> None:
    first, again = (json.loads((study.out / f"{name}.json").read_text()) for name in ("first", "again"))
    assert first["stages_trained_now"] == 4 and again["stages_trained_now"] == 0
    assert {**first, "stages_trained_now": 0} == again
    assert sorted(run["mlflow.runName"].split()[1] for run in selections(study)) == ["cola", "sst2"]


def test_a_selection_is_a_run_in_mlflow(study: TinyStudy) -> None:
    found = result(study, "sst2")
    (run,) = [run for run in selections(study) if run["mlflow.runName"] == "select sst2 by fine_selection"]
    assert run["startline.checkpoint"] == found["model"]
    assert float(run["score"]) == found["test_score"] and float(run["epochs_spent"]) == found["epochs_spent"]


def test_a_model_that_fails_is_dropped_with_its_reason_and_blocks_nobody(damaged: tuple[int, TinyStudy]) -> None:
    code, study = damaged
    assert code == 1
    found = result(study, "cola")
    assert found == result(study, "cola.brute_force")
    assert found["failed"] == [SOURCE]
    (drop,) = [drop for drop in found["dropped"] if drop["model"] == SOURCE]
    assert drop["stage"] == 1 and "CheckpointError" in drop["reason"]
    assert found["alive"] == [3, 2]
    curves = {name: tuple(curve) for name, curve in found["curves"].items()}
    assert found["chosen"] == run_rounds(BruteForce(), curves, {}, n_stages=2).chosen != SOURCE


def test_without_a_matrix_it_says_what_makes_one(study: TinyStudy) -> None:
    code, text = study.run("select", "TASK=cola", "method.stages=3", "suite.tasks=[rte]")
    assert code == 2 and "no base model has a finetune in 3 stages on rte" in text and "make matrix" in text
