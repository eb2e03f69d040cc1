"""Successive halving and brute force: the epochs of Table V, and who goes."""

from __future__ import annotations

import pytest

from analysis.selection.halving import (
    BruteForce,
    SuccessiveHalving,
    brute_force_epochs,
    count_halving,
    halving_epochs,
    keep_best,
)


@pytest.mark.parametrize(
    ("models", "stages", "halving", "brute"),
    [(10, 5, 19, 50), (40, 5, 77, 200), (10, 4, 18, 40), (30, 4, 55, 120)],
    ids=["text 10", "text 40", "vision 10", "vision 30"],
)
def test_epochs_of_table_5(models: int, stages: int, halving: int, brute: int) -> None:
    assert halving_epochs(models, stages) == halving
    assert brute_force_epochs(models, stages) == brute


def test_counts_by_stage() -> None:
    assert count_halving(40, 5) == (40, 20, 10, 5, 2)
    assert count_halving(1, 3) == (1, 1, 1)


def test_epochs_of_shorter_stages() -> None:
    assert halving_epochs(10, 5, epochs_per_stage=0.5) == 9.5


def test_the_worse_half_goes_and_order_is_kept() -> None:
    curves = {"a": (0.1, 0.4), "b": (0.9, 0.2), "c": (0.5, 0.6), "d": (0.5, 0.5), "e": (0.5, 0.1)}
    verdict = SuccessiveHalving().decide(2, 5, curves)
    assert verdict.kept == ("c", "d")
    assert list(verdict.dropped) == ["a", "b", "e"]


def test_of_equal_ones_the_earlier_recalled_stays() -> None:
    assert SuccessiveHalving().decide(1, 5, {"a": (0.5,), "b": (0.5,), "c": (0.5,)}).kept == ("a",)


def test_brute_force_decides_at_the_end_only() -> None:
    curves = {"a": (0.5,), "b": (0.6,)}
    assert BruteForce().decide(1, 2, curves).kept == ("a", "b")
    assert BruteForce().decide(2, 2, curves).kept == ("b",)


def test_at_least_one_stays() -> None:
    assert keep_best({"a": (0.5,)}, 0).kept == ("a",)
    assert keep_best({}, 0).kept == ()
