"""`make probe`, `make proxies` and `make clean-features` on real task data and tiny models: results, resume, who is left out, Ray."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.model_factory import build_model, copy_model
from tracking.schema import Kind, Method, Metric, State, Tag
from tracking.store import TrackingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parent.parent.parent
MIRROR = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four tiny models and a damaged one."""
    if not (MIRROR / "tasks").is_dir():
        pytest.skip(f"no task data at {MIRROR}")
    folder = tmp_path_factory.mktemp("probe")
    for seed in range(4):
        build_model("bert", folder / f"model-{seed}", seed=seed)
    copy_model("bert", folder / "damaged")
    (folder / "damaged" / "model.safetensors").write_bytes(b"nothing")
    return folder


def _run(place: Path, command: str, candidates: dict[str, str], *more: str) -> subprocess.CompletedProcess[str]:
    models = ",".join(f"{{id: {name}, path: {place / path}}}" for name, path in candidates.items())
    arguments = [
        "ARCH=minilm", "CANDIDATES=pretrained", f"MIRROR={MIRROR}", f"OUT={place / 'out'}",
        f"arch.pretrained={{id: org/pretrained, path: {place / 'model-0'}}}", f"candidates.models=[{models}]",
        "suite.caps={train: 60, validation: 40, test: 50}", "method.max_length=32", "cluster.cpus=1", f"cache={place / 'cache'}",
        *more,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "ray_app", command, *arguments],
        cwd=place, env=environment, capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip


def _rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["base_model"]: row for row in csv.DictReader(file)}


def _cells(place: Path) -> list:  # type: ignore[type-arg]
    store = TrackingStore(f"sqlite:///{place}/out/mlflow.db", "minilm")
    found = store.client.search_runs([store.experiment_id], filter_string=f"tags.`{Tag.KIND}` = '{Kind.CELL}'")
    return list(found)


def test_a_candidate_list_is_ranked_and_what_cannot_be_used_is_named(place: Path) -> None:
    done = _run(place, "probe", {"org/a": "model-1", "org/damaged": "damaged"}, "TASKS=rte")
    assert done.returncode == 1, done.stdout + done.stderr
    rows = _rows(place / "out" / "probe" / "minilm.csv")
    assert set(rows) == {"org/pretrained", "org/a", "org/damaged"}
    assert rows["org/damaged"]["score"] == "" and "is damaged" in rows["org/damaged"]["reason"]
    assert "left out: org/damaged" in done.stdout
    gain = float(rows["org/a"]["score"]) - float(rows["org/pretrained"]["score"])
    assert float(rows["org/a"]["gain"]) == pytest.approx(gain)
    assert (rows["org/a"]["rank"], rows["org/pretrained"]["rank"], rows["org/a"]["n_eval"]) == ("1", "", "50")
    cells = _cells(place)
    assert [run.data.params["method"] for run in cells] == [str(Method.PROBE)] * 2
    for run in cells:
        assert run.data.tags[Tag.STATE] == str(State.COMPLETE)
        assert run.data.metrics[Metric.SCORE] == run.data.metrics[Metric.N_CORRECT] / 50
        assert run.data.metrics[Metric.L2] > 0 and run.data.metrics[Metric.FORWARD_S] > 0
        counts = json.loads(run.data.tags[Tag.CLASS_COUNTS])
        assert sum(true for true, _, _ in counts.values()) == 50


def test_what_is_complete_is_not_run_again_and_a_new_candidate_is_added(place: Path) -> None:
    before = (place / "out" / "probe" / "minilm.csv").read_text()
    again = _run(place, "probe", {"org/a": "model-1"}, "TASKS=rte")
    assert again.returncode == 0 and "0 probes run, 2 complete before" in again.stdout
    old, new = _rows(place / "out" / "probe" / "minilm.csv"), {line.split(",")[0]: line for line in before.splitlines()}
    assert all(new[name].split(",")[2] == row["score"] for name, row in old.items())
    more = _run(place, "probe", {"org/a": "model-1", "org/b": "model-2"}, "TASKS=rte")
    assert more.returncode == 0 and "1 probes run, 2 complete before" in more.stdout
    ranks = sorted(row["rank"] for row in _rows(place / "out" / "probe" / "minilm.csv").values())
    assert ranks in (["", "1", "2"], ["", "1", "1"])


def test_many_candidates_go_over_ray_and_give_the_same_scores(place: Path) -> None:
    here = _rows(place / "out" / "probe" / "minilm.csv")
    many = {f"org/copy{number}": "model-1" for number in range(17)}
    done = _run(place, "probe", many, "TASKS=rte")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "17 probes run, 1 complete before" in done.stdout
    rows = _rows(place / "out" / "probe" / "minilm.csv")
    assert {rows[name]["score"] for name in many} == {here["org/a"]["score"]}
    assert {rows[name]["rank"] for name in many} == {"1"}


def test_scores_of_every_candidate_for_one_target(place: Path) -> None:
    done = _run(place, "proxies", {"org/a": "model-1", "org/damaged": "damaged"}, "TASK=rte")
    assert done.returncode == 1, done.stdout + done.stderr
    rows = _rows(place / "out" / "proxies" / "rte.csv")
    assert rows["org/damaged"]["logme"] == "" and rows["org/damaged"]["reason"]
    for name in ("org/a", "org/pretrained"):
        assert rows[name]["leep"] == "" and "no classification head" in rows[name]["refusals"]
        for score in ("nleep", "logme", "h_score", "knn", "transrate", "gbc", "probe_cv", "ensemble", "n_parameters"):
            assert rows[name][score] != ""
    assert sum(float(rows[name]["ensemble"]) for name in ("org/a", "org/pretrained")) == pytest.approx(1.0)


def test_a_target_must_be_named_and_a_known_one(place: Path) -> None:
    assert "TASK: not given" in _run(place, "proxies", {}).stderr
    misspelt = _run(place, "probe", {}, "TASKS=rtee")
    assert misspelt.returncode == 2 and "nearest: rte" in misspelt.stderr


def test_scores_are_held_against_own_finetunes(place: Path) -> None:
    candidates = {f"org/{name}": f"model-{seed}" for seed, name in enumerate("abc", start=1)}
    swept = _run(place, "sweep", candidates, "TASKS=rte,cola", "method.max_epochs=2", "method.batch_size=8")
    assert swept.returncode == 0, swept.stdout + swept.stderr
    done = _run(place, "backtest", candidates, "TASKS=rte,cola")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((place / "out" / "backtest" / "minilm.json").read_text())
    assert (found["n_bases"], found["n_tasks"]) == (3, 2)
    predictors = found["predictors"]
    assert {"average_other_tasks", "random", "h_score", "logme", "ensemble", "chosen_on_other_tasks"} <= set(predictors)
    assert "leep" not in predictors and any(note.startswith("leep: not known") for note in found["notes"])
    assert predictors["probe"]["tasks"]["rte"]["n_bases"] == 2  # org/a and org/b were probed above, org/c never
    for name in ("h_score", "ensemble"):
        for task in ("rte", "cola"):
            regrets = [predictors[name]["tasks"][task][f"regret_{top}"]["value"] for top in (1, 3, 5)]
            assert regrets[0] >= regrets[1] == regrets[2] == 0.0
    assert set(found["chosen_on_other_tasks"]) == {"rte", "cola"}
    for file in found["figures"]["predictors"]["files"]:
        assert (place / "out" / "backtest" / file).stat().st_size > 1000


def test_stored_features_are_removed_on_request(place: Path) -> None:
    folder = place / "cache" / "features"
    assert len(list(folder.iterdir())) >= 3
    done = _run(place, "clean-features", {})
    assert done.returncode == 0 and list(folder.iterdir()) == []
