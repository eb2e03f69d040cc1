"""make analyze and make assess on imported results, as a user runs them: files, reasons, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_app.__main__ import main
from tests.published_folder import TASKS, model_line, write_models, write_pretrained
from tracking.schema import Kind, Tag, experiment_name
from tracking.store import open_client

ARCH = "acme/tiny-1"
N_TEST = 1000
"""Every score is k / 1000, so that the integrity gate takes rows for intact."""


def whole(values: np.ndarray) -> np.ndarray:
    return np.round(np.clip(values, 0, 1) * N_TEST) / N_TEST


def write_study(folder: Path, *, n_models: int = 8, probe: bool = True) -> Path:
    """Models whose average gain rises with their probe; the pretrained model is among them, for its probe."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(11)
    start = rng.uniform(0.5, 0.8, size=36)
    lines = []
    for place in range(n_models):
        scores = whole(start + 0.01 * (place - 3) + rng.normal(0, 0.01, size=36))
        lp = 0.4 + 0.01 * place if probe else None
        lines.append(model_line(f"org/m{place}", lp, dict(zip(TASKS, scores.tolist(), strict=True))))
    own = dict(zip(TASKS, whole(start).tolist(), strict=True))
    lines.append(model_line(ARCH, 0.42 if probe else None, own))
    write_models(folder, lines)
    repetitions = [
        dict(zip(TASKS, whole(start + rng.normal(0, 0.004, size=36)).tolist(), strict=True)) for _ in range(5)
    ]
    write_pretrained(folder, repetitions)
    return folder


def imported(folder: Path, **more: Any) -> Path:
    out = folder / "out"
    assert main(["import-published", f"FROM={write_study(folder / 'published', **more)}", f"OUT={out}"]) == 0
    return out


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return imported(tmp_path_factory.mktemp("analyze"))


def analyze(out: Path, *more: str) -> int:
    return main(["analyze", f"ARCH={ARCH}", f"OUT={out}", *more])


def read(out: Path, name: str = "acme_tiny-1") -> dict[str, Any]:
    return dict(json.loads((out / "analyze" / f"{name}.json").read_text()))


def test_everything_is_printed_stored_and_drawn(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert analyze(out) == 0
    printed, found = capsys.readouterr().out, read(out)
    assert found["n_models"] == 9 and found["probe"]["pearson"] > 0.8 and found["share_better"] > 0.3
    assert found["regression"]["mse_full"] < found["regression"]["mse_target"]
    for question in ("share of base models", "probe gain on MNLI", "Lost gain", "symmetry", "no figure std_matrix"):
        assert question in printed
    files = {path.name for path in (out / "analyze").iterdir()}
    for name in ("gain_matrix", "probe", "sensitivity"):
        assert {f"acme_tiny-1-{name}.png", f"acme_tiny-1-{name}.svg"} <= files
        assert found["figures"][name] == {"files": [f"acme_tiny-1-{name}.png", f"acme_tiny-1-{name}.svg"], "reason": ""}
    assert found["figures"]["source_seeds"]["files"] == [] and found["figures"]["source_seeds"]["reason"]
    assert {"acme_tiny-1-models.csv", "acme_tiny-1-gains.parquet"} <= files


def test_the_run_in_mlflow_is_one_a_set_and_not_written_twice(out: Path) -> None:
    assert analyze(out) == 0 and analyze(out) == 0 and analyze(out, "SET=general") == 0
    client = open_client(f"sqlite:///{out}/mlflow.db")
    experiment = client.get_experiment_by_name(experiment_name(ARCH))
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], filter_string=f"tags.`{Tag.KIND}` = '{Kind.ANALYSIS}'")
    assert sorted(run.data.params["set"] for run in runs) == ["all", "general"]
    whole_run = next(run for run in runs if run.data.params["set"] == "all")
    assert whole_run.data.metrics["analysis.probe.pearson"] == pytest.approx(read(out)["probe"]["pearson"])
    names = {file.path for file in client.list_artifacts(whole_run.info.run_id)}
    assert {"acme_tiny-1.json", "acme_tiny-1-probe.png"} <= names


def test_sets_take_a_part(out: Path) -> None:
    assert analyze(out, "SET=nli") == 0
    assert set(read(out, "acme_tiny-1-nli")["tasks"]) == {"mnli", "qnli", "rte", "wnli", "esnli", "anli"}


def test_an_unknown_set_names_the_known_ones(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert analyze(out, "SET=generel") == 2
    assert "nearest: general" in capsys.readouterr().err
    assert analyze(out, "SET=in_house") == 2
    assert "0 base models" in capsys.readouterr().err


def test_nothing_to_analyse_is_exit_2(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", "ARCH=acme/other", f"OUT={tmp_path}"]) == 2
    assert "make sweep" in capsys.readouterr().err


@pytest.mark.parametrize(("n_models", "absent"), [(0, "probe"), (1, "regression")])
def test_fewer_than_three_models_are_reasons_not_numbers(n_models: int, absent: str, tmp_path: Path) -> None:
    out = imported(tmp_path, n_models=n_models)
    assert analyze(out) == 0
    found = read(out)
    assert found["n_models"] == n_models + 1 and found["reasons"][absent] and found["probe"]["pearson"] is None


def test_without_probes_the_rest_is_there(tmp_path: Path) -> None:
    out = imported(tmp_path, probe=False)
    assert analyze(out) == 0
    found = read(out)
    assert found["probe"]["pearson"] is None and "needs at least 3" in found["reasons"]["probe"]
    assert (
        found["lost_gain"]["by_probe"]["loss_1"]["mean"] is None
        and found["lost_gain"]["by_average"]["loss_1"]["mean"] >= 0
    )
    assert main(["assess", f"ARCH={ARCH}", f"OUT={out}", "MODEL=org/new", "PROBE=50"]) == 2


def assessed(out: Path, *more: str) -> int:
    return main(["assess", f"ARCH={ARCH}", f"OUT={out}", *more])


def test_assess_from_the_command_line_and_from_results(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert assessed(out, "MODEL=org/new", "PROBE=45") == 0
    printed = capsys.readouterr().out
    assert "would rank" in printed and "rests on 9 base models" in printed
    found = json.loads((out / "assess" / "acme_tiny-1-org_new.json").read_text())
    # the pretrained model probes at 42
    assert found["probe_gain"] == pytest.approx(3.0) and found["low"] < found["expected_gain"] < found["high"]
    assert assessed(out, "MODEL=org/m7") == 0
    found = json.loads((out / "assess" / "acme_tiny-1-org_m7.json").read_text())
    assert found["observed_rank"] == 1 and found["fit"]["n"] == 8 and found["probe_from"] == "results"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "MODEL: not given"),
        (("MODEL=org/new",), "PROBE=<points>"),
        (("MODEL=org/new", "PROBE=170"), "points from 0 to 100"),
        (("MODEL=org/new", "PROBE=high"), "expected a number"),
    ],
)
def test_assess_without_what_it_needs(
    arguments: tuple[str, ...], said: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert assessed(out, *arguments) == 2
    assert said in capsys.readouterr().err


def test_the_printed_tables_need_no_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", "ARCH=roberta-base", "SET=paper_table_4", f"OUT={tmp_path}"]) == 0
    found = read(tmp_path, "roberta-base-paper_table_4")
    assert found["share_better"] == pytest.approx(12 / 66) and found["probe"]["printed_line"]["slope"] == 0.0822
    assert (tmp_path / "analyze" / "roberta-base-paper_table_4-probe.svg").exists()
    assert "0.1261" in capsys.readouterr().out
    assert main(["analyze", "ARCH=t5-small", "SET=paper_table_4", f"OUT={tmp_path}"]) == 2
