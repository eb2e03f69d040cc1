"""The next base model while it is being made: fused, held against held-out probes, perhaps fused again or refused."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.collaboration import ProbeMean, harms, mean_probe
from ray_app.fusion.cold_settings import Rollback
from ray_app.fusion.feed import Ended, Gather, Work
from ray_app.fusion.fuse import Fused, fuse_checkpoints
from ray_app.fusion.lineage import Base, Contribution, Iteration, Role
from ray_app.fusion.settings import Rule
from ray_app.hub.digests import folder_revision
from tracking.errors import CheckpointError, QuorumError

if TYPE_CHECKING:
    from ray_app.fusion.loop import Loop

Asking = Generator[Gather | Work, Any, Any]

_BASE = "base"
"""Name of the present base model among the sources of an asynchronous mixture."""


def mean_outcome(outcomes: Sequence[Ended]) -> ProbeMean:
    """Mean of held-out probes that have ended, with its noise.

    Raises:
        CheckpointError: one of them has no score.
    """
    scores = [one.score for one in outcomes if one.score is not None]
    if len(scores) < len(outcomes):
        broken = next(one for one in outcomes if one.score is None)
        raise CheckpointError(
            f"the held-out probe {broken.key} has no score ({broken.reason or broken.state}); run the same command again, or take "
            "other cold_fusion.probe_tasks",
            key=broken.key,
        )
    return mean_probe(scores, [one.n_eval or 1 for one in outcomes])


@dataclass(kw_only=True)
class Draft:
    """The next base model while it is being made: fused, held against probes, perhaps fused again or refused."""

    loop: Loop
    base: Base
    contributions: list[Contribution]
    least: int
    """Fewest contributions that it may be made of."""
    base_weight: float = 0.0
    revision: str = ""
    accepted: bool = True
    reason: str = ""
    before: ProbeMean | None = None
    after: ProbeMean | None = None
    fuse_s: float = 0.0

    @property
    def folder(self) -> Path:
        """Where the fused model goes."""
        return self.loop.folder / f"iter{len(self.loop.iterations) + 1:02d}"

    @property
    def used(self) -> list[Contribution]:
        """Contributions that are to be in it."""
        return [one for one in self.contributions if one.role is Role.USED]

    def fuse(self, weights: Mapping[str, float]) -> Asking:
        """Fuse what is used; those whose weights are no numbers are left out and named.

        Args:
            weights: by key; empty: all equal.

        Raises:
            QuorumError: too few are left.
            StorageError: the disk is full; earlier iterations are as they were.
        """
        self._require()
        fused, revision = yield Work(lambda: self._fuse(weights))
        self.fuse_s += fused.wall_s
        self.revision = revision
        shares = dict(fused.weights)
        total = sum(shares.values())
        self.base_weight = shares.get(_BASE, 0.0) / total if total else 0.0
        for place, one in enumerate(self.contributions):
            if one.role is not Role.USED:
                continue
            if one.name in fused.left_out:
                self.contributions[place] = dataclasses.replace(
                    one, role=Role.NOT_FINITE, reason=str(fused.left_out[one.name])
                )
            else:
                self.contributions[place] = dataclasses.replace(one, weight=shares.get(one.name, 0.0) / (total or 1.0))
        if len(self.used) < self.least:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._require()

    def _require(self) -> None:
        if len(self.used) >= self.least:
            return
        lost = "; ".join(
            f"{one.task}: {one.role.value}, {one.reason}" for one in self.contributions if one.role is not Role.USED
        )
        raise QuorumError(
            f"{self.loop.name}, iteration {len(self.loop.iterations) + 1}: {len(self.used)} of {len(self.contributions)} contributions "
            f"came, expected {self.least} at least ({lost}); run the same command again to try these once more, or lower "
            "cold_fusion.quorum",
            came=len(self.used),
            expected=self.least,
        )

    def _fuse(self, weights: Mapping[str, float]) -> tuple[Fused, str]:
        """Runs beside the queue."""
        loop, models = self.loop, self.loop.workshop.models
        sources = {one.name: models / one.key for one in self.used}
        config = loop.variant.fusion
        if weights:
            named = {one.name: weights[one.key] for one in self.used}
            if self.base_weight > 0:
                sources[_BASE], named[_BASE] = self.base.folder, self.base_weight
            config = dataclasses.replace(config, rule=Rule.WEIGHTED_MEAN, weights=named)
        loop.folder.mkdir(parents=True, exist_ok=True)
        number = len(loop.iterations)
        fused = fuse_checkpoints(
            config,
            sources,
            self.folder,
            pretrained=self.base.folder,
            revisions={one.name: one.key for one in self.used} | {_BASE: self.base.revision},
            pretrained_name=loop.base_name(number) if number else "the pretrained model",
        )
        return fused, folder_revision(self.folder, cache_dir=loop.workshop.session.cache)

    def hold_against_probes(self) -> Asking:
        """Refuse the update, or leave out who harms, where it harms the held-out probes by more than their noise."""
        self.before = yield from self._probe(self.base.revision, self.base.folder, pretrained=self.base.pretrained)
        self.after = yield from self._probe(self.revision, self.folder)
        if self._harms(self.after) and self.loop.variant.rollback is Rollback.LEAVE_OUT:
            yield from self._leave_out()
        if self._harms(self.after):
            self.accepted = False
            change = 100 * (self.after.score - self.before.score)
            self.reason = f"held-out probes changed by {change:+.2f} points{'; ' + self.reason if self.reason else ''}"
            shutil.rmtree(self.folder, ignore_errors=True)

    def _leave_out(self) -> Asking:
        """Fuse again without the contributors whose own models harm, where enough are left."""
        assert self.before is not None
        self.contributions = yield from self.loop.probed(self.contributions)
        harmful = set()
        for one in self.used:
            score = yield from self._probe(one.key, self.loop.workshop.models / one.key)
            if self._harms(score):
                harmful.add(one.key)
        kept = len(self.used) - len(harmful)
        if not harmful or kept < 2:
            self.reason = f"{len(harmful)} of {len(self.used)} contributors harm by themselves"
            return
        for place, one in enumerate(self.contributions):
            if one.key in harmful:
                self.contributions[place] = dataclasses.replace(
                    one, role=Role.HARMFUL, weight=0.0, reason="by itself it harms the held-out probes"
                )
        self.least = min(self.least, kept)
        yield from self.fuse(self.loop.weights_of(self.contributions))
        self.reason = f"{len(harmful)} harmful contributors left out"
        self.after = yield from self._probe(self.revision, self.folder)

    def _harms(self, after: ProbeMean) -> bool:
        assert self.before is not None
        return harms(self.before, after, z=self.loop.config.rollback_z)

    def _probe(self, revision: str, folder: Path, *, pretrained: bool = False) -> Asking:
        cells = self.loop.workshop.probes_of(revision, folder, pretrained=pretrained)
        ended = yield Gather(cells)
        return mean_outcome([ended[cell.key] for cell in cells])

    def iteration(self, *, waited_s: float, began_ms: int, in_flight: Sequence[Contribution] = ()) -> Iteration:
        """What is to be stored."""
        parent = self.base
        refused = not self.accepted
        inside = "" if refused and parent.pretrained else (parent.folder if refused else self.folder).name
        noise = None
        if self.before is not None and self.after is not None:
            noise = (self.before.se**2 + self.after.se**2) ** 0.5
        return Iteration(
            number=len(self.loop.iterations) + 1,
            contributions=tuple(self.contributions),
            parent_revision=parent.revision,
            revision=parent.revision if refused else self.revision,
            folder=inside,
            accepted=self.accepted,
            reason=self.reason,
            base_weight=self.base_weight,
            probe_before=None if self.before is None else self.before.score,
            probe_after=None if self.after is None else self.after.score,
            probe_se=noise,
            waited_s=waited_s,
            fuse_s=self.fuse_s,
            began_ms=began_ms,
            ended_ms=int(time.time() * 1000),
            in_flight=tuple(in_flight),
        )
