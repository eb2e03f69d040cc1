"""Recall on a live target: as few forward passes as can be, and what is done without a score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from analysis.selection.performance import PerformanceMatrix
from analysis.selection.recall_rules import RecallRules, RecallVariant
from ray_app.selection.recalling import recall_candidates

# two clusters (a, b, c) and (d, e), and f alone
SCORES = {"a": 0.80, "b": 0.81, "c": 0.79, "d": 0.60, "e": 0.61, "f": 0.30}
RULES = RecallRules(threshold=0.05)


def matrix(scores: Mapping[str, float] = SCORES) -> PerformanceMatrix:
    test = np.array([[score] * 5 for score in scores.values()])
    return PerformanceMatrix(
        base_models=tuple(scores), tasks=tuple("vwxyz"), test=test, validation=np.zeros((len(scores), 5, 0))
    )


class Asked:
    """Answers with LEEP scores and remembers who was asked for."""

    def __init__(self, known: Mapping[str, float]) -> None:
        self.known = known
        self.waves: list[list[str]] = []

    def __call__(self, names: Sequence[str]) -> dict[str, dict[str, float]]:
        self.waves.append(list(names))
        return {"leep": {name: self.known.get(name, math.nan) for name in names}}


def test_one_of_each_cluster_is_scored_the_best_by_average() -> None:
    asked = Asked(dict.fromkeys(SCORES, -0.5))
    found = recall_candidates(matrix(), asked, RULES)
    assert asked.waves == [["b", "e"]] and found.scored == ("b", "e")
    # Eq. 3 by hand: equal proxies leave the order of the averages
    assert found.names == ("b", "a", "c", "e", "d", "f")
    assert found.scores["a"] == pytest.approx(0.80 * math.exp(-0.5))
    assert found.clusters == {"a": 1, "b": 1, "c": 1, "d": 2, "e": 2, "f": 3}


def test_the_next_best_stands_in_for_one_without_a_score() -> None:
    asked = Asked({"a": -0.2, "e": -0.5})
    found = recall_candidates(matrix(), asked, RULES)
    assert asked.waves == [["b", "e"], ["a"]]
    assert found.scores["c"] == pytest.approx(0.79 * math.exp(-0.2))


def test_the_reference_variant_scores_every_member() -> None:
    asked = Asked(dict.fromkeys(SCORES, -0.5))
    recall_candidates(matrix(), asked, RecallRules(threshold=0.05, variant=RecallVariant.REFERENCE_CODE))
    assert [sorted(wave) for wave in asked.waves] == [["a", "b", "c", "d", "e"]]


def test_where_all_stand_alone_everyone_is_scored() -> None:
    asked = Asked({"a": -1.0, "b": -0.1, "c": -1.0, "d": -1.0, "e": -1.0, "f": -3.0})
    found = recall_candidates(matrix(), asked, RecallRules(threshold=0.0))
    assert asked.waves == [list(SCORES)]
    assert found.names[0] == "b" and found.names[-1] == "f" and found.notes


def test_without_any_score_the_average_decides_and_it_is_said() -> None:
    asked = Asked({})
    found = recall_candidates(matrix(), asked, RULES)
    assert found.names == ("b", "a", "c", "e", "d", "f")
    assert "no base model has a score leep" in found.notes[0] and "select.proxies=[logme]" in found.notes[0]
    assert sorted(name for wave in asked.waves for name in wave) == list(SCORES)  # everyone was tried, once


def test_a_single_base_model_is_recalled() -> None:
    found = recall_candidates(matrix({"a": 0.5}), Asked({"a": -0.5}), RULES)
    assert found.names == ("a",)
