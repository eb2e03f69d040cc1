"""Where a running selection stands: curves as they come in, the policy asked as soon as a stage is complete."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from analysis.selection.halving import keep_best
from analysis.selection.rounds import Drop, RoundPolicy, check_verdict


@dataclass(kw_only=True)
class Ledger(ABC):
    """What is known of the candidates of a selection, in order of recall (best first)."""

    names: tuple[str, ...]
    n_stages: int
    curves: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Candidate -> validation scores at the stages it has reached."""
    ended: dict[str, str] = field(default_factory=dict)
    """Candidates that will report no more -> why; empty for one that was trained to its end."""
    finals: dict[str, float] = field(default_factory=dict)
    """Candidate -> test score, of those that were trained to their end."""
    drops: list[Drop] = field(default_factory=list)
    """In the order in which it happened."""
    counts: list[int] = field(default_factory=list)
    """Candidates trained in stages 1, 2, ..."""

    def __post_init__(self) -> None:
        self.alive: tuple[str, ...] = self.names

    @property
    @abstractmethod
    def chosen(self) -> str | None:
        """The one that is left when all is decided; None before, and where every candidate failed."""

    def reported(self, name: str, curve: Sequence[float]) -> None:
        """Note how far a candidate has come; of a shorter curve (a training that catches up) nothing is forgotten."""
        if len(curve) > len(self.curves.get(name, ())):
            self.curves[name] = tuple(curve)

    def end(self, name: str, reason: str = "") -> None:
        """Note that a candidate will report no more."""
        self.ended.setdefault(name, reason)

    def reached(self, name: str, stage: int) -> bool:
        """Whether a candidate has a score at a stage."""
        curve = self.curves.get(name, ())
        return len(curve) >= stage and math.isfinite(curve[stage - 1])

    def failure(self, name: str, stage: int) -> Drop:
        """The drop of a candidate that will not reach a stage."""
        reason = self.ended.get(name) or f"its training ended after stage {len(self.curves.get(name, ()))}: it diverged"
        return Drop(base_model=name, stage=stage, reason=reason, failed=True)


@dataclass(kw_only=True)
class LiveRounds(Ledger):
    """Rounds of a policy; decides what ``analysis.selection.rounds.run_rounds`` decides on the same curves."""

    policy: RoundPolicy
    stage: int = 1
    """Stage that the survivors are being trained in; ``n_stages`` + 1 when all is decided."""

    @property
    def over(self) -> bool:
        """Whether all is decided."""
        return self.stage > self.n_stages or not self.alive

    @property
    def chosen(self) -> str | None:
        """The survivor of the last stage."""
        return self.alive[0] if self.over and self.alive else None

    def settle(self) -> list[Drop]:
        """Decide every stage that all survivors have reached (or failed in); returns who was dropped now."""
        before = len(self.drops)
        while not self.over and all(self.reached(name, self.stage) or name in self.ended for name in self.alive):
            self._decide()
        return self.drops[before:]

    def _decide(self) -> None:
        stage, alive = self.stage, self.alive
        self.counts.append(len(alive))
        failed = [name for name in alive if not self.reached(name, stage)]
        self.drops += [self.failure(name, stage) for name in failed]
        seen = {name: self.curves[name][:stage] for name in alive if name not in failed}
        verdict = self.policy.decide(stage, self.n_stages, seen)
        check_verdict(verdict, seen, last=stage == self.n_stages, name=self.policy.name)
        self.drops += [Drop(base_model=name, stage=stage, reason=why) for name, why in verdict.dropped.items()]
        self.alive = verdict.kept
        self.stage += 1


@dataclass(kw_only=True)
class StoppedLedger(Ledger):
    """Candidates that a scheduler of Ray's own stops when it likes; the best of those trained to the end is chosen."""

    def stop(self, name: str, reason: str) -> None:
        """Note that the scheduler stopped a candidate after the last stage it reported."""
        self.drops.append(Drop(base_model=name, stage=len(self.curves[name]), reason=reason))
        self.end(name, reason)

    def close(self) -> None:
        """Choose by validation score at the last stage, once nobody trains any more."""
        whole = [name for name in self.names if self.reached(name, self.n_stages) and not self.ended.get(name)]
        stopped = {drop.base_model for drop in self.drops}
        for name in self.names:
            if name not in whole and name not in stopped:
                self.drops.append(self.failure(name, len(self.curves.get(name, ())) + 1))
        verdict = keep_best({name: self.curves[name] for name in whole}, 1)
        self.drops += [Drop(base_model=name, stage=self.n_stages, reason=why) for name, why in verdict.dropped.items()]
        self.alive = verdict.kept
        self.counts = self._trained()

    def _trained(self) -> list[int]:
        reached = [len(self.curves.get(name, ())) for name in self.names]
        failing = {drop.base_model: drop.stage for drop in self.drops if drop.failed}
        tried = [max(stage, failing.get(name, 0)) for name, stage in zip(self.names, reached, strict=True)]
        return [sum(stage >= at for stage in tried) for at in range(1, max(tried, default=0) + 1)]

    @property
    def chosen(self) -> str | None:
        """The best of those trained to the end, after ``close``."""
        return self.alive[0] if self.counts and self.alive else None
