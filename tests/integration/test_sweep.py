"""The main job as a user runs it: real Ray, real MLflow, real training of tiny models, through the front door."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.model_factory import copy_model
from tests.tiny_study import TinyStudy, make_mirror

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    """A finished sweep; the tests look at it, in any order."""
    folder = tmp_path_factory.mktemp("sweep")
    made = TinyStudy(make_mirror(folder / "mirror"), folder / "out", folder / "cache")
    code, text = made.run("sweep")
    assert code == 0, text
    (made.out / "printed.txt").write_text(text)
    return made


def test_every_cell_is_in_mlflow_once_with_its_counts(study: TinyStudy) -> None:
    cells = study.cells()
    assert len(cells) == 3 * 2 + 1
    assert study.n_scored_runs() == 7
    for row in cells.values():
        assert row["score"] == row["n_correct"] / row["n_eval"]
        counts = json.loads(row["class_counts"])
        assert sum(true for true, _, _ in counts.values()) == row["n_eval"]
        assert sum(right for _, _, right in counts.values()) == row["n_correct"]
        curve = json.loads(row["curve"])
        seen = [examples for examples, _ in curve]
        assert seen[0] == 32 and seen[-1] == row["examples_seen"] and seen == sorted(seen)
        assert row["best_validation_score"] == max(score for _, score in curve)
        assert row["train_examples_per_s"] > 0 and row["peak_mem_bytes"] > 0


def test_predictions_are_kept_and_give_the_score(study: TinyStudy) -> None:
    files = list((study.out / "mlartifacts").rglob("*.predictions.parquet"))
    assert len(files) == 7
    scores = sorted(
        float(np.mean(t["label"].to_numpy() == t["prediction"].to_numpy())) for t in map(pq.read_table, files)
    )
    assert scores == pytest.approx(sorted(row["score"] for row in study.cells().values()))


def test_the_intermediate_model_is_a_base_model_with_its_cell_as_revision(study: TinyStudy) -> None:
    cells = study.cells()
    source = next(row for row in cells.values() if row["role"] == "source")
    made = [row for row in cells.values() if row["base_model"] == "startline/tiny-sst2"]
    assert len(made) == 2 and {row["base_revision"] for row in made} == {source["key"]}
    folder = study.out / "storage" / "models" / str(source["key"])
    assert (folder / "model.safetensors").exists() and "finetuned on sst2" in (folder / "README.md").read_text()


def test_the_ranking_file(study: TinyStudy) -> None:
    with (study.out / "rank" / "tiny.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["base_model"] for row in rows} == {"tiny/base", "tiny/other", "startline/tiny-sst2"}
    cells = study.cells().values()

    def mean(base: str) -> float:
        return 100 * float(
            np.mean([row["score"] for row in cells if row["base_model"] == base and row["role"] == "target"])
        )

    for row in rows:
        assert float(row["avg_score"]) == pytest.approx(mean(row["base_model"]))
        assert float(row["avg_gain"]) == pytest.approx(mean(row["base_model"]) - mean("tiny/base"))
        assert row["n_tasks"] == "2"


def test_a_second_sweep_does_nothing_and_a_larger_one_only_the_rest(study: TinyStudy) -> None:
    before = study.cells()
    code, text = study.run("sweep")
    assert code == 0 and "nothing to run" in text
    assert study.cells() == before
    code, text = study.run("sweep", "SEEDS=2", "DRY=1")
    assert code == 0 and "7 cells to run (1 of them make base models), 7 complete" in text


def test_the_plan_and_the_summary(study: TinyStudy) -> None:
    summary = study.summary()
    assert (summary["planned"], summary["complete"], summary["skipped"], summary["failed"]) == (7, 7, 0, [])
    assert 0 < float(str(summary["train_s"])) <= float(str(summary["step_s"])) <= 2 * float(str(summary["wall_s"]))
    with (study.out / "sweep" / str(summary["sweep"]) / "plan.csv").open() as file:
        assert sum(row["status"] == "to run" for row in csv.DictReader(file)) == 7


def test_base_models_side_by_side_in_mlflow(study: TinyStudy) -> None:
    from tracking.schema import Kind, experiment_name
    from tracking.store import open_client

    client = open_client(f"sqlite:///{study.out}/mlflow.db")
    experiment = client.get_experiment_by_name(experiment_name("tiny"))
    runs = client.search_runs([experiment.experiment_id], f"tags.`startline.kind` = '{Kind.BASE}'")
    assert {run.info.run_name for run in runs} == {"tiny/base", "tiny/other", "startline/tiny-sst2"}
    assert all({"avg_gain", "score.rte", "score.cola"} <= set(run.data.metrics) for run in runs)


def test_nothing_but_the_output_folder_was_written(study: TinyStudy) -> None:
    assert not (Path(__file__).resolve().parents[2] / "mlruns").exists()
    assert "next: make rank" in (study.out / "printed.txt").read_text()


def test_the_number_does_not_depend_on_what_a_worker_ran_before(study: TinyStudy, tmp_path: Path) -> None:
    """One worker for all cells (its model reused over and over) against two; fresh store, same keys, same scores."""
    again = TinyStudy(study.mirror, tmp_path / "out", study.cache)
    code, text = again.run("sweep", "cluster.cpus=1")
    assert code == 0, text
    first, second = study.cells(), again.cells()
    assert first.keys() == second.keys()
    assert {key: row["score"] for key, row in first.items()} == {key: row["score"] for key, row in second.items()}
    assert {key: row["curve"] for key, row in first.items()} == {key: row["curve"] for key, row in second.items()}


def test_a_failing_candidate_does_not_stop_the_others(study: TinyStudy, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = copy_model("bert", tmp_path / "nan-model")
    weights = load_file(folder / "model.safetensors")
    weights[next(iter(weights))][:] = math.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    broken = TinyStudy(study.mirror, tmp_path / "out", study.cache)
    models = f"candidates.models=[{{id: tiny/nan, path: '{folder}'}},{{id: tiny/other}}]"
    code, text = broken.run("sweep", models, "candidates.sources=[]", "suite.tasks=[rte]")
    assert code == 1
    assert "failed: tiny/nan on rte, seed 0 at load model" in text and "non-finite" in text
    assert {row["base_model"] for row in broken.cells().values()} == {"tiny/base", "tiny/other"}
    failed = broken.summary()["failed"]
    assert isinstance(failed, list) and len(failed) == 1 and failed[0]["stage"] == "load model"


def test_text_to_text_end_to_end(study: TinyStudy, tmp_path: Path) -> None:
    t5 = TinyStudy(study.mirror, tmp_path / "out", study.cache)
    code, text = t5.run(
        "sweep", "arch.family=text_to_text", "arch.model_types=[t5]", "arch.pretrained.id=tiny/t5", "candidates.models=[]",
        "candidates.sources=[]", "suite.tasks=[cola]",
    )  # fmt: skip
    assert code == 0, text
    (row,) = t5.cells().values()
    assert row["n_eval"] == 48 // 2 and 0 <= row["n_invalid"] <= row["n_eval"]
