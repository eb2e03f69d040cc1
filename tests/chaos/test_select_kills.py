"""Kill a selection at any moment and run it again: it ends as an undisturbed one, bit for bit."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_study import TinyStudy, make_mirror

pytestmark = pytest.mark.chaos

SELECT = ("suite.tasks=[rte]", "TASK=cola", "K=3", "POLICY=brute_force", "method.max_epochs=4", "cluster.cpus=1")
ESSENCE = ("chosen", "test_score", "dropped", "failed", "alive", "curves", "epochs_spent")


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    folder = tmp_path_factory.mktemp("matrix")
    study = TinyStudy(make_mirror(folder / "mirror", rows=160), folder / "out", folder / "cache")
    code, text = study.run("matrix", "suite.tasks=[rte]", "method.max_epochs=4")
    assert code == 0, text
    return study


def copied(matrix: TinyStudy, out: Path) -> TinyStudy:
    shutil.copytree(matrix.out, out)
    return TinyStudy(matrix.mirror, out, matrix.cache)


def essence(study: TinyStudy) -> dict[str, Any]:
    found = json.loads((study.out / "select" / "cola.brute_force.json").read_text())
    return {name: found[name] for name in ESSENCE}


@pytest.fixture(scope="module")
def undisturbed(matrix: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    study = copied(matrix, tmp_path_factory.mktemp("undisturbed") / "out")
    code, text = study.run("select", *SELECT)
    assert code == 0, text
    return essence(study)


def wait_for_stages(study: TinyStudy, process: subprocess.Popen[str], n: int) -> None:
    """Wait until ``n`` stages are known of candidates that are not complete, or the selection ended."""
    folder, deadline = study.out / "storage" / "curves", time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if sum(len(json.loads(path.read_text())) for path in folder.glob("[!.]*.json")) >= n:
            return
        time.sleep(0.02)


@pytest.mark.parametrize(("seed", "whole_machine"), [(0, False), (1, False), (2, True)])
def test_a_killed_selection_goes_on(
    matrix: TinyStudy, undisturbed: dict[str, Any], tmp_path: Path, seed: int, whole_machine: bool
) -> None:
    chance = random.Random(seed)
    study = copied(matrix, tmp_path / "out")
    process = study.start("select", *SELECT)
    wait_for_stages(study, process, chance.randint(1, 8))
    time.sleep(chance.random() * 0.5)
    if whole_machine:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()
    assert process.returncode != 0, "it ended before it could be killed"
    code, text = study.run("select", *SELECT)
    assert code == 0, text
    assert essence(study) == undisturbed
    assert study.n_scored_runs() == len(study.cells())
    assert not list((study.out / "storage" / "checkpoints").glob("*/step-*"))
