"""The loop without waiting: whenever some contributions have arrived they are mixed into the base model, stale ones by less."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from analysis.collaboration import stale_mixture
from ray_app.fusion.contributors import SEED_STRIDE
from ray_app.fusion.draft import Draft
from ray_app.fusion.feed import Ended, Gather, Program
from ray_app.fusion.lineage import Base, Contribution, Role
from ray_app.fusion.loop import Loop, judge
from ray_app.sweeps.plan import PlannedCell
from tracking.errors import CheckpointError, QuorumError


class AsynchronousLoop(Loop):
    """Keeps as many contributors at work as there are; who has arrived is fused, a new one begins from the present base model.

    Source: the mixing of Xie et al. 2019 in a buffer of k (Nguyen et al. 2022); see ``analysis.collaboration.stale_mixture``. What
    arrives first depends on the machines, so a run is repeatable from its stored iterations only, not from its seed.
    """

    @property
    def arrivals(self) -> int:
        """Contributions that are fused at once, at least."""
        return math.ceil(self.n_contributors / 2) if self.variant.arrivals is None else self.variant.arrivals

    @property
    def total(self) -> int:
        """As many as use the contributions that the synchronous loop would have used."""
        return math.ceil(self.config.iterations * self.n_contributors / self.arrivals)

    def program(self) -> Program:
        """The iterations that are still to come."""
        at_work = [(one, self._cell_of(one)) for one in (self.iterations[-1].in_flight if self.iterations else ())]
        begun = sum(len(iteration.contributions) for iteration in self.iterations) + len(at_work)
        while len(self.iterations) < self.total:
            began_ms, started = int(time.time() * 1000), time.perf_counter()
            while len(at_work) < self.n_contributors:
                at_work.append(self._next(begun))
                begun += 1
            ended = yield Gather([cell for _, cell in at_work], enough=self._some_arrived)
            arrived = [judge(one, ended[one.key]) for one, _ in at_work if one.key in ended]
            at_work = [(one, cell) for one, cell in at_work if one.key not in ended]
            waited_s = time.perf_counter() - started
            self._require(arrived)
            draft = Draft(loop=self, base=self.base, contributions=arrived, least=1)
            yield from draft.fuse(self._mixture(draft))
            in_flight = [one for one, _ in at_work]
            self.keep(draft.iteration(waited_s=waited_s, began_ms=began_ms, in_flight=in_flight))

    def _some_arrived(self, ended: Mapping[str, Ended], elapsed_s: float) -> bool:
        return sum(one.usable for one in ended.values()) >= self.arrivals

    def _require(self, arrived: list[Contribution]) -> None:
        """All of them ended, and yet too few can be used."""
        n_used = sum(one.role is Role.USED for one in arrived)
        if n_used < self.arrivals:
            lost = "; ".join(
                f"{one.task}: {one.role.value}, {one.reason}" for one in arrived if one.role is not Role.USED
            )
            raise QuorumError(
                f"{self.name}, iteration {len(self.iterations) + 1}: {n_used} contributions arrived, expected {self.arrivals} ({lost}); "
                "run the same command again to try these once more",
                came=n_used,
                expected=self.arrivals,
            )

    def _mixture(self, draft: Draft) -> dict[str, float]:
        ages = [len(self.iterations) - one.began for one in draft.used]
        shares, draft.base_weight = stale_mixture(ages, exponent=self.config.staleness_exponent)
        return {one.key: float(share) for one, share in zip(draft.used, shares, strict=True)}

    def _next(self, index: int) -> tuple[Contribution, PlannedCell]:
        """The contribution of this index: datasets in seeded order, all of them before any comes again."""
        n_shares = len(self.tasks) if self.variant.single_task is None else self.n_parts
        turn, place = divmod(index, n_shares)
        task, part = self._shares(turn + 1, n_shares)[place]
        return self.begin(self.base, task, part, seed=self.seed + SEED_STRIDE * turn)

    def _cell_of(self, one: Contribution) -> PlannedCell:
        """The cell of a contribution that was under way when the loop was stored."""
        bases: list[Base] = [self.base_after(number) for number in range(len(self.iterations) + 1)]
        base = next((base for base in bases if base.revision == one.base_revision), None)
        if base is None:
            raise CheckpointError(
                f"{self.name}: no base model of revision {one.base_revision} is stored, from which {one.task} began; remove "
                f"{self.folder} to begin anew",
                folder=str(self.folder),
            )
        share = None if one.part is None else (one.part, self.n_parts)
        return self.workshop.contribution(base, one.task, seed=one.seed, part=share)
