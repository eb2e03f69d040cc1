"""Silence ends a trial; results, a pause and the end do not count as silence; a dead node ends the sweep."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ray_app.sweeps import vigil as module
from ray_app.sweeps.vigil import Vigil
from tracking.errors import ClusterError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands until it is turned, and a Ray of one node that notes what is killed."""
    held = SimpleNamespace(now=0.0, killed=[], alive=True)
    import ray

    monkeypatch.setattr(module.time, "monotonic", lambda: held.now)
    monkeypatch.setattr(ray, "kill", held.killed.append)
    monkeypatch.setattr(ray, "nodes", lambda: [{"NodeID": "n", "Alive": held.alive}])
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "n"))
    return held


def trial(name: str) -> SimpleNamespace:
    return SimpleNamespace(trial_id=name, temporary_state=SimpleNamespace(ray_actor=f"actor of {name}"))


def test_only_the_silent_one_is_ended(clock: SimpleNamespace) -> None:
    vigil = Vigil(10.0)
    for name in ("silent", "talking", "paused", "done", "lost"):
        vigil.on_trial_start(0, [], trial(name))
    clock.now = 8
    vigil.on_trial_result(0, [], trial("talking"), {})
    vigil.on_trial_save(0, [], trial("paused"))
    vigil.on_trial_complete(0, [], trial("done"))
    vigil.on_trial_error(0, [], trial("lost"))
    vigil.on_step_end(0, [])
    assert clock.killed == []
    clock.now = 11
    vigil.on_step_end(0, [])
    vigil.on_step_end(0, [])
    assert clock.killed == ["actor of silent"]
    assert "no sign of life for 10 s" in vigil.ended["silent"]


def test_without_a_limit_nobody_is_ended(clock: SimpleNamespace) -> None:
    vigil = Vigil(None)
    vigil.on_trial_start(0, [], trial("a"))
    clock.now = 1e9
    vigil.on_step_end(0, [])
    assert clock.killed == []


def test_a_dead_node_ends_the_sweep(clock: SimpleNamespace) -> None:
    vigil = Vigil(None)
    clock.now, clock.alive = 100, False
    with pytest.raises(ClusterError, match="run the same command again"):
        vigil.on_step_end(0, [])
