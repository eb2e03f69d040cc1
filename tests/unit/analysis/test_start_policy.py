"""The search for a starting point, against scripts of what finetuning would give."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from scipy import stats

from analysis.noise_prior import NO_PRIOR, NoisePrior
from analysis.start_policy import Measured, Start, StartVerdict, judge, search_start
from analysis.start_rules import StartRules

RANKING = ["a", "b", "c", "d"]


class Shop:
    """Scores by model, at one finetune a seed; remembers what it was asked."""

    def __init__(self, scores: Mapping[str, Sequence[float]]) -> None:
        self.scores = scores
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, names: tuple[str, ...], allowance: int) -> Measured:
        cost = sum(len(self.scores.get(name, ())) for name in names)
        if cost > allowance:
            return Measured(refused=f"{cost} needed, {allowance} left", over_budget=True)
        self.asked.append(names)
        return Measured(scores={name: self.scores[name] for name in names if name in self.scores}, runs=cost)


def search(
    scores: Mapping[str, Sequence[float]], prior: NoisePrior = NO_PRIOR, **rules: float
) -> tuple[StartVerdict, Shop]:
    shop = Shop({name: [value / 100 for value in values] for name, values in scores.items()})
    found = search_start(RANKING, pretrained="pt", measure=shop, rules=StartRules(**rules), prior=prior)
    return found, shop


def test_a_sensitive_target_is_searched_to_the_end_of_the_budget() -> None:
    scores = {"pt": [60, 61], "a": [70, 71], "b": [72, 73], "c": [90, 91], "d": [99, 99]}
    found, shop = search(scores, budget=6)
    assert shop.asked == [("pt", "a"), ("b",)]
    assert (found.verdict, found.chosen, found.sensitive, found.runs) == (Start.MODEL, "b", True, 6)
    assert "left" in found.stopped and [each.name for each in found.tried] == ["a", "b"]
    assert found.pretrained_score == pytest.approx(60.5)


def test_an_insensitive_target_ends_the_search_after_the_first_comparison() -> None:
    found, shop = search({"pt": [60.0, 60.2], "a": [60.1, 59.9], "b": [90, 91]}, budget=100)
    assert shop.asked == [("pt", "a")] and "not sensitive" in found.stopped
    assert (found.verdict, found.chosen, found.sensitive, found.runs) == (Start.PRETRAINED, "pt", False, 4)


def test_seeds_that_cannot_tell_go_on_and_say_so() -> None:
    scores = {"pt": [50, 60], "a": [52, 62], "b": [53, 63], "c": [40, 50], "d": [41, 51]}
    found, _ = search(scores, budget=100)
    assert found.sensitive is None and found.stopped == "every ranked model was tried"
    # b gains 3 points, more than is worthwhile: chosen, though not beyond noise
    assert (found.verdict, found.chosen) == (Start.MODEL, "b") and "not beyond noise" in found.sentence


def test_a_gain_below_what_is_worthwhile_stays_with_the_pretrained_model() -> None:
    found, _ = search({"pt": [50, 60], "a": [50.5, 60.5], "b": [49, 59]}, budget=6)
    assert (found.verdict, found.chosen, found.sensitive) == (Start.PRETRAINED, "pt", None)


def test_intervals_by_hand() -> None:
    # pooled variance: (0.5 + 0.5 + 2) / 3 = 1 with 3 df; k = 2 intervals: t at 1 - 0.05 / 4
    scores = {"pt": [0.60, 0.61], "a": [0.70, 0.71], "b": [0.64, 0.66]}
    tried, sd, df = judge(scores, pretrained="pt", level=0.95, prior=NO_PRIOR)
    assert (sd, df) == (pytest.approx(1.0), 3)
    half = stats.t.ppf(1 - 0.05 / 4, 3) * math.sqrt(1 / 2 + 1 / 2)
    assert [each.gain for each in tried] == pytest.approx([10.0, 4.5])
    assert [(each.low, each.high) for each in tried] == [
        (pytest.approx(10 - half), pytest.approx(10 + half)),
        (pytest.approx(4.5 - half), pytest.approx(4.5 + half)),
    ]


def test_one_seed_rests_on_the_prior() -> None:
    prior = NoisePrior(variance=0.25, df=math.inf, n_targets=9)
    found, _ = search({"pt": [60], "a": [65], "b": [61], "c": [61], "d": [61]}, prior, budget=5)
    assert (found.noise_sd, found.noise_df) == (0.5, math.inf) and found.sensitive is True
    half = stats.norm.ppf(1 - 0.05 / 8) * 0.5 * math.sqrt(2)
    assert found.tried[0].low == pytest.approx(5 - half)


def test_unknown_noise_is_said() -> None:
    found, _ = search({"pt": [60], "a": [65]}, budget=2)
    assert found.sensitive is None and math.isnan(found.noise_sd) and "one seed each" in found.sentence
    found, _ = search({"pt": [60, 60], "a": [60, 60]}, budget=4)
    assert found.verdict is Start.PRETRAINED and found.sensitive is None and "all seeds agree" in found.sentence


def test_a_budget_below_the_first_comparison_is_refused() -> None:
    with pytest.raises(ValueError, match=r"budget of 3 finetunes.*4 needed"):
        search({"pt": [1, 2], "a": [3, 4]}, budget=3)


def test_an_empty_ranking_is_refused() -> None:
    with pytest.raises(ValueError, match="empty ranking"):
        search_start([], pretrained="pt", measure=Shop({}), rules=StartRules())


def test_models_that_fail_are_named_and_passed_over() -> None:
    found, shop = search({"pt": [60, 61], "b": [70, 71], "d": [65, 66]}, budget=100)
    assert found.failed == ("a", "c") and [each.name for each in found.tried] == ["b", "d"] and found.chosen == "b"
    assert len(shop.asked) == 4


def test_without_the_pretrained_model_nothing_can_be_told() -> None:
    found, shop = search({"a": [60, 61], "b": [70, 71]}, budget=100)
    assert (found.verdict, found.chosen, found.sensitive) == (Start.UNKNOWN, "", None)
    assert "nothing to compare with" in found.stopped and len(shop.asked) == 1 and math.isnan(found.pretrained_score)


def test_an_interrupted_round_ends_with_what_is_there() -> None:
    shop = Shop({"pt": [0.6, 0.61], "a": [0.7, 0.71]})

    def measure(names: tuple[str, ...], allowance: int) -> Measured:
        return Measured(refused="interrupted") if "b" in names else shop(names, allowance)

    found = search_start(RANKING, pretrained="pt", measure=measure, rules=StartRules())
    assert found.stopped == "interrupted" and found.chosen == "a"


def test_rounds_of_several_models_shrink_to_what_can_be_paid() -> None:
    scores = {name: [60 + 10 * place, 61 + 10 * place] for place, name in enumerate(["pt", *RANKING])}
    _, shop = search(scores, budget=8, round_models=2)
    assert shop.asked == [("pt", "a"), ("b", "c")]
    found, shop = search(scores, budget=7, round_models=2)
    assert shop.asked == [("pt", "a"), ("b",)] and found.runs == 6


def test_the_order_of_the_ranking_decides_who_is_tried() -> None:
    scores = {"pt": [60, 61], "a": [70, 71], "b": [71, 72], "c": [90, 91]}
    shop = Shop({name: [value / 100 for value in values] for name, values in scores.items()})
    found = search_start(["c", "a", "b"], pretrained="pt", measure=shop, rules=StartRules(budget=4))
    assert found.chosen == "c" and found.runs == 4


def test_rules_name_their_faults() -> None:
    assert StartRules().faults() == []
    bad = StartRules(budget=0, level=1.0, worthwhile=-1, round_models=0).faults()
    assert [fault.split(":")[0] for fault in bad] == ["budget", "level", "worthwhile", "round_models"]


def test_level_bounds_the_share_of_false_claims() -> None:
    # no base model differs from the pretrained one: 'sensitive' must be claimed in at most 5 % of searches (two planned looks)
    rng = np.random.default_rng(1)
    claims = 0
    for _ in range(300):
        scores = {name: rng.normal(60, 1, size=3) for name in ("pt", *RANKING)}
        found, _ = search(scores, budget=100)
        claims += found.sensitive is True
    assert claims / 300 < 0.09
