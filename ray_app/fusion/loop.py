"""Collaborative descent: contributors finetune one base model on their own datasets, what they made is fused, and again.

Source: Don-Yehiya et al., "ColD Fusion", ACL 2023, section 3. Beyond it: weights and rollback by held-out probes, quorum, time limit.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.collaboration import probe_weights
from ray_app.fusion.cold_settings import ColdFusionConfig, Rollback, VariantConfig, Weighting
from ray_app.fusion.contributors import SEED_STRIDE, Workshop, draw_tasks
from ray_app.fusion.draft import Draft, mean_outcome
from ray_app.fusion.feed import Ended, Gather, Program, Work
from ray_app.fusion.lineage import Base, Contribution, Iteration, Role, read_iterations, write_iteration
from ray_app.hub.splits import draw_order
from ray_app.sweeps.plan import PlannedCell
from tracking.schema import State


@dataclass(kw_only=True)
class Loop:
    """One run of the loop: a variant under a seed.

    Its state is the iterations stored under ``folder``; whoever makes a loop of the same folder goes on after the last of them.
    """

    name: str
    """For people: <variant>-s<seed>."""
    prefix: str
    """What the names of its base models begin with."""
    folder: Path
    label: str
    """Name of the variant."""
    variant: VariantConfig
    config: ColdFusionConfig
    tasks: Sequence[str]
    """Datasets that contributors are drawn from."""
    seed: int
    workshop: Workshop
    on_iteration: Callable[[Loop, Iteration], None] = lambda loop, iteration: None
    iterations: list[Iteration] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.iterations = read_iterations(self.folder)
        self.n_contributors = self.config.contributors_of(self.variant)
        self.least = self.config.least(self.variant)

    def base_name(self, number: int) -> str:
        """Name of the base model after an iteration; 0: of a loop that has one only."""
        return f"{self.prefix}{f'-iter{number:02d}' if number else ''}-s{self.seed}"

    @property
    def total(self) -> int:
        """Iterations that it is to have."""
        return self.config.iterations

    def base_after(self, number: int) -> Base:
        """The base model after so many iterations; 0: the pretrained one."""
        pretrained = self.workshop.pretrained
        return self.iterations[number - 1].base(self.folder, pretrained) if number else pretrained

    @property
    def base(self) -> Base:
        """The present base model."""
        return self.base_after(len(self.iterations))

    def program(self) -> Program:
        """The iterations that are still to come."""
        while len(self.iterations) < self.total:
            yield from self._iterate()

    def _iterate(self) -> Program:
        began_ms, started = int(time.time() * 1000), time.perf_counter()
        base = self.base
        drawn = self.draw(len(self.iterations) + 1)
        ended = yield Gather([cell for _, cell in drawn], enough=self._enough)
        contributions = [judge(one, ended.get(one.key)) for one, _ in drawn]
        waited_s = time.perf_counter() - started
        if self.variant.weighting is Weighting.PROBE:
            contributions = yield from self.probed(contributions)
        draft = Draft(loop=self, base=base, contributions=contributions, least=self.least)
        yield from draft.fuse(self.weights_of(contributions))
        if self.variant.rollback is not Rollback.NEVER:
            yield from draft.hold_against_probes()
        self.keep(draft.iteration(waited_s=waited_s, began_ms=began_ms))

    def keep(self, iteration: Iteration) -> None:
        """Store an iteration; from here on the next one begins where it ends."""
        write_iteration(self.folder, iteration)
        self.iterations.append(iteration)
        self.on_iteration(self, iteration)

    def _enough(self, ended: Mapping[str, Ended], elapsed_s: float) -> bool:
        limit = self.config.time_limit_s
        return limit is not None and elapsed_s >= limit and sum(one.usable for one in ended.values()) >= self.least

    def draw(self, number: int) -> list[tuple[Contribution, PlannedCell]]:
        """Contributors of an iteration: datasets, or parts of one, drawn by the seed."""
        seed = self.seed + SEED_STRIDE * (number - 1)
        return [
            self.begin(self.base, task, part, seed=seed) for task, part in self._shares(number, self.n_contributors)
        ]

    def _shares(self, number: int, n: int) -> list[tuple[str, int | None]]:
        single = self.variant.single_task
        if single is None:
            return [(task, None) for task in draw_tasks(self.tasks, n, seed=self.seed, iteration=number)]
        order = draw_order(self.n_parts, seed=self.seed, stream=f"cold-fusion/{number}")
        return [(single, int(part)) for part in order[:n]]

    @property
    def n_parts(self) -> int:
        """Parts of the single dataset."""
        return self.n_contributors if self.variant.parts is None else self.variant.parts

    def begin(self, base: Base, task: str, part: int | None, *, seed: int) -> tuple[Contribution, PlannedCell]:
        """A contribution that starts from a base model, and its cell."""
        share = None if part is None else (part, self.n_parts)
        cell = self.workshop.contribution(base, task, seed=seed, part=share)
        began = len(self.iterations)
        one = Contribution(task=task, part=part, seed=seed, key=cell.key, base_revision=base.revision, began=began)
        return one, cell

    def probed(self, contributions: Sequence[Contribution]) -> Generator[Gather | Work, Any, list[Contribution]]:
        """Contributions with the held-out scores of their models; one that cannot be probed is left out."""
        probes = {one.key: self.workshop.probes_of_contribution(one) for one in contributions if one.role is Role.USED}
        ended = yield Gather([cell for cells in probes.values() for cell in cells])
        found = []
        for one in contributions:
            outcomes = [ended[cell.key] for cell in probes.get(one.key, [])]
            broken = next((outcome.reason for outcome in outcomes if outcome.state == State.FAILED), None)
            if broken is not None:
                one = dataclasses.replace(one, role=Role.FAILED, reason=f"its model cannot be probed: {broken}")
            elif outcomes:
                one = dataclasses.replace(one, probe=mean_outcome(outcomes).score)
            found.append(one)
        return found

    def weights_of(self, contributions: Sequence[Contribution]) -> dict[str, float]:
        """Weight by key of those that are used; empty: all equal."""
        used = [one for one in contributions if one.role is Role.USED]
        if self.variant.weighting is Weighting.EQUAL or not used:
            return {}
        weights = probe_weights(
            [one.probe for one in used if one.probe is not None], temperature=self.config.temperature
        )
        return {one.key: float(weight) for one, weight in zip(used, weights, strict=True)}


def judge(contribution: Contribution, ended: Ended | None) -> Contribution:
    """What became of a contribution, by how its cell ended; None: it has not."""
    if ended is None:
        return dataclasses.replace(contribution, role=Role.LATE, reason="it had not arrived when the time was over")
    measured = dataclasses.replace(
        contribution, score=ended.score, train_s=ended.train_s, examples_seen=ended.examples_seen
    )
    if ended.state == State.DIVERGED:
        return dataclasses.replace(measured, role=Role.DIVERGED, reason="loss or weights became non-finite")
    return measured if ended.usable else dataclasses.replace(measured, role=Role.FAILED, reason=ended.reason)
