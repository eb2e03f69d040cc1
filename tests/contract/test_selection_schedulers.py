"""Every scheduler of selections, on a real Ray with scripted trials: more candidates than slots, a failure, lost workers.

Nobody is stopped before its stage, survivors go on from their own state, a failed trial does not block its rung, the last one is
trained to the end, and the decisions are those of the pure code on the recorded curves.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.selection.policies import POLICIES
from analysis.selection.rounds import run_rounds
from tests.scripted_selection import CURVES, DIES, N_STAGES, policy_of
from tests.tiny_study import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("scripted")]
SCHEDULERS = (*POLICIES, "asha")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What happened under every scheduler, one Ray for all."""
    found = tmp_path_factory.mktemp("scripted")
    command = [sys.executable, "-m", "tests.scripted_selection", str(found), *SCHEDULERS]
    ended = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return found


def happened(folder: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((folder / f"{name}.json").read_text()))


def test_there_are_the_schedulers_that_are_promised() -> None:
    assert {"fine_selection", "successive_halving", "brute_force", "asha"} <= set(SCHEDULERS)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_nobody_is_stopped_before_its_stage_or_trained_after_it(folder: Path, name: str) -> None:
    found = happened(folder, name)
    reached = {
        candidate: max(len(log) - 1 for log in found["trained"] if log[0] == candidate) for candidate in found["curves"]
    }
    dropped = [drop for drop in found["drops"] if not drop["failed"]]
    assert dropped
    for drop in dropped:
        assert reached[drop["base_model"]] == drop["stage"] == len(found["curves"][drop["base_model"]])


@pytest.mark.parametrize("name", SCHEDULERS)
def test_survivors_go_on_from_their_own_state_and_repeat_nothing(folder: Path, name: str) -> None:
    trained = [tuple(log) for log in happened(folder, name)["trained"]]
    for candidate, *stages in trained:
        assert stages == list(range(1, len(stages) + 1)), candidate
    again = sorted(log for log in set(trained) if trained.count(log) > 1)
    lost = [("doomed", 1), ("lost", 1)]  # their workers were lost there, before anything was stored
    assert again == (lost if name == "fine_selection" else [])


@pytest.mark.parametrize("name", SCHEDULERS)
def test_failures_do_not_block_and_are_told(folder: Path, name: str) -> None:
    failed = {drop["base_model"]: drop for drop in happened(folder, name)["drops"] if drop["failed"]}
    assert failed["doomed"]["stage"] == 1
    assert ("worker was lost" if "doomed" in DIES.get(name, "") else "as scripted") in failed["doomed"]["reason"]
    assert "lost" not in failed
    if "fails" in failed:  # it may have been dropped before it could fail
        assert failed["fails"]["stage"] == 2 and "as scripted" in failed["fails"]["reason"]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_last_one_is_trained_to_the_end(folder: Path, name: str) -> None:
    found = happened(folder, name)
    assert found["chosen"] not in {drop["base_model"] for drop in found["drops"]}
    assert [found["chosen"], 1, 2, 3, 4] in found["trained"]
    everyone = {drop["base_model"] for drop in found["drops"]} | {found["chosen"]}
    assert len(everyone) == 8 == len(found["drops"]) + 1


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_live_decisions_are_those_of_the_pure_code(folder: Path, name: str) -> None:
    found = happened(folder, name)
    given = {candidate: CURVES[candidate] for candidate in CURVES}
    given["fails"], given["doomed"] = given["fails"][:1], []  # how far they can come, whatever is decided
    pure = run_rounds(policy_of(name), given, {}, n_stages=N_STAGES)
    assert found["chosen"] == pure.chosen
    assert tuple(found["counts"]) == pure.alive
    live = [(drop["base_model"], drop["stage"], drop["failed"]) for drop in found["drops"]]
    assert live == [(drop.base_model, drop.stage, drop.failed) for drop in pure.dropped]
    reasons = {drop["base_model"]: drop["reason"] for drop in found["drops"] if not drop["failed"]}
    assert reasons == {drop.base_model: drop.reason for drop in pure.dropped if not drop.failed}
    # and on nothing but what was recorded live
    recorded = {candidate: found["curves"].get(candidate, ()) for candidate in CURVES}
    assert run_rounds(policy_of(name), recorded, {}, n_stages=N_STAGES).chosen == pure.chosen


def test_asha_stops_who_is_below_the_median_of_its_rung_so_far(folder: Path) -> None:
    """An implementation of its own: Li et al. 2020, as Ray has it, with rungs at 1, 2 and 4 and the median of earlier arrivals."""
    found = happened(folder, "asha")
    rungs: dict[int, list[float]] = {1: [], 2: []}
    stopped = set()
    for candidate, stage in found["heard"]:
        if stage not in rungs or candidate == "doomed":
            continue
        score = found["curves"][candidate][stage - 1]
        if rungs[stage] and score < np.median(rungs[stage]):
            stopped.add((candidate, stage))
        rungs[stage].append(score)
    live = {(drop["base_model"], drop["stage"]) for drop in found["drops"] if not drop["failed"] and drop["stage"] < 4}
    assert live == stopped
