"""Replay of rounds: epochs, failures, and policies that break their contract."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from analysis.selection.halving import BruteForce, SuccessiveHalving
from analysis.selection.rounds import Curves, Verdict, run_rounds

HALVING = SuccessiveHalving()


def test_successive_halving_of_ten_for_five_stages() -> None:
    curves = {f"m{place}": [place / 10] * 5 for place in range(10)}
    found = run_rounds(HALVING, curves, {"m9": 0.77})
    assert found.chosen == "m9"
    assert found.test_score == 0.77
    assert found.alive == (10, 5, 2, 1, 1)
    assert found.epochs_spent == 19
    assert len(found.dropped) == 9
    assert [drop.stage for drop in found.dropped].count(1) == 5


def test_epochs_of_a_stage() -> None:
    assert run_rounds(HALVING, {"a": [0.1, 0.2], "b": [0.2, 0.3]}, {}, epochs_per_stage=0.5).epochs_spent == 1.5


def test_unequal_stages_a_shorter_curve_fails_where_it_ends() -> None:
    curves = {"short": [0.9, 0.9], "a": [0.5, 0.5, 0.5], "b": [0.4, 0.6, 0.6]}
    found = run_rounds(BruteForce(), curves, {"b": 0.6})
    assert found.chosen == "b"
    assert found.alive == (3, 3, 3)
    failure = next(drop for drop in found.dropped if drop.failed)
    assert (failure.base_model, failure.stage) == ("short", 3)


def test_one_model_fails_at_every_stage() -> None:
    # the worst case for halving: whoever leads fails next
    curves = {"a": [], "b": [0.9], "c": [0.8, 0.9], "d": [0.7, 0.8, 0.9], "e": [0.6, 0.7, 0.8, 0.9], "f": [0.1] * 4}
    found = run_rounds(BruteForce(), curves, {"e": 0.5})
    assert [drop.base_model for drop in found.dropped if drop.failed] == ["a", "b", "c", "d"]
    assert found.chosen == "e"
    assert found.alive == (6, 5, 4, 3)


def test_halving_goes_on_where_a_survivor_fails() -> None:
    curves = {"a": [0.9], "b": [0.8, 0.8], "c": [0.1, 0.1], "d": [0.1, 0.1]}
    found = run_rounds(HALVING, curves, {"b": 0.8})
    assert found.chosen == "b"
    assert found.alive == (4, 2)


def test_all_fail() -> None:
    found = run_rounds(HALVING, {"a": [math.nan, 0.5], "b": []}, {})
    assert found.chosen is None
    assert math.isnan(found.test_score)
    assert found.epochs_spent == 2
    assert all(drop.failed for drop in found.dropped)


def test_a_chosen_model_without_a_test_score() -> None:
    assert math.isnan(run_rounds(HALVING, {"a": [0.5]}, {}).test_score)


def test_all_models_equal_the_first_recalled_is_chosen() -> None:
    curves = {name: [0.5] * 3 for name in ("first", "second", "third")}
    assert run_rounds(HALVING, curves, {}).chosen == "first"


@pytest.mark.parametrize(("curves", "text"), [({}, "no candidates"), ({"a": []}, "0 stages")])
def test_nothing_to_select_from(curves: dict[str, list[float]], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        run_rounds(HALVING, curves, {})


@dataclass(frozen=True)
class _Broken:
    verdict: Verdict
    name: str = "broken"

    def decide(self, stage: int, n_stages: int, curves: Curves) -> Verdict:
        return self.verdict


@pytest.mark.parametrize(
    "verdict",
    [
        Verdict(kept=(), dropped={"a": "", "b": ""}),
        Verdict(kept=("a",), dropped={}),
        Verdict(kept=("a", "b"), dropped={"b": ""}),
        Verdict(kept=("a", "b"), dropped={}),
    ],
    ids=["none kept", "one forgotten", "one twice", "two after the last stage"],
)
def test_a_policy_that_breaks_the_contract_is_refused(verdict: Verdict) -> None:
    with pytest.raises(ValueError, match="broken"):
        run_rounds(_Broken(verdict), {"a": [0.1], "b": [0.2]}, {})
