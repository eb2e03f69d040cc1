"""Studies of size, seeds and conditions from sweep to analysis, and a search for a starting point; tiny models, real Ray."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_app.__main__ import main
from tests.tiny_study import TinyStudy, make_mirror

pytestmark = pytest.mark.slow

SOURCES = (
    "candidates.sources=["
    "{tasks: [sst2], caps: {train: 24}, label: n24},"
    "{tasks: [sst2], caps: {train: 48}, label: n48},"
    "{tasks: [sst2], caps: {train: 96}, label: n96},"
    "{tasks: [sst2], seeds: [0, 1, 2], pair_seeds: false},"
    "{tasks: [sst2, cola], caps: {train: 64}, method: {weight_decay: 1.0}, label: decay1},"
    "{tasks: [sst2, cola], caps: {train: 64}, method: {weight_decay: 0.0}, label: decay0}]"
)
SIZES = ("suite.train_sizes=[24,48,96]", "SEEDS=2", "method.max_epochs=4")


def noisy_mirror(folder: Path) -> Path:
    """A mirror whose labels are wrong for one row in five: else tiny models score either half or all, and nothing varies."""
    made = make_mirror(folder, rows=192)
    for path in sorted(made.glob("tasks/*/*.parquet")):
        table, chance = pq.read_table(path), random.Random(str(path.relative_to(made)))
        labels = [1 - label if chance.random() < 0.2 else label for label in table["label"].to_pylist()]
        pq.write_table(table.set_column(table.column_names.index("label"), "label", pa.array(labels)), path)
    return made


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    """A finished sweep of all studies at once, in one plan."""
    folder = tmp_path_factory.mktemp("studies")
    made = TinyStudy(noisy_mirror(folder / "mirror"), folder / "out", folder / "cache")
    code, text = made.run("sweep", SOURCES, *SIZES, timeout_s=600)
    assert code == 0, text
    code, text = made.run("analyze", SOURCES, *SIZES)
    assert code == 0, text
    return made


def analysis(study: TinyStudy) -> dict[str, Any]:
    return dict(json.loads((study.out / "analyze" / "tiny.json").read_text()))


def test_sizes_are_settings_of_their_own_in_one_series(study: TinyStudy) -> None:
    targets = [row for row in study.cells().values() if row["role"] == "target"]
    # pretrained, other, 3 sizes, 3 seeds, 2 x 2 conditions: 12 base models on 2 targets of 3 sizes, 2 seeds
    assert {row["cap_train"] for row in targets} == {24, 48, 96} and {row["n_train"] for row in targets} == {24, 48, 96}
    assert len({row["settings"] for row in targets}) == 3 and len({row["series"] for row in targets}) == 1
    assert len({row["base_model"] for row in targets}) == 12


def test_every_factor_is_analysed_and_drawn(study: TinyStudy) -> None:
    found = analysis(study)["factors"]
    assert [line["sizes"] for line in found["target_size_curves"]] == [[24, 48, 96]] * 2
    assert {each["target"] for each in found["u_shapes"]} == {"rte", "cola"}
    # decay 0 is what this architecture does anyway, so those 64 rows are on the line; 173 are all but the validation set
    assert [line["sizes"] for line in found["source_size_curves"]] == [[24, 48, 64, 96, 173]]
    assert [(each["source"], each["n"]) for each in found["source_seeds"]] == [("sst2", 3)]
    assert {(each["source"], each["a"], each["b"]) for each in found["conditions"]} == {
        ("sst2", "decay0", "decay1"),
        ("cola", "decay0", "decay1"),
        (None, "decay0", "decay1"),
    }
    figures = analysis(study)["figures"]
    for name in ("gain_matrix", "std_matrix", "source_size", "target_size", "u_shape", "source_seeds"):
        assert figures[name]["files"], figures[name]["reason"]
        assert all((study.out / "analyze" / file).stat().st_size > 1000 for file in figures[name]["files"])
    assert "needs at least 3" in figures["probe"]["reason"]


def test_what_was_made_here_is_the_in_house_set(study: TinyStudy) -> None:
    assert main(["analyze", *study.arguments(SOURCES, *SIZES, "SET=off_the_shelf")]) == 0
    found = json.loads((study.out / "analyze" / "tiny-off_the_shelf.json").read_text())
    assert found["n_models"] == 1 and found["reasons"]["factors.source_seeds"]
    assert analysis(study)["n_models"] == 11


def start(study: TinyStudy, *more: str) -> tuple[int, str, dict[str, Any]]:
    code, text = study.run("start", SOURCES, *more)
    path = study.out / "start" / "rte.json"
    return code, text, dict(json.loads(path.read_text())) if path.exists() else {}


def test_a_search_spends_its_budget_and_the_same_search_again_spends_nothing(study: TinyStudy) -> None:
    # at a training size that no cell has yet; two seeds, so that the first comparison takes four finetunes
    arguments = ("TASK=rte", "SEEDS=2", "suite.caps.train=60", "method.max_epochs=4", "BUDGET=6", "SETTINGS=")
    code, text, found = start(study, *arguments)
    assert code == 0, text
    assert found["verdict"] in ("use pretrained", "use model") and found["chosen"]
    assert 4 <= found["runs"] <= 6 and found["sensitive"] in (True, False, None)
    assert all(each["low"] <= each["gain"] <= each["high"] for each in found["tried"] if each["low"] is not None)
    assert "verdict:" in text
    code, text, again = start(study, *arguments)
    assert code == 0, text
    # everything tried is complete now; whatever is spent goes to models further down
    assert [each["name"] for each in again["tried"]][: len(found["tried"])] == [each["name"] for each in found["tried"]]
    same = {each["name"]: each["score"] for each in again["tried"]}
    assert all(same[each["name"]] == each["score"] for each in found["tried"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "TASK: not given"),
        (("TASK=rtt",), "nearest: rte"),
        (("TASK=rte", "SEEDS=3", "suite.caps.train=70", "BUDGET=2"), "first comparison needs more"),
        (("TASK=rte", "start.level=1.5"), "probability between 0 and 1"),
    ],
)
def test_a_search_that_cannot_begin_says_why(
    arguments: tuple[str, ...], said: str, study: TinyStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["start", *study.arguments(SOURCES, *arguments)]) == 2
    assert said in capsys.readouterr().err


def test_a_search_without_a_ranking_says_what_to_run(
    study: TinyStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = TinyStudy(study.mirror, tmp_path / "out", study.cache)
    assert main(["start", *empty.arguments("TASK=rte")]) == 2
    assert "make sweep" in capsys.readouterr().err
