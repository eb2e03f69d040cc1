"""The base models that came of an experiment, by name."""

from __future__ import annotations

from dataclasses import dataclass

from ray_app.fusion.experiment import FUSED_ONCE, MULTITASK, Experiment
from ray_app.fusion.lineage import Base
from ray_app.fusion.loop import Loop


@dataclass(frozen=True, kw_only=True)
class Product:
    """A base model that came of the experiment."""

    name: str
    """Name as a base model: startline/<arch>-<experiment>-<label>[-iter<n>]-s<seed>."""
    label: str
    """Variant or baseline."""
    seed: int
    number: int
    """Iteration, from 1; 0 for a baseline."""
    base: Base
    last: bool
    """Nothing of its label and seed comes after it."""
    n_contributions: int
    """Contributions that were finetuned for it, over all iterations."""
    examples_seen: int
    """Training examples of these."""


def products_of(experiment: Experiment) -> list[Product]:
    """Every base model there is, in the order of loops and iterations, the multitask models last."""
    found = [product for loop in experiment.loops for product in _of_loop(loop)]
    for seed, cell in experiment.multitask.items():
        ended = experiment.feed.outcome(cell)
        folder = experiment.workshop.models / cell.key
        if ended is not None and ended.usable and (folder / "config.json").exists():
            found.append(
                Product(
                    name=f"{experiment.prefix(MULTITASK)}-s{seed}",
                    label=MULTITASK,
                    seed=seed,
                    number=0,
                    base=Base(revision=cell.key, folder=folder),
                    last=True,
                    n_contributions=1,
                    examples_seen=ended.examples_seen,
                )
            )
    return found


def _of_loop(loop: Loop) -> list[Product]:
    found, n_contributions, examples = [], 0, 0
    for iteration in loop.iterations[: loop.total]:
        n_contributions += len(iteration.contributions)
        examples += iteration.examples_seen
        number = 0 if loop.label == FUSED_ONCE else iteration.number
        found.append(
            Product(
                name=loop.base_name(number),
                label=loop.label,
                seed=loop.seed,
                number=number,
                base=loop.base_after(iteration.number),
                last=iteration.number == min(loop.total, len(loop.iterations)),
                n_contributions=n_contributions,
                examples_seen=examples,
            )
        )
    return found
