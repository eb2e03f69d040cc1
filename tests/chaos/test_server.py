"""The MLflow server and its PostgreSQL are killed in mid-sweep: training goes on, every result arrives once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.harness import ChaosStudy, end, make_study
from tracking.server import TrackingService, answers

pytestmark = pytest.mark.chaos


@pytest.fixture
def well(service: TrackingService) -> Iterator[TrackingService]:
    """The service, up before the test and after it."""
    yield service
    bring_up(service)


def bring_up(service: TrackingService) -> None:
    deadline = time.monotonic() + 60
    service.watch()
    while not answers(service.address) and time.monotonic() < deadline:
        time.sleep(0.2)


def kill_server(service: TrackingService) -> None:
    assert service.server_pid is not None
    os.killpg(service.server_pid, signal.SIGKILL)


def kill_database(service: TrackingService) -> None:
    assert service.postgres is not None and service.postgres.pid is not None
    os.kill(service.postgres.pid, signal.SIGKILL)


@pytest.mark.parametrize("kill", [kill_server, kill_database])
def test_a_killed_server_is_started_again(undisturbed: ChaosStudy, tmp_path: Path, well: TrackingService, kill) -> None:  # type: ignore[no-untyped-def]
    chaos = make_study(tmp_path, undisturbed).against(well.address, kill.__name__.replace("_", "-"))
    process = chaos.study.start("sweep")
    chaos.wait_for_steps(process, 20)
    kill(well)
    time.sleep(1)
    bring_up(well)
    code, text = end(process)
    assert code == 0, text
    chaos.assert_alike(undisturbed)


def test_the_server_stays_away_until_the_sweep_has_ended(
    undisturbed: ChaosStudy, tmp_path: Path, well: TrackingService
) -> None:
    """Training goes on to its end, results wait on disk, and `make tracking-sync` uploads them once."""
    chaos = make_study(tmp_path, undisturbed, more=("tracking.patience_s=3",)).against(well.address, "away")
    process = chaos.study.start("sweep")
    chaos.wait_for_steps(process, 8)
    kill_server(well)
    code, text = end(process)
    assert text.count("WARNING") <= 1, "an outage is told once"
    assert code == 3 and "wait on disk" in text and "Traceback" not in text, text
    code, text = chaos.study.run("tracking-sync")
    assert code == 3 and "Traceback" not in text, text
    bring_up(well)
    code, text = chaos.study.run("tracking-sync")
    assert code == 0 and "uploaded" in text, text
    code, text = chaos.study.run("tracking-sync")
    assert code == 0 and "no result waits" in text, text
    chaos.assert_alike(undisturbed)
    code, text = chaos.study.run("rank")
    assert code == 0 and "startline/" in text, text
