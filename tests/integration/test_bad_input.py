"""Bad input at the front door: one clear sentence, the right exit code, nothing lost, before Ray starts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_app.__main__ import main
from tests.model_factory import copy_model
from tests.tiny_study import TinyStudy, make_mirror
from tracking.store import exclusive_writer


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    folder = tmp_path_factory.mktemp("bad")
    return TinyStudy(make_mirror(folder / "mirror", rows=24), folder / "out", folder / "cache")


@pytest.fixture
def study(shared: TinyStudy, tmp_path: Path) -> TinyStudy:
    return TinyStudy(shared.mirror, tmp_path / "out", shared.cache)


def said(study: TinyStudy, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    """Exit code and error text of a dry sweep, run in this process."""
    code = main(["sweep", *study.arguments("DRY=1", *more)])
    return code, capsys.readouterr().err


def test_the_plan_itself_is_fine(study: TinyStudy, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(study, capsys) == (0, "")


def test_neither_hub_nor_mirror(
    study: TinyStudy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    code, text = said(study, capsys, "candidates.models=[{id: org/absent}]", "OFFLINE=1")
    assert code == 2
    assert "org/absent" in text and "MIRROR" in text


def test_everything_missing_is_named_at_once(study: TinyStudy, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(
        study, capsys, "candidates.models=[{id: org/absent},{id: org/gone}]", "suite.tasks=[mrpc]", "OFFLINE=1"
    )
    assert code == 2
    assert all(name in text for name in ("org/absent", "org/gone", "mrpc", "3 things"))


def lines(error: str) -> list[str]:
    """Error lines without the progress bars of libraries."""
    return [line for line in error.replace("\r", "\n").splitlines() if line.startswith("error: ")]


def damaged(study: TinyStudy, tmp_path: Path, damage: str) -> str:
    folder = copy_model("bert", tmp_path / "model")
    if damage == "truncated":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "pickle":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif damage == "no pad token":
        path = folder / "tokenizer_config.json"
        kept = {key: value for key, value in json.loads(path.read_text()).items() if key != "pad_token"}
        path.write_text(json.dumps({**kept, "tokenizer_class": "PreTrainedTokenizerFast"}))
        (folder / "special_tokens_map.json").unlink(missing_ok=True)
    elif damage == "other architecture":
        folder = copy_model("roberta", tmp_path / "roberta")
    return f"candidates.models=[{{id: org/damaged, path: '{folder}'}}]"


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ("truncated", "cut short"),
        ("pickle", "pickle"),
        ("no pad token", "pad"),
        ("other architecture", "roberta"),
    ],
)
def test_unusable_checkpoints(
    study: TinyStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str, text: str
) -> None:
    code, error = said(study, capsys, damaged(study, tmp_path, damage))
    assert code == 2 and text in error and len(lines(error)) == 1 and "Traceback" not in error


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"text": [f"a{row}" for row in range(8)], "label": [0, 1] * 4}, "sentence"),
        ({"sentence": [f"a{row}" for row in range(8)], "label": [0, 7] * 4}, "7"),
        ({"sentence": [f"a{row}" for row in range(8)], "label": [1] * 8}, "two different labels"),
        ({"sentence": [], "label": []}, "cola"),
    ],
    ids=["missing column", "label out of range", "one class", "empty split"],
)
def test_unusable_tasks(
    study: TinyStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str], columns: dict[str, list[object]], text: str
) -> None:
    mirror = make_mirror(tmp_path / "mirror", rows=24)
    table = pa.table(columns) if columns["label"] else pa.table({n: pa.array([], pa.string()) for n in columns})
    pq.write_table(table, mirror / "tasks" / "cola" / "train.parquet")
    code, error = said(study, capsys, f"MIRROR={mirror}")
    assert code == 2 and text in error and "cola" in error and "Traceback" not in error


def test_a_folder_that_cannot_be_written(study: TinyStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    code, error = said(study, capsys, f"OUT={tmp_path / 'file' / 'out'}")
    assert code == 3 and "OUT=dir" in error


def test_a_disk_nearly_full(study: TinyStudy, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = said(study, capsys, "cluster.min_free_gb=1e9")
    assert code == 3 and "GB free" in error


def test_a_second_sweep_on_the_same_store(study: TinyStudy, capsys: pytest.CaptureFixture[str]) -> None:
    with exclusive_writer(study.out):
        code, error = said(study, capsys)
    assert code == 3 and f"pid {os.getpid()}" in error


def test_nothing_to_rank(study: TinyStudy, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", "ARCH=no-such-arch", f"OUT={study.out}"]) == 2
    assert "no scored cell for no-such-arch" in capsys.readouterr().err
