"""What others would have spent and chosen, on the same recorded cells."""

from __future__ import annotations

import math

import pytest

from analysis.selection.knowledge import Knowledge, RoundRules
from ray_app.selection.comparison import baseline_epochs, compare, share_se
from ray_app.selection.matrix import RecordedCell


def recorded(score: float, *curve: float, n_test: int = 400) -> RecordedCell:
    return RecordedCell(score=score, curve=curve, n_test=n_test)


def test_epochs_of_the_baselines_are_those_of_table_v() -> None:
    assert baseline_epochs(10, 5, max_epochs=5) == {"brute_force": 50, "successive_halving": 19}
    assert baseline_epochs(40, 5, max_epochs=5) == {"brute_force": 200, "successive_halving": 77}
    assert baseline_epochs(10, 4, max_epochs=2) == {"brute_force": 20, "successive_halving": 9}  # half an epoch a stage


def test_alternatives_are_replayed_over_all_candidates() -> None:
    cells = {"a": recorded(0.70, 0.5, 0.6), "b": recorded(0.80, 0.4, 0.9), "c": recorded(0.60, 0.3, 0.4)}
    found = compare(cells, cells["a"], known=Knowledge(), rules=RoundRules(), n_stages=2, max_epochs=2)
    brute, halving = found
    # brute force sees b's 0.9 at the end; halving keeps one of three after stage 1, which is a
    assert (brute.method, brute.chosen, brute.epochs, brute.difference) == ("brute_force", "b", 6, pytest.approx(-0.1))
    assert (halving.method, halving.chosen, halving.epochs) == ("successive_halving", "a", 4)
    assert halving.difference == halving.difference_se == 0
    # by hand: sqrt(0.7 x 0.3 / 400 + 0.8 x 0.2 / 400)
    assert brute.difference_se == pytest.approx(math.sqrt(0.37 / 400))


def test_without_counts_the_noise_is_unknown() -> None:
    assert math.isnan(share_se(recorded(0.5, n_test=0), recorded(0.5)))
