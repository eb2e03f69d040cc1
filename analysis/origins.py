"""What the base models were made of: the source cell behind each model that was finetuned here, and families of names."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

_OWN = "startline/"
_COUNTER = re.compile(r"[-_](?:itr|iter|iteration|seed|run|step|epoch|checkpoint|ckpt|v|s)?[-_]?\d+$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The source finetune, or finetunes of several seeds, that made one base model."""

    task: str
    """Source task."""
    train_size: float
    """Rows it was finetuned on; NaN when not logged."""
    score: float
    """Mean test score on the source task, fraction; NaN when there is none."""
    series: str
    """Hash of how it was finetuned, besides the number of training rows; empty when not logged."""
    label: str
    """What tells studies of one source apart (``n500``, ``decay1``); empty for the plain one."""
    seed: int | None
    """Seed of the source finetune; None when each seed of a target cell starts from the source model of that seed."""


def gather_origins(cells: pa.Table) -> dict[str, Origin]:
    """Origins by base model, for every base model whose revision is the key of a scored cell.

    Args:
        cells: scored cells of one architecture, source cells among them.
    """
    columns = ("key", "arch", "task", "seed", "score", "series", "n_train", "cap_train")
    rows = zip(*(cells[name].to_pylist() for name in columns), strict=True)
    by_key = {row[0]: row[1:] for row in rows}
    made = cells.filter(pc.is_in(cells["base_revision"], pa.array(list(by_key), pa.string())))
    pairs = sorted(set(zip(made["base_model"].to_pylist(), made["base_revision"].to_pylist(), strict=True)))
    revisions: dict[str, list[str]] = {}
    for name, revision in pairs:
        revisions.setdefault(name, []).append(revision)
    return {name: _origin(name, [by_key[key] for key in keys]) for name, keys in revisions.items()}


def _origin(name: str, cells: list[tuple]) -> Origin:
    arch, task = cells[0][:2]
    seeds = [cell[2] for cell in cells]
    label = name.removeprefix(f"{_OWN}{str(arch).replace('/', '_')}-{task}").lstrip("-")
    seed = None
    if len(cells) == 1 and re.search(rf"(^|-)s{seeds[0]}$", label):
        seed = int(seeds[0])
        label = label.removesuffix(f"s{seed}").rstrip("-")
    sizes = [train if train is not None else cap for *_, train, cap in cells]
    return Origin(
        task=str(task),
        train_size=_mean(sizes),
        score=_mean(cell[3] for cell in cells),
        series=str(cells[0][4] or ""),
        label=label,
        seed=seed,
    )


def _mean(values: Iterable[float | None]) -> float:
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan


def family_of(name: str) -> str:
    """Name without the counters at its end: ``ibm/ColD-Fusion-itr13-seed2`` is one of the family ``ibm/ColD-Fusion``.

    Checkpoints that differ in a counter (iteration, seed, run) share method and lineage, so they are not independent. A name
    that is nothing but a counter after its organisation stays as it is.
    """
    while True:
        shorter = _COUNTER.sub("", name)
        if shorter == name or not shorter or shorter.endswith("/"):
            return name
        name = shorter
