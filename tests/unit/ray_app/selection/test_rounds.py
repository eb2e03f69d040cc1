"""A selection as it goes on: whatever the order in which trials report, decisions are those of the pure code."""

from __future__ import annotations

import random

import pytest

from analysis.selection.halving import BruteForce, SuccessiveHalving
from analysis.selection.rounds import RoundPolicy, run_rounds
from ray_app.selection.rounds import Ledger, LiveRounds, StoppedLedger

CURVES = {
    "a": (0.5, 0.6, 0.7),
    "b": (0.6, 0.7, 0.8),
    "c": (0.4, 0.9, 0.9),
    "d": (0.3, 0.3, 0.3),
    "e": (0.6, 0.5, 0.4),
}


def rounds(policy: RoundPolicy | None = None, n_stages: int = 3) -> LiveRounds:
    return LiveRounds(names=tuple(CURVES), n_stages=n_stages, policy=policy or SuccessiveHalving())


def drops(ledger: Ledger) -> list[tuple[str, int, bool]]:
    return [(drop.base_model, drop.stage, drop.failed) for drop in ledger.drops]


def test_nothing_is_decided_before_everyone_has_reached_the_stage() -> None:
    live = rounds()
    for name in "abcd":
        live.reported(name, CURVES[name][:1])
        assert live.settle() == [] and live.stage == 1 and live.chosen is None
    live.reported("e", CURVES["e"][:1])
    # by hand: 0.6 of b and e stay, b first as it is the earlier
    assert [drop.base_model for drop in live.settle()] == ["a", "c", "d"]
    assert live.alive == ("b", "e") and live.stage == 2 and live.counts == [5]


def test_a_curve_that_is_known_further_is_seen_only_up_to_the_stage() -> None:
    live = rounds()
    for name, curve in CURVES.items():
        live.reported(name, curve)
        live.end(name)
    live.settle()
    # c has 0.9 at stage 2, but was dropped at stage 1 on its 0.4
    assert drops(live)[:3] == [("a", 1, False), ("c", 1, False), ("d", 1, False)]
    assert live.chosen == "b" and live.over and live.counts == [5, 2, 1]


def test_a_training_that_catches_up_forgets_nothing() -> None:
    live = rounds()
    live.reported("a", CURVES["a"][:2])
    live.reported("a", CURVES["a"][:1])
    assert live.curves["a"] == CURVES["a"][:2]


def test_a_failure_counts_as_reached_and_is_out() -> None:
    live = rounds()
    live.end("b", "failed at load model: no such file")
    for name in "acde":
        live.reported(name, CURVES[name][:1])
    live.settle()
    # of the four others two go on: e with 0.6 and a with 0.5
    assert drops(live) == [("b", 1, True), ("c", 1, False), ("d", 1, False)] and live.alive == ("a", "e")
    assert live.drops[0].reason == "failed at load model: no such file"
    assert live.counts == [5]  # its part of the stage was spent


def test_a_divergence_is_told_as_such_one_stage_later() -> None:
    live = rounds(BruteForce())
    for name, curve in CURVES.items():
        live.reported(name, curve if name != "b" else curve[:1])
        live.end(name)
    live.settle()
    assert ("b", 2, True) in drops(live)
    (told,) = [drop.reason for drop in live.drops if drop.base_model == "b"]
    assert told == "its training ended after stage 1: it diverged"


def test_all_failing_ends_with_nobody_chosen() -> None:
    live = rounds()
    for name in CURVES:
        live.end(name, "failed at load model: damaged")
    live.settle()
    assert live.over and live.chosen is None and len(live.drops) == 5 and live.counts == [5]


@pytest.mark.parametrize("policy", [SuccessiveHalving(), BruteForce()], ids=lambda policy: policy.name)
@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_arrival_gives_the_decisions_of_the_pure_code(policy: RoundPolicy, seed: int) -> None:
    chance = random.Random(seed)
    lasts = {name: chance.choice([3, 3, 3, 0, 1, 2]) for name in CURVES}
    given = {name: CURVES[name][:last] for name, last in lasts.items()}
    live = rounds(policy)
    at = dict.fromkeys(CURVES, 0)
    while not live.over:
        waiting = [name for name in live.alive if name not in live.ended and not live.reached(name, live.stage)]
        name = chance.choice(waiting)
        if at[name] == lasts[name]:
            live.end(name, "" if at[name] == 3 else "failed at train: as drawn")
        else:
            at[name] += 1
            live.reported(name, CURVES[name][: at[name]])
        live.settle()
    pure = run_rounds(policy, given, {}, n_stages=3)
    assert live.chosen == pure.chosen
    assert drops(live) == [(drop.base_model, drop.stage, drop.failed) for drop in pure.dropped]
    assert tuple(live.counts) == pure.alive


def test_a_scheduler_of_rays_own_leaves_the_best_of_those_trained_to_the_end() -> None:
    ledger = StoppedLedger(names=tuple(CURVES), n_stages=3)
    for name, last in {"a": 3, "b": 3, "c": 2, "d": 1}.items():
        ledger.reported(name, CURVES[name][:last])
    ledger.stop("c", "below the median")
    ledger.stop("d", "below the median")
    ledger.end("a")
    ledger.end("b")
    ledger.end("e", "failed at load model: damaged")
    assert ledger.chosen is None
    ledger.close()
    assert ledger.chosen == "b"
    assert drops(ledger) == [("c", 2, False), ("d", 1, False), ("e", 1, True), ("a", 3, False)]
    assert ledger.counts == [5, 3, 2]  # e failed in stage 1


def test_a_scheduler_of_rays_own_may_end_with_nobody() -> None:
    ledger = StoppedLedger(names=("a",), n_stages=3)
    ledger.end("a", "failed at load model: damaged")
    ledger.close()
    assert ledger.chosen is None and drops(ledger) == [("a", 1, True)]
