"""Successive halving and brute force: the two baselines of the paper, as policies and as counts of epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.selection.rounds import Curves, Verdict


@dataclass(frozen=True, kw_only=True)
class BruteForce:
    """Train everything to the end, then take the best validation score."""

    name: str = "brute_force"

    def decide(self, stage: int, n_stages: int, curves: Curves) -> Verdict:
        """All are kept until the last stage."""
        return keep_best(curves, 1 if stage == n_stages else len(curves))


@dataclass(frozen=True, kw_only=True)
class SuccessiveHalving:
    """Keep the better half, floor(n / 2) but at least one, after every stage.

    Source: section IV.B; epochs as in Table V (10 models, 5 stages: 10 + 5 + 2 + 1 + 1 = 19).
    """

    name: str = "successive_halving"

    def decide(self, stage: int, n_stages: int, curves: Curves) -> Verdict:
        """The lowest validation scores at this stage go."""
        return keep_best(curves, 1 if stage == n_stages else len(curves) // 2)


def order_by_validation(curves: Curves) -> list[str]:
    """Candidates by their latest validation score, best first; equal ones in the given order."""
    return sorted(curves, key=lambda name: -curves[name][-1])


def keep_best(curves: Curves, n: int) -> Verdict:
    """The ``n`` best (at least one) by latest validation score; of equal ones the earlier given, which recall ranked higher."""
    ranked = order_by_validation(curves)
    n = max(1, n)
    dropped = {}
    for place, name in enumerate(ranked[n:], start=n + 1):
        dropped[name] = (
            f"its validation score {curves[name][-1]:.4f} is number {place} of {len(ranked)}, {n} go{'es' if n == 1 else ''} on"
        )
    best = set(ranked[:n])
    return Verdict(kept=tuple(name for name in curves if name in best), dropped=dropped)


def count_halving(n_models: int, n_stages: int) -> tuple[int, ...]:
    """Models that successive halving trains at stages 1, 2, ...; times the epochs of a stage it is its cost (Table V)."""
    counts: list[int] = []
    for _ in range(n_stages):
        counts.append(n_models if not counts else max(1, counts[-1] // 2))
    return tuple(counts)


def halving_epochs(n_models: int, n_stages: int, *, epochs_per_stage: float = 1.0) -> float:
    """Epochs of successive halving (Table V: 19, 77, 18, 55)."""
    return epochs_per_stage * sum(count_halving(n_models, n_stages))


def brute_force_epochs(n_models: int, n_stages: int, *, epochs_per_stage: float = 1.0) -> float:
    """Epochs of training every model to the end (Table V: 50, 200, 40, 120)."""
    return epochs_per_stage * n_models * n_stages


def speedup(epochs: float, *, against: Sequence[float]) -> tuple[float, ...]:
    """How many times fewer epochs than each of ``against``."""
    return tuple(other / epochs for other in against)
