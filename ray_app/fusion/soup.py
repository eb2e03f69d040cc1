"""The greedy soup: sources are taken in one by one, best first, as long as the mean does not get worse."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ray_app.fusion.sources import Sources
from tracking.errors import CheckpointError

Score = Callable[[Path], float]
"""Held-out score of a checkpoint folder; higher is better."""


def choose_ingredients(
    sources: Sources, out: Path, score: Score, left_out: dict[str, str]
) -> tuple[dict[str, float], float]:
    """Keep in ``sources`` what the greedy soup takes in.

    Each source is scored by itself; in the order of these scores (equal ones by name) each is added to the soup if the mean of the
    soup with it scores no worse than the soup without it.

    Args:
        sources: the checkpoints; those not taken in are dropped from it.
        out: where the result will be; trial soups stand beside it and are removed.
        score: held-out score of a checkpoint folder.
        left_out: gets the names of those not taken in, with the reason.

    Returns:
        Score of each source by itself, and of the soup.

    Raises:
        CheckpointError: no source has a score.

    Source: Wortsman et al. 2022, "Model soups", recipe 1.

    Cost: one score a source, and one more for each after the first, with a fused checkpoint written for it.
    """
    sources.merge(None, left_out)  # none with values that are no numbers is scored
    scores = {body.name: float(score(body.stored.folder)) for body in sources.bodies}
    order = sorted((name for name in scores if math.isfinite(scores[name])), key=lambda name: (-scores[name], name))
    left_out.update({name: "its held-out score is no number" for name in scores if name not in order})
    if not order:
        raise CheckpointError("no model has a held-out score, expected at least one; check the task they are scored on")
    chosen, best = order[:1], scores[order[0]]
    for name in order[1:]:
        trial = _score_of(sources.part([*chosen, name]), out, score)
        if trial >= best:
            chosen, best = [*chosen, name], trial
        else:
            left_out[name] = f"the soup scores {trial:.6g} with it and {best:.6g} without"
    sources.bodies = [body for body in sources.bodies if body.name in chosen]
    return scores, best


def _score_of(part: Sources, out: Path, score: Score) -> float:
    """Held-out score of the mean of some sources."""
    folder = out.with_name(f".{out.name}.{os.getpid()}.soup")
    try:
        with part.writer(folder) as writer:
            part.merge(writer, {})
            writer.finish(like=part.like, tokenizer=part.tokenizer, class_name=part.blueprint.class_name, card="")
        return float(score(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
