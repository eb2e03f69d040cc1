"""Algorithm 1 by hand."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.selection.fine_selection import FineSelection
from analysis.selection.knowledge import RoundRules
from tests.selection_matrices import make_matrix

# Two benchmark tasks, one hard and one easy. At stage 1 every model stands at 0.3 and 0.7; it ends where `test` says.
# m0 ends at 0.50 / 0.90, m1 at 0.50 / 0.80, m2 at 0.45 / 0.95, m3 at 0.40 / 0.60
TEST = [[0.50, 0.90], [0.50, 0.80], [0.45, 0.95], [0.40, 0.60]]
RECORD = make_matrix(TEST, np.tile([[0.3], [0.7]], (4, 1, 1)))


def _policy(threshold: float = 0.0) -> FineSelection:
    return FineSelection(record=RECORD, rules=RoundRules(threshold=threshold, n_trends=2))


def test_filter_then_nothing_left_to_halve() -> None:
    # all match the easy trend: predictions 0.90, 0.80, 0.95, 0.60
    curves = {"m0": (0.75,), "m1": (0.72,), "m2": (0.71,), "m3": (0.70,)}
    verdict = _policy().decide(1, 5, curves)
    # m3 and m1 have a rival that validates better and is predicted higher; m2 (0.95) has none; m0 validates best
    assert verdict.kept == ("m0", "m2")
    assert set(verdict.dropped) == {"m1", "m3"}
    assert "0.8000" in verdict.dropped["m1"]
    assert "0.9000 of m0" in verdict.dropped["m1"]


def test_halving_follows_where_the_filter_leaves_too_many() -> None:
    # predictions 0.60, 0.80, 0.90, 0.95 rise as validation falls: nobody is filtered, the two worst by validation are halved away
    curves = {"m3": (0.75,), "m1": (0.72,), "m0": (0.71,), "m2": (0.70,)}
    verdict = _policy().decide(1, 5, curves)
    assert verdict.kept == ("m3", "m1")
    assert "number 3 of 4" in verdict.dropped["m0"]


@pytest.mark.parametrize(
    ("threshold", "kept"), [(0.0, {"m0"}), (0.09, {"m0"}), (0.1, {"m0", "m1"}), (0.2, {"m0", "m1"})]
)
def test_the_threshold_is_a_difference_that_must_be_exceeded(threshold: float, kept: set[str]) -> None:
    # m1 is predicted 0.10 below m0, m3 0.30 below; of four, two may stay
    curves = {"m0": (0.75,), "m1": (0.74,), "m3": (0.72,), "x": (0.1,)}
    verdict = _policy(threshold).decide(1, 5, curves)
    assert set(verdict.kept) == (kept if len(kept) == 2 else kept | {"x"})


def test_without_a_record_a_candidate_is_only_halved() -> None:
    curves = {"new": (0.71,), "m0": (0.75,), "m1": (0.72,), "other": (0.70,)}
    assert set(_policy().decide(1, 5, curves).kept) == {"m0", "new"}


def test_equal_validation_does_not_filter() -> None:
    verdict = _policy().decide(1, 5, {"m3": (0.7,), "m0": (0.7,)})
    assert verdict.kept == ("m3",)
    assert "number 2 of 2" in verdict.dropped["m0"]


def test_a_stage_that_is_not_recorded_is_halving() -> None:
    curves = {name: (0.7, 0.7 + place / 100) for place, name in enumerate(("m0", "m1", "m2", "m3"))}
    assert _policy().decide(2, 5, curves).kept == ("m2", "m3")


def test_the_last_one_stays_and_no_one_is_no_fault() -> None:
    assert _policy().decide(1, 5, {"m3": (0.1,)}).kept == ("m3",)
    assert _policy().decide(1, 5, {}).kept == ()


def test_after_the_last_stage_the_best_by_validation_stays() -> None:
    curves = {"m2": (0.70,), "m0": (0.71,), "m1": (0.69,)}
    assert _policy().decide(1, 1, curves).kept == ("m0",)
