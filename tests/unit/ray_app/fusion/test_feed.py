"""The feed: programs that ask for cells and are resumed, against a worker that is a list."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from ray_app.fusion.feed import Ended, Feed, Gather, Program, Work, ended_trial
from ray_app.hub.tasks import SplitCaps, SplitRule
from ray_app.sweeps.materials import TaskVariant
from ray_app.sweeps.plan import PlannedCell
from ray_app.training.settings import FinetuneConfig
from tracking.cells import CellIdentity
from tracking.errors import QuorumError, StorageError
from tracking.schema import State


def cell(name: str) -> PlannedCell:
    identity = CellIdentity(
        arch="a", base_model="b", base_revision="r", task=name, data={}, method="finetune", hyperparameters={}, seed=0, recipe="1"
    )  # fmt: skip
    variant = TaskVariant.of(name, SplitRule.SITE, SplitCaps())
    return PlannedCell(
        identity=identity, role="source", variant=variant, config=FinetuneConfig(), checkpoint=Path("/m")
    )


A, B, C = cell("a"), cell("b"), cell("c")


def result(state: str = "complete", score: float = 0.5) -> dict[str, Any]:
    return {
        "state": state,
        "seconds/score": score,
        "seconds/n_eval": 10.0,
        "seconds/train_s": 2.0,
        "reason": "why",
        "done": True,
    }


def feed(*programs: Program, known: dict[str, Ended] | None = None, clock: Any = time.monotonic) -> Feed:
    outcomes = known or {}
    return Feed(
        programs={f"p{place}": program for place, program in enumerate(programs)},
        known=lambda one: outcomes.get(one.key),
        clock=clock,
    )


def test_a_program_gets_what_it_asked_for() -> None:
    seen: list[Any] = []

    def program() -> Program:
        seen.append((yield Gather([A, B])))
        seen.append((yield Work(lambda: 7)))

    under = feed(program())
    assert [one.key for one in under.take()] == [A.key, B.key] and not under.finished
    under.note(A.key, result())
    assert under.take() == [] and not seen
    under.note(B.key, result("failed"))
    while not under.finished:
        under.step()
        under.wait(0.1)
    assert seen[0][A.key].usable and not seen[0][B.key].usable and seen[1] == 7
    assert seen[0][A.key].score == 0.5 and seen[0][A.key].n_eval == 10 and seen[0][A.key].train_s == 2.0


def test_a_cell_that_two_ask_for_is_run_once() -> None:
    ended = []

    def program(*cells: PlannedCell) -> Program:
        ended.append(sorted((yield Gather(list(cells)))))

    under = feed(program(A, B), program(A))
    assert [one.key for one in under.take()] == [A.key, B.key]
    under.note(A.key, result())
    under.step()
    assert ended == [[A.key]]
    under.note(B.key, result())
    under.step()
    assert under.finished and len(ended) == 2


def test_what_is_known_is_not_run() -> None:
    def program() -> Program:
        yield Gather([A])

    under = feed(program(), known={A.key: Ended(key=A.key, state=State.COMPLETE)})
    assert not under.settle() and under.finished


def test_enough_after_a_while() -> None:
    now = [0.0]
    got = []

    def program() -> Program:
        got.append((yield Gather([A, B, C], enough=lambda ended, elapsed: elapsed >= 10 and len(ended) >= 2)))

    under = feed(program(), clock=lambda: now[0])
    under.take()
    under.note(A.key, result())
    now[0] = 20.0
    under.step()
    assert not got
    under.note(B.key, result())
    under.step()
    assert sorted(got[0]) == sorted([A.key, B.key]) and under.finished


def test_a_failure_ends_one_program_and_no_other() -> None:
    def broken() -> Program:
        yield Gather([A])
        raise QuorumError("too few")

    def disk() -> Program:
        def full() -> None:
            raise StorageError("full")

        yield Work(full)

    def whole() -> Program:
        yield Gather([A])
        yield Gather([B])

    under = feed(broken(), disk(), whole())
    under.take()
    under.note(A.key, result())
    deadline = time.monotonic() + 5
    while len(under.failures) < 2 and time.monotonic() < deadline:
        under.wait(0.1)
        under.step()
    assert {name: error.message for name, error in under.failures.items()} == {"p0": "too few", "p1": "full"}
    assert [one.key for one in under.take()] == [B.key]
    under.note(B.key, result())
    under.step()
    assert under.finished
    under.close()


def test_a_worker_lost_for_good_is_a_failure_with_its_reason() -> None:
    assert ended_trial("k", None) == Ended(key="k", state=State.FAILED, reason="its worker was lost")
    told = ended_trial("k", {"state": "failed", "failed_stage": "train", "reason": "boom"})
    assert told.reason == "train: boom" and told.score is None


def test_an_unforeseen_error_is_not_swallowed() -> None:
    def program() -> Program:
        yield Gather([A])
        raise ZeroDivisionError

    under = feed(program())
    under.take()
    under.note(A.key, result())
    with pytest.raises(ZeroDivisionError):
        under.step()
