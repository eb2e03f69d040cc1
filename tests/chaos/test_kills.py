"""Kill a sweep at any moment and run it again: the table ends as that of an undisturbed one, bit for bit."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from tests.chaos.harness import (
    ChaosStudy,
    cells_under_way,
    end,
    kill_session,
    make_study,
    raylets,
    wait_for_cells,
)

pytestmark = pytest.mark.chaos


def random_step(undisturbed: ChaosStudy, seed: int) -> int:
    """A training step of the study, drawn by seed; all but the last are followed by more work."""
    return random.Random(seed).randrange(1, len(undisturbed.steps()))


def test_the_driver_is_killed(undisturbed: ChaosStudy, tmp_path: Path) -> None:
    """kill -9 of the driver at a random step; Ray's processes must go with it."""
    chaos = make_study(tmp_path, undisturbed)
    process = chaos.study.start("sweep")
    chaos.wait_for_steps(process, random_step(undisturbed, 3))
    process.kill()
    process.communicate()
    chaos.assert_as_undisturbed(undisturbed)


def test_the_driver_is_killed_before_it_trains(undisturbed: ChaosStudy, tmp_path: Path) -> None:
    chaos = make_study(tmp_path, undisturbed)
    process = chaos.study.start("sweep")
    time.sleep(random.Random(7).random() * 6)
    process.kill()
    process.communicate()
    chaos.assert_as_undisturbed(undisturbed)


def test_the_whole_machine_is_killed(undisturbed: ChaosStudy, tmp_path: Path) -> None:
    chaos = make_study(tmp_path, undisturbed)
    process = chaos.study.start("sweep")
    chaos.wait_for_steps(process, random_step(undisturbed, 11))
    kill_session(process)
    process.communicate()
    chaos.assert_as_undisturbed(undisturbed)


def test_ctrl_c(undisturbed: ChaosStudy, tmp_path: Path) -> None:
    chaos = make_study(tmp_path, undisturbed)
    process = chaos.study.start("sweep")
    chaos.wait_for_steps(process, random_step(undisturbed, 13))
    process.send_signal(signal.SIGINT)
    code, text = end(process, timeout_s=60)
    assert code == 130, text
    assert "run the same command again" in text and "Traceback" not in text
    chaos.assert_as_undisturbed(undisturbed)


def test_a_worker_is_killed(undisturbed: ChaosStudy, tmp_path: Path) -> None:
    """kill -9 of a trial's process: its cell is handed out again, the sweep ends by itself with everything complete."""
    chaos = make_study(tmp_path, undisturbed)
    process = chaos.study.start("sweep")
    chaos.wait_for_steps(process, 15)
    workers = wait_for_cells(process)
    assert workers, "no trial was running"
    random.Random(17).choice(workers).kill()
    code, text = end(process)
    assert code == 0, text
    chaos.assert_as_undisturbed(undisturbed, resume=False)


def test_a_raylet_is_killed(undisturbed: ChaosStudy, tmp_path: Path) -> None:
    """kill -9 of the only node's raylet: the sweep says so and ends instead of waiting for ever; its workers go with it."""
    chaos = make_study(tmp_path, undisturbed, step_s=0.4)
    process = chaos.study.start("sweep")
    chaos.wait_for_steps(process, 6)
    workers = cells_under_way(process)
    (raylet,) = raylets(process)
    raylet.kill()
    code, text = end(process, timeout_s=90)
    assert code == 3, text
    assert "run the same command again" in text and "Traceback" not in text
    assert not any(worker.is_running() for worker in workers), "a worker outlived its node"
    chaos.assert_as_undisturbed(undisturbed)


def test_a_worker_is_preempted(undisturbed: ChaosStudy, tmp_path: Path) -> None:
    """SIGTERM: the cell stores a checkpoint and its process ends well within the notice of 30 s; nothing is repeated."""
    chaos = make_study(tmp_path, undisturbed, more=("execution.checkpoint_every_s=1000",))
    process = chaos.study.start("sweep")
    chaos.wait_for_steps(process, 15)
    workers = wait_for_cells(process)
    assert workers, "no trial was running"
    told = time.monotonic()
    workers[0].send_signal(signal.SIGTERM)
    workers[0].wait(30)
    assert time.monotonic() - told < 15
    code, text = end(process)
    assert code == 0, text
    chaos.assert_as_undisturbed(undisturbed, resume=False)
    assert chaos.repeated_s() == 0


def test_the_machine_is_preempted(undisturbed: ChaosStudy, tmp_path: Path) -> None:
    """SIGTERM to the driver, SIGKILL to everything 30 s later: by then all checkpoints are stored; nothing is repeated."""
    chaos = make_study(tmp_path, undisturbed, more=("execution.checkpoint_every_s=1000",))
    process = chaos.study.start("sweep")
    chaos.wait_for_steps(process, 20)
    process.send_signal(signal.SIGTERM)
    code, text = end(process, timeout_s=30)
    assert code == 130, text
    chaos.assert_as_undisturbed(undisturbed)
    assert chaos.repeated_s() == 0


def test_a_trial_hangs(undisturbed: ChaosStudy, tmp_path: Path) -> None:
    """A stopped process looks alive to Ray; its silence ends it, and its cell is done by another."""
    chaos = make_study(tmp_path, undisturbed, more=("cluster.hang_timeout_s=30",))
    process = chaos.study.start("sweep")
    chaos.wait_for_steps(process, 15)
    workers = wait_for_cells(process)
    assert workers, "no trial was running"
    workers[0].send_signal(signal.SIGSTOP)
    code, text = end(process)
    assert code == 0, text
    chaos.assert_as_undisturbed(undisturbed, resume=False)
