"""Every policy of selection rounds by name."""

from __future__ import annotations

from collections.abc import Callable

from analysis.selection.halving import BruteForce, SuccessiveHalving
from analysis.selection.knowledge import Knowledge, RoundRules
from analysis.selection.rounds import RoundPolicy

PolicyFactory = Callable[[RoundRules, Knowledge], RoundPolicy]

POLICIES: dict[str, PolicyFactory] = {
    "brute_force": lambda rules, known: BruteForce(),
    "successive_halving": lambda rules, known: SuccessiveHalving(),
}
"""Name -> policy made from settings and from what is known before the first round."""
