"""Everything that is fused, open and held against one blueprint."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ray_app.fusion import rules
from ray_app.fusion.blueprint import Blueprint, read_blueprint
from ray_app.fusion.bodies import Body, agreed_counts, open_body, settings_faults, shared_tensors, vocabulary_faults
from ray_app.fusion.fisher import open_fishers, squared_norm
from ray_app.fusion.merging import Merging
from ray_app.fusion.saving import CheckpointWriter
from ray_app.fusion.settings import NEEDS_PRETRAINED, FusionConfig, Rule
from ray_app.fusion.stored import StoredModel
from ray_app.hub.model_files import VOCABULARY_FILES
from ray_app.hub.model_folder import read_config
from tracking.errors import CheckpointError, ConfigError

_PRETRAINED = "the pretrained model"
_SHOWN = 3


@dataclass(kw_only=True)
class Sources:
    """The checkpoints to fuse, open; those found broken are dropped from ``bodies``."""

    config: FusionConfig
    blueprint: Blueprint
    bodies: list[Body]
    """Sources still to be fused, in the order given."""
    pretrained: Body | None
    fishers: dict[str, Body]
    like: Path
    """Checkpoint that the result's configuration is from."""
    tokenizer: Path
    """Checkpoint that its tokenizer is from."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sources, in the order given."""
        return tuple(body.name for body in self.bodies)

    def writer(self, out: Path) -> CheckpointWriter:
        """A checkpoint to be written, with the buffers that all sources agree on."""
        counts = agreed_counts(self.bodies, self.blueprint)
        first = self.bodies[0]
        whole = {}
        for name, data in counts.items():
            info = first.stored.tensors[first.names[name]].info
            whole[name] = (info.dtype, info.shape, data)
        return CheckpointWriter(out, self.shapes(), whole, stored_as=self.blueprint.stored_as)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Tensors that are fused."""
        over = list(self.bodies)
        if self.pretrained is not None and self.config.rule in NEEDS_PRETRAINED:
            over.append(self.pretrained)
        return {name: self.blueprint.shapes[name] for name in shared_tensors(over, self.blueprint)}

    def dropped(self) -> tuple[str, ...]:
        """Tensors of the sources that are not in the result."""
        fused = self.shapes()
        lacking = {name for body in self.bodies for name in body.names if name not in fused} - self.blueprint.counts
        return tuple(sorted({name for body in self.bodies for name in body.dropped} | lacking))

    def merge(self, writer: CheckpointWriter | None, left_out: dict[str, str]) -> Merging:
        """Fuse all bodies; those with values that are no numbers are left out and the others fused again.

        Args:
            writer: takes the tensors; None: they are only looked at.
            left_out: gets the names of those left out, with the reason.

        Raises:
            CheckpointError: none is left.
            ConfigError: weights that sum to zero.
        """
        while True:
            merging = self._merging()
            merging.run(writer.write if writer is not None else lambda name, start, values: None)
            if not merging.not_finite:
                return merging
            for name, tensors in merging.not_finite.items():
                left_out[name] = f"values that are no numbers in {_listed(sorted(tensors))}"
            self.bodies = [body for body in self.bodies if body.name not in merging.not_finite]
            if not self.bodies:
                reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
                raise CheckpointError(
                    f"no model is left to fuse ({reasons}), expected at least one of numbers only; get them again",
                    left_out=dict(left_out),
                )

    def part(self, names: list[str]) -> Sources:
        """The same with some of the sources, in the order of ``names``."""
        by_name = {body.name: body for body in self.bodies}
        return dataclasses.replace(self, bodies=[by_name[name] for name in names])

    def _merging(self) -> Merging:
        config, shapes = self.config, self.shapes()
        given = {body.name: config.weights[body.name] if config.weights else 1.0 for body in self.bodies}
        if config.rule not in NEEDS_PRETRAINED:
            try:
                given = dict(zip(given, rules.normalised(list(given.values())), strict=True))
            except ValueError as error:
                raise ConfigError(f"weights: {error}; a mean needs weights with a sum above 0") from error
        fishers = {body.name: self.fishers[body.name] for body in self.bodies if body.name in self.fishers}
        return Merging(
            config=config,
            bodies=sorted(self.bodies, key=lambda body: body.name),
            weights=given,
            shapes=shapes,
            pretrained=self.pretrained,
            fishers=fishers,
            norms={name: math.sqrt(squared_norm(fisher, shapes)) for name, fisher in fishers.items()},
        )


def open_sources(
    config: FusionConfig, sources: Mapping[str, Path], pretrained: Path | None, stack: ExitStack
) -> Sources:
    """Open all checkpoints and settle whether they can be fused.

    Args:
        config: rule and its numbers.
        sources: name -> folder.
        pretrained: folder of the model that they were finetuned from.
        stack: closes the files.

    Raises:
        CheckpointError: they cannot; every fault of every source is in it.
    """
    folders = {**({_PRETRAINED: pretrained} if pretrained else {}), **sources}
    settings = {name: read_config(folder, model_id=name) for name, folder in folders.items()}
    first, like = next(iter(folders.items()))
    faults = [
        fault
        for name in folders
        if name != first
        for fault in settings_faults(name, settings[name], settings[first], first)
    ]
    _raise(faults)
    blueprint = read_blueprint(like)
    bodies: dict[str, Body] = {}
    for name, folder in folders.items():
        stored = stack.enter_context(StoredModel(folder))
        bodies[name], found = open_body(name, blueprint, stored)
        faults += found
    faults += vocabulary_faults(folders)
    _raise(faults)
    base = bodies.pop(_PRETRAINED) if pretrained else None
    with_tokenizer = [
        folder for folder in folders.values() if any((folder / name).is_file() for name in VOCABULARY_FILES)
    ]
    return Sources(
        config=config,
        blueprint=blueprint,
        bodies=list(bodies.values()),
        pretrained=base,
        fishers=open_fishers(config.fisher, blueprint, stack) if config.rule is Rule.FISHER else {},
        like=like,
        tokenizer=with_tokenizer[0] if with_tokenizer else like,
    )


def _raise(faults: list[str]) -> None:
    if not faults:
        return
    lines = "\n".join(f"  - {fault}" for fault in faults)
    raise CheckpointError(
        f"the models cannot be fused: {faults[0] if len(faults) == 1 else f'{len(faults)} things are wrong:'}"
        f"{'' if len(faults) == 1 else f'{chr(10)}{lines}{chr(10)}'}; expected models of one architecture and vocabulary, leave out "
        "what is not",
        faults=faults,
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more tensors" if names[_SHOWN:] else "")
