"""Nodes come and go in the middle of a sweep: those that come are used, those that vanish take nothing with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.harness import ChaosStudy, end, make_study
from tests.local_cluster import LocalCluster

pytestmark = pytest.mark.chaos


def wait_until(condition: Callable[[], bool], what: str, *, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.1)


def test_no_node_then_one_then_two_then_the_first_is_killed(undisturbed: ChaosStudy, tmp_path: Path) -> None:
    chaos = make_study(tmp_path / "study", undisturbed, step_s=0.1)
    with LocalCluster(chaos.study.environment) as cluster:
        study = replace(chaos.study, environment=cluster.environment)
        process = study.start("sweep", f"cluster.address='{cluster.address}'", "cluster.cpus=null")
        try:
            time.sleep(10)
            assert process.poll() is None and not chaos.steps(), "a sweep waits where there are no workers yet"
            first = cluster.add_node()
            wait_until(lambda: bool(cluster.workers(first)), "the first node is used")
            chaos.wait_for_steps(process, 16)
            second = cluster.add_node()
            wait_until(lambda: bool(cluster.workers(second)), "the node that was added is used")
            before = len(chaos.steps())
            chaos.wait_for_steps(process, before + 4)
            cluster.kill_node(first)
            code, text = end(process)
        finally:
            process.kill()
    assert code == 0, text
    assert len(chaos.steps()) > before + 4
    chaos.assert_as_undisturbed(undisturbed, resume=False)
