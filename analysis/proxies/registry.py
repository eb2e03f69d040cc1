"""Every score by name, and all of them on one candidate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from analysis.proxies.cross_validation import score_probe_cv
from analysis.proxies.gbc import score_gbc
from analysis.proxies.h_score import score_h
from analysis.proxies.leep import score_leep
from analysis.proxies.logme import score_logme
from analysis.proxies.neighbours import score_neighbours
from analysis.proxies.nleep import score_nleep
from analysis.proxies.rows import LabelledRows, RefusalError
from analysis.proxies.transrate import score_transrate

PROXIES: dict[str, Callable[[LabelledRows], float]] = {
    "leep": score_leep,
    "nleep": score_nleep,
    "logme": score_logme,
    "h_score": score_h,
    "knn": score_neighbours,
    "transrate": score_transrate,
    "gbc": score_gbc,
    "probe_cv": score_probe_cv,
}
"""Name -> score of a candidate's training rows; higher is better for all of them."""

ENSEMBLE = ("nleep", "logme", "h_score", "knn", "transrate", "gbc", "probe_cv")
"""Scores that the ensemble averages: those that do not need a source head."""


@dataclass(frozen=True, kw_only=True)
class ProxyScores:
    """What the scores say of one candidate."""

    values: dict[str, float]
    """By name; NaN where refused."""
    refusals: dict[str, str]
    """Reason by name, for those that refused."""


def score_all(rows: LabelledRows, names: Iterable[str] = tuple(PROXIES)) -> ProxyScores:
    """Every score, or the reason why it is not defined here."""
    values, refusals = {}, {}
    for name in names:
        try:
            values[name] = PROXIES[name](rows)
            if not np.isfinite(values[name]):
                raise RefusalError(f"the score is {values[name]}, which is no number to compare")
        except RefusalError as refusal:
            values[name], refusals[name] = float("nan"), str(refusal)
    return ProxyScores(values=values, refusals=refusals)
