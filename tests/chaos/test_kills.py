"""Kill a sweep at any moment and run it again: the table ends as that of an undisturbed one, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.tiny_study import TinyStudy, make_mirror

pytestmark = pytest.mark.chaos

ESSENCE = ("score", "n_correct", "n_eval", "curve", "class_counts", "best_validation_score", "base_revision")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    folder = tmp_path_factory.mktemp("undisturbed")
    study = TinyStudy(make_mirror(folder / "mirror"), folder / "out", folder / "cache")
    code, text = study.run("sweep")
    assert code == 0, text
    return study


def essence(study: TinyStudy) -> dict[str, tuple[object, ...]]:
    return {key: tuple(row[name] for name in ESSENCE) for key, row in study.cells().items()}


def assert_equal_in_the_end(study: TinyStudy, undisturbed: TinyStudy) -> None:
    code, text = study.run("sweep")
    assert code == 0, text
    assert essence(study) == essence(undisturbed)
    assert study.n_scored_runs() == len(study.cells()), "two scored runs of one key"
    assert not list((study.out / "storage" / "records").glob("*.record.json")), "a record was not uploaded"
    assert not list((study.out / "storage" / "checkpoints").glob("*/step-*")), "a finished cell left a checkpoint"


def kill_driver_and_workers(pid: int) -> None:
    """What a machine that goes down does to a sweep: everything in its session at once."""
    os.killpg(pid, signal.SIGKILL)


@pytest.mark.parametrize("seed", range(3))
def test_the_driver_is_killed(undisturbed: TinyStudy, tmp_path: Path, seed: int) -> None:
    """kill -9 of the driver after a random number of cells and a random while; Ray's processes must go with it."""
    chance = random.Random(seed)
    study = TinyStudy(undisturbed.mirror, tmp_path / "out", undisturbed.cache)
    process = study.start("sweep")
    study.wait_for_records(process, chance.randint(0, 4))
    time.sleep(chance.random() * 2)
    process.kill()
    process.communicate()
    assert_equal_in_the_end(study, undisturbed)


def test_the_whole_machine_is_killed(undisturbed: TinyStudy, tmp_path: Path) -> None:
    study = TinyStudy(undisturbed.mirror, tmp_path / "out", undisturbed.cache)
    process = study.start("sweep")
    study.wait_for_records(process, 2)
    kill_driver_and_workers(process.pid)
    process.communicate()
    assert_equal_in_the_end(study, undisturbed)


def test_ctrl_c(undisturbed: TinyStudy, tmp_path: Path) -> None:
    study = TinyStudy(undisturbed.mirror, tmp_path / "out", undisturbed.cache)
    process = study.start("sweep")
    study.wait_for_records(process, 1)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 130, text
    assert "run the same command again" in text and "Traceback" not in text
    assert_equal_in_the_end(study, undisturbed)


def test_a_worker_is_killed(undisturbed: TinyStudy, tmp_path: Path) -> None:
    """kill -9 of a trial's process: Tune tries the cell again, the sweep ends by itself with everything complete."""
    import psutil

    study = TinyStudy(undisturbed.mirror, tmp_path / "out", undisturbed.cache)
    process = study.start("sweep")
    study.wait_for_records(process, 1)
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if any("CellTrial" in part or "ResourceTrainable" in part for part in child.cmdline())
    ]
    assert workers, "no trial was running"
    workers[0].kill()
    text, _ = process.communicate(timeout=240)
    assert process.returncode == 0, text
    assert essence(study) == essence(undisturbed)
