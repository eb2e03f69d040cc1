"""Where to start for a new target: pretrained against top-ranked, then down the static ranking, until a verdict (section 8).

One driver for live runs and for recorded ones: it asks for scores through a callback and knows nothing of how they come about.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from scipy import stats

from analysis.noise import POINTS
from analysis.noise_prior import NO_PRIOR, NoisePrior
from analysis.start_rules import StartRules


class Start(Enum):
    """What to start the target's finetuning from."""

    PRETRAINED = "use pretrained"
    MODEL = "use model"
    UNKNOWN = "cannot tell"
    """No comparison could be made."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came of a request to try some models."""

    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Model -> test scores on the target, fractions, one a seed; none for a model that failed."""
    runs: int = 0
    """Finetunes spent on it."""
    refused: str = ""
    """Why nothing was run: it would cost more than is left, or the search was interrupted."""
    over_budget: bool = False
    """It was refused for its cost, so that fewer models may still be tried."""


Measure = Callable[[tuple[str, ...], int], Measured]
"""(models to try, finetunes that may be spent) -> Measured."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One base model on the target, against the pretrained model; points."""

    name: str
    n_seeds: int
    score: float
    gain: float
    se: float
    low: float
    high: float
    """Interval of the gain; all intervals of a search hold together with probability ``level``."""


@dataclass(frozen=True, kw_only=True)
class StartVerdict:
    """How a search ended."""

    verdict: Start
    chosen: str
    """Model to start from; empty when the verdict is unknown."""
    sensitive: bool | None
    """True: the top-ranked model, or any tried, gains beyond noise. False: the top-ranked one, or all tried, surely gain less
    than is worthwhile. None: the seeds cannot tell."""
    pretrained_score: float
    """Points; NaN when it has none."""
    tried: tuple[Tried, ...]
    """In the order of the ranking."""
    failed: tuple[str, ...]
    """Models that gave no score."""
    runs: int
    noise_sd: float
    """Standard deviation of a score under another seed, points, as the intervals take it; NaN when unknown."""
    noise_df: float
    stopped: str
    """Why the search ended."""
    sentence: str
    """The verdict in words and numbers."""


def search_start(
    ranking: Sequence[str], *, pretrained: str, measure: Measure, rules: StartRules, prior: NoisePrior = NO_PRIOR
) -> StartVerdict:
    """Try the pretrained model and the top-ranked one, then go down the ranking as far as the budget allows.

    The search ends early where the top-ranked model surely gains less than ``worthwhile`` points: gains of one strong model
    tell what a target has to give (section 4.1). The verdict is the model with the largest gain if that is beyond noise or at
    least worthwhile, else the pretrained model: on recorded cells, to insist on significance loses three times as much gain
    (docs/analyses.md), and a false choice costs little, for ranked models gain on average.

    Args:
        ranking: base models, best first, without the pretrained one.
        pretrained: name of the pretrained model.
        measure: finetunes models on the target, or looks their scores up.
        rules: budget and thresholds.
        prior: noise of other targets.

    Raises:
        ValueError: an empty ranking, or a budget below what the first comparison costs.

    Source: "Where to start?", section 8. Ours: noise, intervals and the stopping rule.
    """
    if not ranking:
        raise ValueError("got an empty ranking; expected at least one base model to try")
    scores: dict[str, tuple[float, ...]] = {}
    failed: list[str] = []
    runs, place, stopped = 0, 0, ""
    while not stopped:
        names = tuple(ranking[place : place + (1 if place == 0 else rules.round_models)])
        asked = (pretrained, *names) if place == 0 else names
        found = measure(asked, rules.budget - runs)
        if found.over_budget and place == 0:
            raise ValueError(
                f"got a budget of {rules.budget} finetunes; the first comparison needs more: {found.refused}"
            )
        if found.over_budget and len(names) > 1:
            names = names[:1]
            found = measure(names, rules.budget - runs)
        if found.refused:
            stopped = found.refused
            break
        place, runs = place + len(names), runs + found.runs
        scores |= {name: tuple(found.scores[name]) for name in asked if found.scores.get(name)}
        failed += [name for name in asked if not found.scores.get(name)]
        stopped = _stop(scores, pretrained=pretrained, place=place, n_ranked=len(ranking), rules=rules, prior=prior)
    return _conclude(scores, failed, runs, stopped, pretrained=pretrained, rules=rules, prior=prior)


def _stop(
    scores: Mapping[str, tuple[float, ...]],
    *,
    pretrained: str,
    place: int,
    n_ranked: int,
    rules: StartRules,
    prior: NoisePrior,
) -> str:
    """Why the search ends here; empty when it goes on."""
    if pretrained not in scores:
        return "the pretrained model could not be finetuned on this target, so there is nothing to compare with"
    tried, *_ = judge(scores, pretrained=pretrained, level=rules.level, prior=prior, n_intervals=1)
    if len(tried) == 1 and tried[0].high < rules.worthwhile:
        return f"the top-ranked model surely gains less than {rules.worthwhile:g} points: the target is not sensitive"
    return "every ranked model was tried" if place >= n_ranked else ""


def judge(
    scores: Mapping[str, tuple[float, ...]],
    *,
    pretrained: str,
    level: float,
    prior: NoisePrior,
    n_intervals: int | None = None,
) -> tuple[tuple[Tried, ...], float, float]:
    """Gains over the pretrained model with simultaneous intervals, and the noise (sd in points, df) behind them.

    The variance of a seed is pooled over all models tried on this target and moderated by the prior; an interval is
    gain -+ t_{1 - (1 - level) / (2 k), df} s sqrt(1/S + 1/S0), k the number of intervals (default: all models tried).
    """
    values = {name: POINTS * np.asarray(seeds, dtype=np.float64) for name, seeds in scores.items()}
    freedom = float(sum(each.size - 1 for each in values.values()))
    squares = float(sum(((each - each.mean()) ** 2).sum() for each in values.values()))
    variance, df = prior.moderated(squares / freedom if freedom else math.nan, freedom)
    sd = math.sqrt(variance) if variance > 0 else math.nan
    base = values[pretrained]
    others = {name: each for name, each in values.items() if name != pretrained}
    share = (1 - level) / (2 * (n_intervals or max(len(others), 1)))
    factor = float(stats.t.isf(share, df)) if df > 0 else math.nan
    tried = []
    for name, each in others.items():
        gain, se = float(each.mean() - base.mean()), sd * math.sqrt(1 / each.size + 1 / base.size)
        half = factor * se
        tried.append(
            Tried(
                name=name,
                n_seeds=each.size,
                score=float(each.mean()),
                gain=gain,
                se=se,
                low=gain - half,
                high=gain + half,
            )
        )
    return tuple(tried), sd, df


def _conclude(
    scores: Mapping[str, tuple[float, ...]],
    failed: list[str],
    runs: int,
    stopped: str,
    *,
    pretrained: str,
    rules: StartRules,
    prior: NoisePrior,
) -> StartVerdict:
    judged = judge(scores, pretrained=pretrained, level=rules.level, prior=prior) if pretrained in scores else None
    tried, sd, df = judged or ((), math.nan, 0.0)
    verdict, chosen, sensitive, sentence = _decide(scores, tried, pretrained=pretrained, rules=rules, prior=prior)
    return StartVerdict(
        verdict=verdict,
        chosen=chosen,
        sensitive=sensitive,
        pretrained_score=POINTS * float(np.mean(scores[pretrained])) if pretrained in scores else math.nan,
        tried=tried,
        failed=tuple(failed),
        runs=runs,
        noise_sd=sd,
        noise_df=df,
        stopped=stopped,
        sentence=sentence,
    )


def _decide(
    scores: Mapping[str, tuple[float, ...]],
    tried: tuple[Tried, ...],
    *,
    pretrained: str,
    rules: StartRules,
    prior: NoisePrior,
) -> tuple[Start, str, bool | None, str]:
    """Verdict, chosen model, sensitivity and a sentence."""
    if not tried:
        return Start.UNKNOWN, "", None, "cannot tell: no base model could be compared with the pretrained one"
    best = max(tried, key=lambda each: each.gain)
    planned, *_ = judge(scores, pretrained=pretrained, level=rules.level, prior=prior, n_intervals=1)
    sensitive: bool | None = None
    if planned[0].low > 0 or best.low > 0:
        sensitive = True
    elif planned[0].high < rules.worthwhile or all(each.high < rules.worthwhile for each in tried):
        sensitive = False
    interval = f"{rules.level:.0%} interval {best.low:+.2f} to {best.high:+.2f} over {len(tried)} tried"
    if math.isnan(best.low):
        interval = "noise unknown: " + (
            "all seeds agree" if any(len(each) > 1 for each in scores.values()) else "one seed each"
        )
    gains = f"{best.name} gains {best.gain:+.2f} points ({interval})"
    if best.low > 0 or (best.gain > 0 and best.gain >= rules.worthwhile):
        doubt = "" if best.low > 0 or math.isnan(best.low) else ", more likely better than not, though not beyond noise"
        return Start.MODEL, best.name, sensitive, f"use {best.name}: {gains}{doubt}"
    return (
        Start.PRETRAINED,
        pretrained,
        sensitive,
        f"use pretrained ({pretrained}): the best tried, {gains}, is not worth the change",
    )
