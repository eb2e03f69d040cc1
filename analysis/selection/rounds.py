"""Rounds of selection: every survivor is trained one stage further, then a policy says who goes on; live and replayed alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Curves = Mapping[str, Sequence[float]]
"""Base model -> validation scores (fractions) at stages 1, 2, ..."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a policy says after a stage."""

    kept: tuple[str, ...]
    """Survivors, in the given order."""
    dropped: dict[str, str]
    """Base model -> reason, one sentence."""


class RoundPolicy(Protocol):
    """Who is trained further.

    The contract: ``kept`` and ``dropped`` part the candidates of ``curves`` between them; at least one is kept where there is
    one, and exactly one after the last stage; the same curves give the same verdict.
    """

    @property
    def name(self) -> str:
        """Its name in the registry."""
        ...

    def decide(self, stage: int, n_stages: int, curves: Curves) -> Verdict:
        """Verdict after a stage that every survivor has reached.

        Args:
            stage: from 1 to ``n_stages``.
            n_stages: stages of a full training.
            curves: every candidate still alive, in order of recall (best first) -> its scores at stages 1..stage. A candidate
                that failed is not in it.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Drop:
    """A candidate that was not trained to the end."""

    base_model: str
    stage: int
    """The stage after which it was dropped, or in which it failed."""
    reason: str
    failed: bool = False


@dataclass(frozen=True, kw_only=True)
class Selection:
    """How a selection ended."""

    chosen: str | None
    """Trained through every stage; None when every candidate failed."""
    test_score: float
    """Of the chosen one, a fraction; NaN when it has none."""
    epochs_spent: float
    dropped: tuple[Drop, ...]
    """In the order in which it happened."""
    alive: tuple[int, ...]
    """Candidates trained in stages 1, 2, ..., those that failed in the stage included."""


def run_rounds(
    policy: RoundPolicy,
    curves: Curves,
    finals: Mapping[str, float],
    *,
    epochs_per_stage: float = 1.0,
    n_stages: int | None = None,
) -> Selection:
    """Replay a selection on recorded curves: what would have been trained, dropped and chosen, and at which cost.

    A curve that ends early, or is NaN at a stage, is a candidate that fails in that stage: the epochs of the stage are spent,
    the candidate is out, and the others go on without it.

    Args:
        policy: says who is trained further.
        curves: candidates in order of recall (best first) -> validation scores at stages 1, 2, ...
        finals: candidate -> test score after the last stage.
        epochs_per_stage: epochs that one model takes for one stage.
        n_stages: stages of a full training; by default those of the longest curve.

    Raises:
        ValueError: no candidate, no stage, or a policy that breaks its contract.
    """
    if not curves:
        raise ValueError("got no candidates; expected at least one base model with a curve")
    stages = max(len(curve) for curve in curves.values()) if n_stages is None else n_stages
    if stages < 1:
        raise ValueError(f"got {stages} stages; expected at least one validation score of a candidate")
    alive = tuple(curves)
    drops: list[Drop] = []
    counts: list[int] = []
    for stage in range(1, stages + 1):
        if not alive:
            break
        counts.append(len(alive))
        failed = tuple(name for name in alive if not _reached(curves[name], stage))
        drops += [Drop(base_model=name, stage=stage, reason=_failure(stage), failed=True) for name in failed]
        seen = {name: tuple(curves[name][:stage]) for name in alive if name not in failed}
        verdict = check_verdict(policy.decide(stage, stages, seen), seen, last=stage == stages, name=policy.name)
        drops += [Drop(base_model=name, stage=stage, reason=reason) for name, reason in verdict.dropped.items()]
        alive = verdict.kept
    chosen = alive[0] if alive else None
    return Selection(
        chosen=chosen,
        test_score=finals.get(chosen, math.nan) if chosen is not None else math.nan,
        epochs_spent=epochs_per_stage * sum(counts),
        dropped=tuple(drops),
        alive=tuple(counts),
    )


def check_verdict(verdict: Verdict, curves: Curves, *, last: bool, name: str) -> Verdict:
    """The verdict itself, if it keeps the contract of ``RoundPolicy``; ValueError otherwise."""
    if sorted([*verdict.kept, *verdict.dropped]) != sorted(curves):
        raise ValueError(
            f"{name} was given {', '.join(sorted(curves)) or 'no one'}, kept {', '.join(verdict.kept) or 'none'} and dropped "
            f"{', '.join(verdict.dropped) or 'none'}; expected each candidate once"
        )
    if curves and (not verdict.kept or (last and len(verdict.kept) > 1)):
        expected = "exactly one after the last stage" if last else "at least one"
        raise ValueError(f"{name} kept {len(verdict.kept)} of {len(curves)} candidates; expected {expected}")
    return verdict


def _reached(curve: Sequence[float], stage: int) -> bool:
    return len(curve) >= stage and math.isfinite(curve[stage - 1])


def _failure(stage: int) -> str:
    return f"it has no validation score at stage {stage}"
