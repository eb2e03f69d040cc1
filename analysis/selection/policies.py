"""Every policy of selection rounds by name."""

from __future__ import annotations

from collections.abc import Callable

from analysis.selection.fine_selection import FineSelection
from analysis.selection.halving import BruteForce, SuccessiveHalving
from analysis.selection.knowledge import Knowledge, RoundRules
from analysis.selection.performance import PerformanceMatrix
from analysis.selection.rounds import RoundPolicy
from analysis.selection.tied import BY_BACKTEST, TiedSelection

PolicyFactory = Callable[[RoundRules, Knowledge], RoundPolicy]


def _record(known: Knowledge, name: str) -> PerformanceMatrix:
    if known.record is None or not known.record.n_stages:
        raise ValueError(
            f"{name} predicts from recorded curves and got none; record a matrix with stages first, or take successive_halving"
        )
    return known.record


def _tied(name: str, forecaster: str) -> PolicyFactory:
    return lambda rules, known: TiedSelection(
        record=_record(known, name), rules=rules, n_validation=known.n_validation, forecaster=forecaster, name=name
    )


POLICIES: dict[str, PolicyFactory] = {
    "brute_force": lambda rules, known: BruteForce(),
    "successive_halving": lambda rules, known: SuccessiveHalving(),
    "fine_selection": lambda rules, known: FineSelection(record=_record(known, "fine_selection"), rules=rules),
    "tied": _tied("tied", BY_BACKTEST),
    "tied_validation": _tied("tied_validation", "validation"),
    "tied_trends": _tied("tied_trends", "trends"),
    "tied_power_law": _tied("tied_power_law", "power_law"),
    "tied_gaussian_process": _tied("tied_gaussian_process", "gaussian_process"),
}
"""Name -> policy made from settings and from what is known before the first round."""
