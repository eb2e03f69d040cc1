"""Checkpoints of one architecture fused into one base model, on disk."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from ray_app.fusion.card import write_card
from ray_app.fusion.fused import Fused
from ray_app.fusion.settings import NEEDS_PRETRAINED, FusionConfig, Rule
from ray_app.fusion.soup import Score, choose_ingredients
from ray_app.fusion.sources import open_sources
from tracking.errors import ConfigError

__all__ = ["Fused", "FusionConfig", "Rule", "Score", "fuse_checkpoints"]


def fuse_checkpoints(
    config: FusionConfig,
    sources: Mapping[str, Path],
    out: Path,
    *,
    pretrained: Path | None = None,
    score: Score | None = None,
    revisions: Mapping[str, str] | None = None,
    pretrained_name: str | None = None,
) -> Fused:
    """Fuse checkpoints by parameter name and save the result as a checkpoint without a head, in float32.

    Every source is read once (by TIES twice), in pieces, whatever their number; a source with values that are no numbers is left out
    and the others are read again. One source alone gives its own body.

    Args:
        config: rule and its numbers.
        sources: name -> folder in hub format, weights in safetensors (one file or shards).
        out: folder of the result; an old one stays as it is until the new one is whole.
        pretrained: folder of the model that the sources were finetuned from; task vectors need it, and configuration and tokenizer of
            the result are its (without it: the first source's).
        score: held-out score of a checkpoint folder, higher is better (greedy_soup).
        revisions: revision by source name, for the card.
        pretrained_name: name of the pretrained model, for the card.

    Returns:
        The fused checkpoint and what is in it.

    Raises:
        ConfigError: the settings do not fit the sources, or their weights sum to zero.
        CheckpointError: a source cannot be fused with the others (architecture, vocabulary, a missing tensor, whole numbers), the
            names of all that is wrong; or no source is left.
        StorageError: disk full or folder unwritable; an old ``out`` is as it was.
    """
    started = time.perf_counter()
    _check(config, sources, pretrained, out, score)
    left_out: dict[str, str] = {}
    scores: dict[str, float] = {}
    best: float | None = None
    with ExitStack() as stack:
        opened = open_sources(config, sources, pretrained, stack)
        if config.rule is Rule.GREEDY_SOUP:
            assert score is not None
            scores, best = choose_ingredients(opened, out, score, left_out)
        with opened.writer(out) as writer:
            merging = opened.merge(writer, left_out)
            weights = {name: merging.weights[name] for name in opened.names}
            card = write_card(
                config,
                weights=weights,
                left_out=left_out,
                dropped=opened.dropped(),
                revisions=revisions or {},
                pretrained=pretrained_name or (str(pretrained) if pretrained else None),
            )
            writer.finish(
                like=opened.like, tokenizer=opened.tokenizer, class_name=opened.blueprint.class_name, card=card
            )
    return Fused(
        folder=out,
        used=opened.names,
        left_out=left_out,
        weights=weights,
        dropped=opened.dropped(),
        scores=scores,
        score=best,
        n_tensors=len(merging.shapes),
        n_parameters=sum(math.prod(shape) for shape in merging.shapes.values()),
        bytes_read=merging.bytes_read(),
        wall_s=time.perf_counter() - started,
    )


def _check(
    config: FusionConfig, sources: Mapping[str, Path], pretrained: Path | None, out: Path, score: Score | None
) -> None:
    """Refuse settings that do not fit, all faults at once."""
    faults = config.faults()
    if not sources:
        faults.append("sources: none; name at least one checkpoint to fuse")
    for label, given in (("weights", config.weights), ("fisher", config.fisher)):
        strange = sorted(set(given) - set(sources))
        lacking = sorted(set(sources) - set(given)) if given else []
        faults += [f"{label}: {name} is none of the models to fuse ({', '.join(sources)})" for name in strange]
        faults += [f"{label}: {name} has none; give one for every model" for name in lacking]
    if config.rule in NEEDS_PRETRAINED and pretrained is None:
        faults.append(f"rule: {config.rule.value} adds task vectors to a pretrained model, and none is given; name it")
    if config.rule is Rule.WEIGHTED_MEAN and not config.weights:
        faults.append("weights: none given; weighted_mean needs one for every source, or take rule=mean")
    if config.rule is Rule.FISHER and not config.fisher:
        faults.append("fisher: none given; give a safetensors file with the diagonal Fisher of every model")
    if config.rule is Rule.GREEDY_SOUP and score is None:
        faults.append("rule: greedy_soup needs a held-out score to go by, and none is given; name a task")
    inputs = [*sources.values(), *([pretrained] if pretrained else [])]
    if any(folder.expanduser().absolute() == out.expanduser().absolute() for folder in inputs):
        faults.append(f"out: {out} is one of the models to fuse; choose another folder")
    if faults:
        raise ConfigError(faults)
