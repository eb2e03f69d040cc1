"""`make fuse` as a user runs it: models from a mirror, a folder and a sweep; the result is probed and finetuned.

Fusing runs in this process and everything before and after it in others, never on one database at the same time.
"""

from __future__ import annotations

import csv
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ray_app.__main__ import main
from ray_app.sweeps.naming import fused_folder
from tests.model_factory import copy_model, tiny_model
from tests.tiny_study import TinyStudy, make_mirror
from tracking.schema import Kind, Metric, Param, Tag, experiment_name
from tracking.store import open_client

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
OWN = "startline/tiny-sst2"
Fuse = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    """A sweep that has made one intermediate model, and a folder with a model."""
    folder = tmp_path_factory.mktemp("fuse")
    made = TinyStudy(make_mirror(folder / "mirror"), folder / "out", folder / "cache")
    copy_model("bert", folder / "mine", seed=5)
    code, text = made.run("sweep", "candidates.models=[]", "suite.tasks=[rte]", "method.max_epochs=1")
    assert code == 0, text
    return made


@pytest.fixture
def fuse(study: TinyStudy, capsys: pytest.CaptureFixture[str]) -> Fuse:
    """`make fuse` in this process: exit code, and what it printed in one line."""

    def run(*more: str) -> tuple[int, str]:
        code = main(["fuse", *study.arguments(*more)])
        captured = capsys.readouterr()
        return code, " ".join(f"{captured.out} {captured.err}".split())

    return run


def _fusion_runs(study: TinyStudy) -> dict[str, object]:
    client = open_client(f"sqlite:///{study.out}/mlflow.db")
    experiment = client.get_experiment_by_name(experiment_name("tiny"))
    runs = client.search_runs([experiment.experiment_id], f"tags.`{Tag.KIND}` = '{Kind.FUSION}'")
    return {run.data.params[Param.BASE_MODEL]: run for run in runs}


def _mean(folders: list[Path]) -> dict[str, np.ndarray]:
    """Mean of the bodies, by numpy."""
    models = [load_file(folder / "model.safetensors") for folder in folders]
    names = set.intersection(*(set(model) for model in models))
    return {
        name.removeprefix("bert."): np.mean([model[name].astype(np.float64) for model in models], axis=0)
        for name in names
        if name.startswith("bert.")
    }


def test_models_of_three_kinds_are_fused_with_their_lineage(study: TinyStudy, fuse: Fuse) -> None:
    mine = study.mirror.parent / "mine"
    code, text = fuse(f"MODELS=tiny/other,{mine},{OWN}", "NAME=trio")
    assert code == 0, text
    folder = fused_folder(study.out, "trio")
    sources = [
        study.mirror / "models" / "tiny" / "other",
        mine,
        next((study.out / "storage" / "models").glob("[0-9a-f]*")),
    ]
    found, expected = load_file(folder / "model.safetensors"), _mean(sources)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-9)
    run = _fusion_runs(study)["startline/trio"]
    used = json.loads(run.data.params[Param.SOURCES])  # type: ignore[attr-defined]
    assert [name for name, _, _ in used] == ["tiny/other", str(mine), OWN] and all(
        weight == 1 / 3 for _, _, weight in used
    )
    assert run.data.metrics[Metric.N_USED] == 3 and run.data.params[Param.RULE] == "mean"  # type: ignore[attr-defined]
    card = (folder / "README.md").read_text()
    assert all(name in card for name, _, _ in used) and all(revision in card for _, revision, _ in used)
    code, _ = fuse(f"MODELS={OWN},tiny/other,{mine}", "NAME=trio2")
    assert code == 0 and load_file(fused_folder(study.out, "trio2") / "model.safetensors").keys() == found.keys()
    assert (fused_folder(study.out, "trio2") / "model.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()


def test_weights_stand_in_the_order_of_the_models(study: TinyStudy, fuse: Fuse) -> None:
    code, text = fuse("MODELS=tiny/other,tiny/base", "RULE=weighted_mean", "WEIGHTS=3,1", "NAME=weighed")
    assert code == 0, text
    other, base = (
        load_file(study.mirror / "models" / "tiny" / name / "model.safetensors") for name in ("other", "base")
    )
    name = "embeddings.word_embeddings.weight"
    found = load_file(fused_folder(study.out, "weighed") / "model.safetensors")[name]
    np.testing.assert_allclose(found, 0.75 * other[f"bert.{name}"] + 0.25 * base[f"bert.{name}"], rtol=1e-6, atol=1e-9)
    code, text = fuse("MODELS=tiny/other,tiny/base", "RULE=weighted_mean", "WEIGHTS=0,0")
    assert code == 2 and "sum to 0" in text


def test_the_result_is_probed_and_finetuned_like_any_other(study: TinyStudy, fuse: Fuse) -> None:
    code, text = fuse(f"MODELS=tiny/other,{OWN}", "RULE=ties", "NAME=pair", "fuse.fusion.density=0.5")
    assert code == 0, text
    folder = fused_folder(study.out, "pair")
    assert f"path: {folder}" in folder.with_name("pair.yaml").read_text()
    code, text = fuse(f"MODELS=startline/pair,{folder},tiny/other")
    assert code == 2 and "two of them are called startline/pair" in text
    elsewhere = TinyStudy(study.mirror, study.out.parent / "elsewhere", study.cache)
    candidates = [f"candidates.models=[{{id: startline/pair, path: '{folder}'}}]", "candidates.sources=[]"]
    code, text = elsewhere.run("probe", *candidates, "TASKS=rte")
    assert code == 0, text
    with (elsewhere.out / "probe" / "tiny.csv").open() as file:
        assert {row["base_model"] for row in csv.DictReader(file) if row["score"]} == {"tiny/base", "startline/pair"}
    code, text = elsewhere.run("sweep", *candidates, "suite.tasks=[rte]", "method.max_epochs=1")
    assert code == 0 and "startline/pair" in (elsewhere.out / "rank" / "tiny.csv").read_text(), text


def test_a_soup_is_scored_on_a_task_and_fisher_estimated_on_one(study: TinyStudy, fuse: Fuse) -> None:
    code, text = fuse(f"MODELS=tiny/other,tiny/base,{OWN}", "RULE=greedy_soup", "TASK=cola", "NAME=soup")
    assert code == 0 and "held-out score on cola" in text and "UNEXPECTED" not in text, text
    assert Metric.VALIDATION_SCORE in _fusion_runs(study)["startline/soup"].data.metrics  # type: ignore[attr-defined]
    code, text = fuse(f"MODELS=tiny/other,{OWN}", "RULE=fisher", "FISHER=sst2")
    assert code == 2 and "no Fisher can be estimated" in text and "give the Fisher as a safetensors file" in text
    fisher = study.out / "other.safetensors"
    save_file(
        {name: np.abs(value) for name, value in load_file(tiny_model("bert") / "model.safetensors").items()}, fisher
    )
    code, text = fuse(
        f"MODELS=tiny/other,{OWN}", "RULE=fisher", f"FISHER={fisher},sst2", "fuse.fisher_rows=4", "NAME=certain"
    )
    assert code == 0 and f"estimating the Fisher of {OWN} on sst2" in text, text


def test_a_model_of_no_numbers_is_left_out_and_told(study: TinyStudy, fuse: Fuse) -> None:
    odd = copy_model("bert", study.mirror.parent / "odd", seed=6)
    tensors = load_file(odd / "model.safetensors")
    tensors["bert.embeddings.LayerNorm.bias"][3] = np.nan
    save_file(tensors, odd / "model.safetensors", metadata={"format": "pt"})
    code, text = fuse(f"MODELS=tiny/other,{odd},tiny/base", "NAME=rest")
    assert code == 1 and "left out" in text and "no numbers in embeddings.LayerNorm.bias" in text, text
    assert str(odd) in _fusion_runs(study)["startline/rest"].data.tags[Tag.LEFT_OUT]  # type: ignore[attr-defined]


def test_bad_requests_end_with_code_2_and_say_what_is_wrong(study: TinyStudy, fuse: Fuse) -> None:
    for models, said in (
        ("tiny/other,tiny/t5", "architecture is 't5'"),
        ("tiny/other,startline/nothing", "is no model made here"),
        ("tiny/other,./nowhere", "there is no folder"),
        ("tiny/other", "alone is nothing to fuse"),
    ):
        code, text = fuse(f"MODELS={models}")
        assert code == 2 and said in text, text
        assert "Traceback" not in text


def test_a_limit_that_the_system_sets_ends_in_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    """A real refusal of the kernel: files may not grow beyond 20 kB."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom ray_app.fusion.fuse import FusionConfig, fuse_checkpoints\n"
        "from tracking.errors import StorageError\n"
        "try:\n    fuse_checkpoints(FusionConfig(), {'a': Path(sys.argv[1])}, Path(sys.argv[2]))\n"
        "except StorageError as error:\n    print(error.message)\n    sys.exit(3)\n"
    )

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_model("bert", seed=1)), str(tmp_path / "out")],
        cwd=ROOT, preexec_fn=limit, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 3 and "File too large" in done.stdout, done.stdout + done.stderr
    assert not list(tmp_path.iterdir())
