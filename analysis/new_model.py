"""What a probe alone says of one base model, and how far to trust that (section 8: new model)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.probe_gain import (
    Expectation,
    FamilyInfluence,
    ProbeFit,
    expect_average_gain,
    fit_probe_gain,
    leave_family_out,
)
from analysis.study import GainStudy


@dataclass(frozen=True, kw_only=True)
class ModelExpectation:
    """Expected average gain of a base model from its probe gain; the model itself is no part of the fit."""

    model: str
    probe_gain: float
    """Points."""
    fit: ProbeFit
    expected: Expectation
    n_ranked: int
    """Base models that it is placed among."""
    n_targets: int
    influence: FamilyInfluence
    without_family: Expectation
    """The same without the most influential family; NaN when no family stands out."""
    observed_gain: float
    """Its average gain where it was finetuned on every target, points; NaN else."""
    observed_rank: int
    """Its place by that; 0 when it has none."""

    @property
    def sentence(self) -> str:
        """How reliable the expectation is."""
        found = self.fit.association
        text = f"rests on {found.n} base models, Pearson {found.pearson:.2f} between probe and average gain"
        if self.influence.most_influential and not self.without_family.reason:
            place = self.influence.families.index(self.influence.most_influential)
            text += (
                f"; without the family {self.influence.most_influential} Pearson {self.influence.pearson[place]:.2f}, and the "
                f"expectation {self.without_family.mean:+.2f} (95 % {self.without_family.low:+.2f} to {self.without_family.high:+.2f})"
            )
        return text


def expect_model(study: GainStudy, model: str, *, probe_gain: float, level: float = 0.95) -> ModelExpectation:
    """Expected average gain of ``model``, its interval, and where it would rank.

    Args:
        study: ranked base models with probe gains; ``model`` may be among them.
        probe_gain: of the model, points.
        level: probability of the interval for one new model.

    Returns:
        ModelExpectation; too few probed base models, or a constant column, stand as reasons in ``fit`` and ``expected``.

    Source: "Where to start?", section 8.
    """
    names = np.array(study.bases, dtype=str)
    others = names != model
    average, probe = study.average, study.probe
    fit = fit_probe_gain(probe[others], average[others])
    expected = expect_average_gain(fit, probe=probe_gain, known_average=average[others], level=level)
    families = [family for family, other in zip(study.families, others, strict=True) if other]
    influence = leave_family_out(probe[others], average[others], families)
    rest = others & (np.array(study.families, dtype=str) != influence.most_influential)
    fit_rest = fit_probe_gain(probe[rest], average[rest])
    own = average[~others]
    observed = float(own[0]) if own.size else math.nan
    known = average[np.isfinite(average)]
    return ModelExpectation(
        model=model,
        probe_gain=probe_gain,
        fit=fit,
        expected=expected,
        n_ranked=int(np.isfinite(average[others]).sum()),
        n_targets=len(study.tasks),
        influence=influence,
        without_family=expect_average_gain(fit_rest, probe=probe_gain, known_average=average[rest], level=level),
        observed_gain=observed,
        observed_rank=0 if math.isnan(observed) else 1 + int((known > observed).sum()),
    )


def model_as_plain(found: ModelExpectation) -> dict[str, Any]:
    """JSON-ready values but for NaN; points."""
    expected, rest = found.expected, found.without_family
    return {
        "model": found.model,
        "probe_gain": found.probe_gain,
        "expected_gain": expected.mean,
        "low": expected.low,
        "high": expected.high,
        "rank": expected.rank or None,
        "rank_best": expected.rank_best or None,
        "rank_worst": expected.rank_worst or None,
        "n_ranked": found.n_ranked,
        "n_targets": found.n_targets,
        "fit": {
            "n": found.fit.association.n,
            "pearson": found.fit.association.pearson,
            "slope": found.fit.line.slope,
            "intercept": found.fit.line.intercept,
            "residual_sd": found.fit.line.residual_sd,
        },
        "without_family": {
            "family": found.influence.most_influential or None,
            "expected_gain": rest.mean,
            "low": rest.low,
            "high": rest.high,
        },
        "observed_gain": found.observed_gain,
        "observed_rank": found.observed_rank or None,
        "reason": expected.reason,
    }
