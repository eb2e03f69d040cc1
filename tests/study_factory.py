"""Small studies for tests, with what each test is about spelt out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from analysis.origins import Origin
from analysis.study import GainStudy


def make_study(
    gain: npt.ArrayLike,
    *,
    seeds: int = 2,
    spread: float = 0.5,
    tasks: Sequence[str] | None = None,
    bases: Sequence[str] | None = None,
    origins: Sequence[Origin | None] | None = None,
    probe: npt.ArrayLike | None = None,
    source_groups: Sequence[str] | None = None,
    target_groups: Sequence[str] | None = None,
    target_sizes: npt.ArrayLike | None = None,
    arch: str = "tiny",
) -> GainStudy:
    """A study with exactly these gains (points): seeds lie ``spread`` points apart, evenly around their mean.

    The pretrained model scores 50 points on every task.
    """
    matrix = np.asarray(gain, dtype=float)
    n_bases, n_tasks = matrix.shape
    offsets = spread * (np.arange(seeds) - (seeds - 1) / 2)
    nothing: list[Origin | None] = [None] * n_bases
    return GainStudy(
        arch=arch,
        pretrained="plain",
        settings="0" * 16,
        bases=tuple(bases or (f"org/model{chr(97 + i)}" for i in range(n_bases))),
        tasks=tuple(tasks or (f"task{j}" for j in range(n_tasks))),
        scores=(50 + matrix[:, :, None] + offsets) / 100,
        baseline=np.broadcast_to((50 + offsets) / 100, (n_tasks, seeds)).copy(),
        probe=np.full(n_bases, np.nan) if probe is None else np.asarray(probe, dtype=float),
        probe_pretrained=0.4,
        origins=tuple(origins or nothing),
        target_groups=tuple(target_groups or ("general",) * n_tasks),
        target_sizes=np.full(n_tasks, np.nan) if target_sizes is None else np.asarray(target_sizes, dtype=float),
        source_groups=tuple(source_groups or ("",) * n_bases),
    )


def made_of(
    task: str,
    *,
    size: float = 1000,
    score: float = 0.8,
    series: str = "s",
    label: str = "",
    seed: int | None = None,
) -> Origin:
    """A source finetune."""
    return Origin(task=task, train_size=size, score=score, series=series, label=label, seed=seed)
