"""`make cold-fusion` as a user runs it: real Ray, real MLflow, real contributors, through the front door."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from tests.tiny_study import TinyStudy, make_mirror
from tracking.schema import Kind, Metric, Param, Tag
from tracking.store import TrackingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LOOP = [
    "cold_fusion.tasks=[sst2,cola]", "suite.tasks=[rte,cola]", "CONTRIBUTORS=2", "ITERATIONS=2", "cold_fusion.evaluate.probe=false",
    "cold_fusion.evaluate.few_shot=null", "cold_fusion.baselines.singles=false", "cold_fusion.baselines.multitask_epochs=1",
    "SEEDS=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    """A finished experiment; the tests look at it, in any order."""
    folder = tmp_path_factory.mktemp("cold")
    made = TinyStudy(make_mirror(folder / "mirror"), folder / "out", folder / "cache")
    code, text = made.run("cold-fusion", *LOOP)
    assert code == 0, text
    (made.out / "printed.txt").write_text(text)
    return made


def table(study: TinyStudy, name: str) -> list[dict[str, str]]:
    with (study.out / "cold-fusion" / "cold" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_base_model_is_the_mean_of_what_its_contributors_stored(study: TinyStudy) -> None:
    first = next(row for row in table(study, "iterations.csv") if row["name"] == "startline/tiny-cold-plain-iter01-s0")
    parts = [row for row in table(study, "contributions.csv") if (row["variant"], row["iteration"]) == ("plain", "1")]
    assert {row["task"] for row in parts} == {"sst2", "cola"} and {row["weight"] for row in parts} == {"0.5"}
    models = study.out / "storage" / "models"
    sources = [load_file(models / row["key"] / "model.safetensors") for row in parts]
    fused = load_file(Path(first["folder"]) / "model.safetensors")
    assert len(fused) > 20 and not any("classifier" in name for name in fused)
    for name, tensor in fused.items():
        held = [source.get(name, source.get(f"bert.{name}")) for source in sources]
        expected = np.mean([part.astype(np.float64) for part in held if part is not None], axis=0)
        np.testing.assert_allclose(tensor, expected, rtol=1e-6, atol=1e-8, err_msg=name)


def test_contributors_of_the_second_iteration_start_from_the_first(study: TinyStudy) -> None:
    rows = {row["name"]: row for row in table(study, "iterations.csv")}
    revision = rows["startline/tiny-cold-plain-iter01-s0"]["revision"]
    made = [row for row in study.cells().values() if row["base_revision"] == revision and row["role"] == "source"]
    assert len(made) == 2 and {row["base_model"] for row in made} == {"startline/tiny-cold-fusion"}
    keys = [
        row["key"] for row in table(study, "contributions.csv") if (row["variant"], row["iteration"]) == ("plain", "2")
    ]
    assert {row["key"] for row in made} == set(keys)
    assert not any((study.out / "storage" / "models" / key).exists() for key in keys), "spent contributions are removed"


def test_every_iteration_is_a_run_with_its_contributors(study: TinyStudy) -> None:
    store = TrackingStore(f"sqlite:///{study.out}/mlflow.db", "tiny")
    runs = store.client.search_runs([store.experiment_id], f"tags.`{Tag.KIND}` = '{Kind.FUSION}'")
    assert {run.info.run_name for run in runs} == {
        "plain-s0 iteration 1",
        "plain-s0 iteration 2",
        "fused_once-s0 iteration 1",
    }
    second = next(run for run in runs if run.info.run_name == "plain-s0 iteration 2")
    assert second.data.params[Param.BASE_MODEL] == "startline/tiny-cold-plain-iter02-s0"
    assert [entry[2:] for entry in json.loads(second.data.tags[Tag.CONTRIBUTIONS])] == [["used", 0.5]] * 2
    assert (second.data.metrics[Metric.N_USED], second.data.metrics[Metric.ACCEPTED]) == (2, 1)
    rows = 48 - 48 // 10  # both tasks hide their test labels, so a tenth of train is their validation set
    assert second.data.metrics[Metric.EXAMPLES_SEEN] == 2 * rows * 2


def test_it_is_ranked_beside_its_baselines(study: TinyStudy) -> None:
    with (study.out / "rank" / "tiny.csv").open() as file:
        ranked = {row["base_model"] for row in csv.DictReader(file)}
    assert ranked == {
        "tiny/base",
        "startline/tiny-cold-plain-iter01-s0",
        "startline/tiny-cold-plain-iter02-s0",
        "startline/tiny-cold-multitask-s0",
    }, "contributions are not ranked, and what is fused once is the first iteration here"
    rows = {(row["candidate"], row["iteration"], row["targets"]): row for row in table(study, "results.csv")}
    cells = [row for row in study.cells().values() if row["role"] == "target"]

    def mean(base: str) -> float:
        return 100 * float(np.mean([row["score"] for row in cells if row["base_model"] == base]))

    whole = rows["plain", "2", "all"]
    assert float(whole["gain"]) == pytest.approx(mean("startline/tiny-cold-plain-iter02-s0") - mean("tiny/base"))
    assert whole["n_tasks"] == "2" and whole["se"] == "" and whole["contributions"] == "4"
    once, first = rows["fused_once", "", "all"], rows["plain", "1", "all"]
    assert once["gain"] == first["gain"], "both are the two contributions from the pretrained model"
    assert ("multitask", "", "unseen") in rows and rows["plain", "2", "seen"]["n_tasks"] == "1"
    for name in ("curve.png", "curve.svg", "results.md", "summary.json", "config.json"):
        assert (study.out / "cold-fusion" / "cold" / name).stat().st_size > 100


def test_more_iterations_go_on_from_there_and_nothing_is_done_again(study: TinyStudy) -> None:
    before = study.cells()
    code, text = study.run("cold-fusion", *LOOP, "ITERATIONS=3", "cold_fusion.baselines.multitask=false")
    assert code == 0 and "plain-s0: 2 of 3 iterations there already" in text, text
    after = study.cells()
    assert study.n_scored_runs() == len(after) and all(after[key] == row for key, row in before.items())
    new = [row for key, row in after.items() if key not in before]
    assert sorted(row["role"] for row in new) == ["source", "source", "target", "target"]


def test_the_list_of_base_models_is_a_list_of_candidates(study: TinyStudy) -> None:
    listed = yaml.safe_load((study.out / "cold-fusion" / "cold" / "cold.yaml").read_text())
    assert listed["name"] == "cold" and "startline/tiny-cold-plain-iter01-s0" in {
        model["id"] for model in listed["models"]
    }
    models = ",".join(f"{{id: {model['id']}, path: '{model['path']}'}}" for model in listed["models"][:1])
    code, text = study.run(
        "sweep", f"candidates.models=[{models}]", "candidates.sources=[]", "suite.tasks=[rte,cola]", "DRY=1"
    )
    assert code == 0 and "0 cells to run" in text, "a sweep of it has the very cells of the evaluation"
