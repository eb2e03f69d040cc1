"""From the table of cells to arrays: base models are rows, tasks are columns, seeds last."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ScoreMatrix:
    """Scores of base models on tasks."""

    bases: tuple[str, ...]
    """Base models, the pretrained one first, the others by name."""
    tasks: tuple[str, ...]
    """Tasks by name."""
    scores: FloatArray
    """(n_bases, n_tasks, n_seeds) fractions; NaN where there is no cell."""
    settings: str
    """Hash of the settings that all cells share."""

    @property
    def n_cells(self) -> npt.NDArray[np.int64]:
        """(n_bases,) scored cells of each base model."""
        return np.isfinite(self.scores).sum(axis=(1, 2))

    @property
    def pretrained(self) -> FloatArray:
        """(n_tasks, n_seeds) scores of the pretrained model."""
        return self.scores[0]


def choose_settings(cells: pa.Table, *, pretrained: str, wanted: str | None = None) -> tuple[str, list[str]]:
    """The settings to compare under, and what is left out by it.

    Cells may be compared only where everything besides base model, task and seed is the same. Without a wish the settings with
    the most cells are taken, among those under which the pretrained model was tried.

    Args:
        cells: scored cells.
        pretrained: name of the pretrained model.
        wanted: settings hash, or the start of one.

    Raises:
        ValueError: no cell of the pretrained model, or none under the wanted settings.
    """
    baseline = set(cells.filter(pc.equal(cells["base_model"], pretrained))["settings"].to_pylist())
    counts = Counter(cells["settings"].to_pylist())
    fitting = {
        name: n for name, n in counts.items() if name in baseline and (wanted is None or str(name).startswith(wanted))
    }
    if not fitting:
        known = ", ".join(f"{name} ({n} cells)" for name, n in counts.most_common(5))
        under = f" under settings {wanted}" if wanted else ""
        raise ValueError(
            f"no cell of the pretrained model {pretrained}{under}, so there is nothing to measure a gain against; "
            f"run the pretrained model on these tasks. Settings with cells: {known or 'none'}"
        )
    chosen = max(fitting, key=lambda name: (fitting[name], str(name)))
    others = [f"{n} cells under other settings {name} left out" for name, n in counts.most_common() if name != chosen]
    return chosen, others


def score_matrix(cells: pa.Table, *, pretrained: str, settings: str) -> ScoreMatrix:
    """Arrange the cells of one settings hash.

    Two cells of one (base model, task, seed) differ in the revision of model or data; the one that ended last counts and the
    others are left out (``superseded_cells`` names them).

    Args:
        cells: scored cells, one a key, in the order of their end.
        pretrained: name of the pretrained model.
        settings: hash to keep.
    """
    kept = cells.filter(pc.equal(cells["settings"], settings))
    names = sorted(set(kept["base_model"].to_pylist()) - {pretrained})
    bases = (pretrained, *names)
    tasks = tuple(sorted(set(kept["task"].to_pylist())))
    seeds = sorted({seed if seed is not None else 0 for seed in kept["seed"].to_pylist()})
    places = ({n: i for i, n in enumerate(axis)} for axis in (bases, tasks, seeds))
    row_of, column_of, layer_of = places
    scores = np.full((len(bases), len(tasks), max(1, len(seeds))), np.nan)
    rows = [row_of[name] for name in kept["base_model"].to_pylist()]
    columns = [column_of[name] for name in kept["task"].to_pylist()]
    layers = [layer_of[seed if seed is not None else 0] for seed in kept["seed"].to_pylist()]
    for row, column, layer, score in zip(rows, columns, layers, kept["score"].to_pylist(), strict=True):
        scores[row, column, layer] = score
    return ScoreMatrix(bases=bases, tasks=tasks, scores=scores, settings=settings)


def superseded_cells(cells: pa.Table, *, settings: str) -> list[str]:
    """One sentence for every (base model, task, seed) that has cells of several revisions."""
    kept = cells.filter(pc.equal(cells["settings"], settings))
    seen = Counter(zip(*(kept[name].to_pylist() for name in ("base_model", "task", "seed")), strict=True))
    return [
        f"{base} on {task}, seed {seed}: {n} cells of different revisions; the newest counts"
        for (base, task, seed), n in seen.items()
        if n > 1
    ]
