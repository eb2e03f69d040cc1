"""Static ranking: does a cheap linear probe on one task order base models by their average gain?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.association import Association, FloatArray, Line, associate, fit_line, predict

POINTS = 100.0


@dataclass(frozen=True, kw_only=True)
class ProbeFit:
    """Probe gain (x) against average gain (y) over base models."""

    association: Association
    line: Line
    """average gain = intercept + slope * probe gain, in points."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class FamilyInfluence:
    """Correlations with one family of base models left out at a time, families in sorted order."""

    families: tuple[str, ...]
    n_left: tuple[int, ...]
    pearson: FloatArray
    spearman: FloatArray
    most_influential: str
    """The family whose removal moves Pearson's r the furthest; empty when none could be computed."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What a probe alone says of a new base model; all NaN or 0 when ``reason`` is set."""

    mean: float
    """Expected average gain, points."""
    low: float
    high: float
    """Interval for the average gain of one new base model, points."""
    rank: int
    """1-based place that ``mean`` would take among the known average gains."""
    rank_best: int
    rank_worst: int
    """Places that ``high`` and ``low`` would take."""
    reason: str = ""


def probe_gain(probe_score: npt.ArrayLike, *, pretrained: float) -> FloatArray:
    """Linear-probe gain LP(m, MNLI): 100 * (probe score - probe score of the pretrained model), in points.

    Args:
        probe_score: (n_bases,), fractions, NaN = not probed.
        pretrained: fraction; NaN when the pretrained model was not probed, and then every gain is NaN.

    Raises: ValueError for scores outside [0, 1].

    Source: "Where to start?", section 4.2.
    """
    scores = np.asarray(probe_score, dtype=np.float64)
    both = np.append(scores.ravel(), pretrained)
    if ((both < 0) | (both > 1)).any():
        raise ValueError("got a probe score outside 0 to 1; expected fractions; divide percent by 100")
    return POINTS * (scores - pretrained)


def fit_probe_gain(probe: npt.ArrayLike, average: npt.ArrayLike) -> ProbeFit:
    """Correlations and least-squares line of average gain on probe gain.

    Args:
        probe: (n_bases,), points, NaN = not probed.
        average: (n_bases,), points, NaN = not finetuned on every task.

    Returns:
        ProbeFit; fewer than 3 base models with both numbers, or a constant column, give NaN with the reason.
        (A constant average gain has a line, slope 0, but no correlation.)

    Source: "Where to start?", section 4.2, Fig. 2, appendix F. Differs: the line printed there does not follow from
    its Table 4, see ``analysis.published_tables.PRINTED_LINE``.
    """
    association, line = associate(probe, average), fit_line(probe, average)
    return ProbeFit(association=association, line=line, reason=association.reason)


def leave_family_out(probe: npt.ArrayLike, average: npt.ArrayLike, families: Sequence[str]) -> FamilyInfluence:
    """Correlations of probe and average gain with each family of base models left out in turn.

    Checkpoints of one method and lineage are not independent observations: a family far from the cloud can carry a
    correlation (36 ColD Fusion iterations of 5 seeds do, in the published roberta-base results: 0.71 with, 0.27 without).

    Args:
        probe, average: (n_bases,), points, NaN = missing.
        families: n_bases family names.

    Returns:
        FamilyInfluence; with fewer than 2 families nothing is left to compute from, and the reason says so.

    Raises:
        ValueError: lengths differ.
    """
    x, y, names = np.asarray(probe, dtype=np.float64), np.asarray(average, dtype=np.float64), np.asarray(families)
    if names.shape != x.shape or x.shape != y.shape:
        raise ValueError(f"got {names.shape[0]} families for {x.shape} and {y.shape}; expected one per base model")
    labels = np.unique(names)
    if labels.size < 2:
        return FamilyInfluence(
            families=tuple(str(label) for label in labels),
            n_left=(0,) * labels.size,
            pearson=np.full(labels.size, math.nan),
            spearman=np.full(labels.size, math.nan),
            most_influential="",
            reason=f"{labels.size} families: needs at least 2 to leave one out",
        )
    left = [associate(x[names != label], y[names != label]) for label in labels]
    pearson = np.array([each.pearson for each in left])
    shift = np.abs(pearson - associate(x, y).pearson)
    known = not bool(np.isnan(shift).all())
    return FamilyInfluence(
        families=tuple(str(label) for label in labels),
        n_left=tuple(each.n for each in left),
        pearson=pearson,
        spearman=np.array([each.spearman for each in left]),
        most_influential=str(labels[int(np.nanargmax(shift))]) if known else "",
        reason="" if known else "no correlation could be computed with or without a family",
    )


def expect_average_gain(
    fit: ProbeFit, *, probe: float, known_average: npt.ArrayLike, level: float = 0.95
) -> Expectation:
    """Expected average gain of a new base model from its probe gain alone, and where it would rank.

    Args:
        fit: from fit_probe_gain.
        probe: probe gain of the new model, points.
        known_average: (n_bases,) average gains of the ranked base models, points, NaN ignored.
        level: probability of the interval for one new model.

    Returns:
        Expectation; NaN with a reason when the fit has none, the probe is NaN or nothing is ranked.

    Source: "Where to start?", section 8 (new model).
    """
    known = np.asarray(known_average, dtype=np.float64)
    known = known[~np.isnan(known)]
    reason = fit.line.reason
    if not reason and math.isnan(probe):
        reason = "the new base model has no probe score"
    if not reason and known.size == 0:
        reason = "no ranked base model has an average gain"
    if reason:
        return Expectation(mean=math.nan, low=math.nan, high=math.nan, rank=0, rank_best=0, rank_worst=0, reason=reason)
    at = predict(fit.line, probe, level=level)
    mean, low, high = float(at.mean), float(at.low), float(at.high)
    rank, best, worst = (1 + int((known > value).sum()) for value in (mean, high, low))
    return Expectation(mean=mean, low=low, high=high, rank=rank, rank_best=best, rank_worst=worst)
