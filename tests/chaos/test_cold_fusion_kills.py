"""Kill a loop of fusion in the middle of an iteration: it goes on with the contributors that had finished, to the same base models."""

from __future__ import annotations

import csv
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.tiny_study import TinyStudy, make_mirror

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

LOOP = [
    "cold_fusion.tasks=[sst2,cola,rte]", "suite.tasks=[rte]", "CONTRIBUTORS=3", "ITERATIONS=3", "SEEDS=1",
    "cold_fusion.evaluate={curve: false, probe: false, few_shot: null}",
    "cold_fusion.baselines={singles: false, fuse_once: false, multitask: false}",
]  # fmt: skip


def run(study: TinyStudy) -> None:
    code, text = study.run("cold-fusion", *LOOP)
    assert code == 0, text


def revisions(study: TinyStudy) -> dict[str, str]:
    with (study.out / "cold-fusion" / "cold" / "iterations.csv").open(newline="") as file:
        return {row["name"]: row["revision"] for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    folder = tmp_path_factory.mktemp("undisturbed")
    study = TinyStudy(make_mirror(folder / "mirror"), folder / "out", folder / "cache")
    run(study)
    return study


@pytest.mark.parametrize("seed", range(3))
def test_the_driver_is_killed_in_the_middle_of_an_iteration(undisturbed: TinyStudy, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    study = TinyStudy(undisturbed.mirror, tmp_path / "out", undisturbed.cache)
    process = study.start("cold-fusion", *LOOP)
    study.wait_for_records(process, chance.randint(1, 7))
    time.sleep(chance.random())
    if seed == 0:
        os.killpg(process.pid, signal.SIGKILL)  # the whole machine
    process.kill()
    process.communicate()
    run(study)
    assert revisions(study) == revisions(undisturbed)
    assert study.cells().keys() == undisturbed.cells().keys()
    assert study.n_scored_runs() == len(study.cells()), "a contributor that had finished was trained again"
    assert not list((study.out / "storage" / "fusion").rglob("*.tmp")), "something half-written was left"
