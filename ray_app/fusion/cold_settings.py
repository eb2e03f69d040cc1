"""What `make cold-fusion` is told: who contributes, how contributions are fused, what the result is held against."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from ray_app.fusion.settings import FusionConfig, Rule
from ray_app.hub.tasks import SplitCaps

RESERVED = ("pretrained", "best_single", "fused_once", "multitask")
"""Names of baselines in the tables."""


class Mode(Enum):
    """When contributions are fused; lower-case names are aliases, for the configuration looks a string up among member names."""

    SYNCHRONOUS = "synchronous"
    """All contributors of an iteration start from one base model; fused when they have ended."""
    ASYNCHRONOUS = "asynchronous"
    """Fused whenever some have arrived; the others go on from where they began and weigh less for it."""
    synchronous = "synchronous"
    asynchronous = "asynchronous"


class Weighting(Enum):
    """How much a contribution weighs."""

    EQUAL = "equal"
    PROBE = "probe"
    """By the score of a linear probe on held-out tasks."""
    equal = "equal"
    probe = "probe"


class Rollback(Enum):
    """What becomes of an update that harms held-out probes by more than their noise."""

    NEVER = "never"
    REFUSE = "refuse"
    """The base model stays as it was."""
    LEAVE_OUT = "leave_out"
    """It is fused again without the contributors that harm by themselves; where that harms too, it is refused."""
    never = "never"
    refuse = "refuse"
    leave_out = "leave_out"


@dataclass(kw_only=True)
class VariantConfig:
    """One way to run the loop; several are compared under the same draws and seeds. None: as the experiment says."""

    mode: Mode = Mode.SYNCHRONOUS
    """When contributions are fused."""
    weighting: Weighting = Weighting.EQUAL
    """How much a contribution weighs."""
    rollback: Rollback = Rollback.NEVER
    """What becomes of an update that harms."""
    contributors: int | None = None
    """Contributors of an iteration; a study of their number has a variant for each."""
    arrivals: int | None = None
    """Asynchronous: fuse when so many have arrived; None: half of the contributors."""
    single_task: str | None = None
    """Federated: every contributor has a part of this one dataset, instead of a dataset of its own."""
    parts: int | None = None
    """Federated: into how many parts the dataset is cut; None: as many as there are contributors."""
    fusion: FusionConfig = field(default_factory=FusionConfig)
    """Rule of fusing."""

    @property
    def probes(self) -> bool:
        """Whether it decides by held-out probes."""
        return self.weighting is Weighting.PROBE or self.rollback is not Rollback.NEVER

    def faults(self) -> list[str]:
        """Everything wrong with this variant by itself."""
        found = []
        if self.contributors is not None and self.contributors < 2:
            found.append(f"contributors: {self.contributors}; {_ALONE}")
        if self.arrivals is not None and self.arrivals < 1:
            found.append(f"arrivals: {self.arrivals}; fuse when at least 1 has arrived")
        if self.mode is Mode.ASYNCHRONOUS and self.probes:
            found.append(
                "mode: asynchronous; weights and rollback by probes wait for all of an iteration, take synchronous"
            )
        if self.parts is not None and self.single_task is None:
            found.append("parts: given without single_task; name the dataset that is cut into parts")
        if self.fusion.rule in (Rule.GREEDY_SOUP, Rule.FISHER, Rule.WEIGHTED_MEAN):
            found.append(
                f"fusion.rule: {self.fusion.rule.value} needs more than the models; take mean, ties, dare, ..."
            )
        if self.weighting is Weighting.PROBE and self.fusion.rule is not Rule.MEAN:
            found.append(f"weighting: probe weighs a mean, and fusion.rule is {self.fusion.rule.value}; take mean")
        if self.mode is Mode.ASYNCHRONOUS and self.fusion.rule is not Rule.MEAN:
            found.append(f"fusion.rule: {self.fusion.rule.value}; an asynchronous loop mixes by weights, take mean")
        if self.fusion.weights:
            found.append("fusion.weights: contributors are drawn, their names are not known; take weighting=probe")
        return found


_ALONE = "one contributor is not fused but finetuned on and on; take 2 or more, or make sweep with a source"


@dataclass(kw_only=True)
class BaselinesConfig:
    """What the fused models are held against, besides the pretrained model."""

    singles: bool = True
    """Every single intermediate model: the pretrained model finetuned on one dataset; the best is told by the targets."""
    fuse_once: bool = True
    """All single intermediate models fused once."""
    multitask: bool = True
    """One model trained on all datasets at once, a head for each."""
    multitask_epochs: float | None = None
    """Its passes over all datasets; None: it sees as many examples as the contributors of the first variant may."""

    def faults(self) -> list[str]:
        """Everything wrong with these settings."""
        epochs = self.multitask_epochs
        return [] if epochs is None or epochs > 0 else [f"multitask_epochs: {epochs}; it must be above 0"]


@dataclass(kw_only=True)
class EvaluationConfig:
    """How the base models are tried on the targets (the suite)."""

    curve: bool = True
    """Finetune from every iteration of the first variant; else from the last one only."""
    probe: bool = True
    """Also frozen: linear probes of every iteration of every variant."""
    few_shot: int | None = 100
    """Also finetuned on so many training rows, the last iterations and what they are held against; None: not."""

    def faults(self) -> list[str]:
        """Everything wrong with these settings."""
        few = self.few_shot
        return [] if few is None or few >= 1 else [f"few_shot: {few} rows; give 1 or more, or null for none"]


@dataclass(kw_only=True)
class ColdFusionConfig:
    """Collaborative descent (Don-Yehiya et al., ACL 2023): finetune apart, average, and again from the average."""

    name: str = "cold"
    """Name of the experiment: results are under <out>/cold-fusion/<name>."""
    contributors: int = 8
    """Contributors drawn in an iteration (CONTRIBUTORS=)."""
    iterations: int = 30
    """Times the contributions are fused (ITERATIONS=); an asynchronous variant gets as many contributions."""
    tasks: list[str] | None = None
    """Datasets of the contributors, the seen ones; None: all of the suite but those that are held out."""
    unseen: list[str] | None = None
    """Targets held out from the contributors; None: a quarter of the suite, drawn by ``split_seed``, where ``tasks`` is None."""
    split_seed: int = 0
    """Seed of that draw."""
    caps: SplitCaps = field(default_factory=SplitCaps)
    """Upper limits of rows of the contributors' datasets."""
    method: dict[str, Any] = field(default_factory=dict)
    """Hyperparameters of the contributors that differ from the method's, by name."""
    quorum: float = 0.75
    """Share of the contributors that must have arrived for an iteration to count."""
    time_limit_s: float | None = None
    """Seconds from the start of an iteration after which it goes on with who has arrived, given a quorum; None: no limit."""
    probe_tasks: list[str] = field(default_factory=list)
    """Held-out tasks that weights and rollback are decided by; none of them a contributor's or a target."""
    probe_caps: SplitCaps = field(default_factory=lambda: SplitCaps(train=500, validation=200, test=500))
    """Upper limits of their rows."""
    rollback_z: float = 1.0
    """Standard errors below the base model's held-out score from which an update harms."""
    temperature: float = 0.05
    """Of weights from probe scores: a contribution that probes so much better (fraction) weighs e times as much."""
    staleness_exponent: float = 0.5
    """Asynchronous: a contribution that began s fusions ago weighs (1 + s)^-this."""
    variants: dict[str, VariantConfig] = field(default_factory=dict)
    """Ways to run the loop, by name; the first is what the curve is drawn of. Empty: the loop as published, under the name plain."""
    only: list[str] | None = None
    """Which of the variants are run; None: all."""
    baselines: BaselinesConfig = field(default_factory=BaselinesConfig)
    """What they are held against."""
    evaluate: EvaluationConfig = field(default_factory=EvaluationConfig)
    """How they are tried."""
    keep_contributions: bool = False
    """Keep every contributor's model; else those of iterations that are over are removed."""

    def faults(self) -> list[str]:
        """Everything wrong with these settings by themselves; what they need of the suite is checked when they are settled."""
        found = [f"contributors: {self.contributors}; {_ALONE}"] if self.contributors < 2 else []
        if self.iterations < 1:
            found.append(f"iterations: {self.iterations}; it must be 1 or more")
        if not 0 < self.quorum <= 1:
            found.append(f"quorum: {self.quorum}; it must be a share above 0 and at most 1")
        for name in ("time_limit_s", "rollback_z", "temperature", "staleness_exponent"):
            value = getattr(self, name)
            if value is not None and not (
                math.isfinite(value) and (value > 0 or (value == 0 and name != "temperature"))
            ):
                found.append(f"{name}: {value}; it must be a finite number above 0")
        strange = [name for name in self.only or [] if name not in self.variants]
        found += [
            f"only: there is no variant {name!r}; known: {', '.join(self.variants) or 'none'}" for name in strange
        ]
        if self.only is not None and not self.only:
            found.append("only: empty; name a variant, or null for all")
        for where, name in [("name", self.name), *(("variants", name) for name in self.variants)]:
            if not name or not all(character.isalnum() or character in "_." for character in name):
                found.append(f"{where}: {name!r} is not a plain name; use letters, digits, '_' and '.'")
        for label, names in (("tasks", self.tasks or []), ("probe_tasks", self.probe_tasks)):
            found += [f"{label}: {name!r} is named twice" for name in sorted({n for n in names if names.count(n) > 1})]
        found += [
            f"probe_tasks: empty, and variant {name} decides by probes; name held-out tasks"
            for name, variant in self.variants.items()
            if variant.probes and not self.probe_tasks
        ]
        return found + self._variant_faults()

    def _variant_faults(self) -> list[str]:
        """The dictionary is not walked by the loader; its members are checked here."""
        found = []
        for name, variant in self.variants.items():
            if name in RESERVED:
                found.append(f"variants.{name}: this is the name of a baseline; call it otherwise")
            found += [f"variants.{name}.{fault}" for fault in variant.faults()]
            found += [f"variants.{name}.fusion.{fault}" for fault in variant.fusion.faults()]
            contributors = self.contributors_of(variant)
            if variant.parts is not None and variant.parts < contributors:
                found.append(
                    f"variants.{name}.parts: {variant.parts} for {contributors} contributors; give at least as many"
                )
            if variant.arrivals is not None and variant.arrivals > contributors:
                found.append(
                    f"variants.{name}.arrivals: {variant.arrivals} of {contributors} contributors cannot arrive"
                )
        return found

    @property
    def ways(self) -> dict[str, VariantConfig]:
        """The variants that are run, by name, in their order."""
        known = self.variants or {"plain": VariantConfig()}
        return {name: variant for name, variant in known.items() if self.only is None or name in self.only}

    def contributors_of(self, variant: VariantConfig) -> int:
        """Contributors of an iteration of a variant."""
        return self.contributors if variant.contributors is None else variant.contributors

    def least(self, variant: VariantConfig) -> int:
        """Fewest contributions that make an iteration."""
        return max(1, math.ceil(self.quorum * self.contributors_of(variant) - 1e-9))

    def named_tasks(self) -> list[tuple[str, str]]:
        """Every task named here, with where: for the check that it exists."""
        found = [("tasks", name) for name in self.tasks or []] + [("unseen", name) for name in self.unseen or []]
        found += [("probe_tasks", name) for name in self.probe_tasks]
        return found + [
            (f"variants.{label}.single_task", variant.single_task)
            for label, variant in self.variants.items()
            if variant.single_task is not None
        ]

    def identity(self, variant: VariantConfig) -> dict[str, Any]:
        """What of these settings may change the numbers of one variant, ready for hashing; not how long it goes on."""
        plain = {
            "contributors": self.contributors_of(variant),
            "quorum": self.quorum,
            "time_limit_s": self.time_limit_s,
            "variant": _plain(dataclasses.asdict(variant)),
        }
        if variant.probes:
            plain |= {"probe_tasks": list(self.probe_tasks), "probe_caps": dataclasses.asdict(self.probe_caps)}
            plain |= {"rollback_z": self.rollback_z, "temperature": self.temperature}
        if variant.mode is Mode.ASYNCHRONOUS:
            plain["staleness_exponent"] = self.staleness_exponent
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items() if name != "threads"}
    return value.value if isinstance(value, Enum) else str(value) if isinstance(value, Path) else value
