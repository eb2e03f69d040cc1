"""Performance matrices for tests, and folders in the published format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from analysis.selection.performance import PerformanceMatrix


def make_matrix(test: npt.ArrayLike, validation: npt.ArrayLike | None = None) -> PerformanceMatrix:
    """Base models m0, m1, ... on tasks t0, t1, ...; without validation scores there are no stages."""
    scores = np.asarray(test, dtype=np.float64)
    stages = np.empty((*scores.shape, 0)) if validation is None else np.asarray(validation, dtype=np.float64)
    return PerformanceMatrix(
        base_models=tuple(f"m{row}" for row in range(scores.shape[0])),
        tasks=tuple(f"t{column}" for column in range(scores.shape[1])),
        test=scores,
        validation=stages,
    )


def converging_matrix(
    *, n_bases: int, n_tasks: int, n_stages: int, seed: int = 0, noise: float = 0.01
) -> PerformanceMatrix:
    """Curves that rise as 1/stage to ease of task + skill of model, with noise; models in families of three."""
    rng = np.random.default_rng(seed)
    family = np.arange(n_bases) // 3
    skill = rng.normal(0, 0.05, family.max() + 1)[family] + rng.normal(0, 0.01, n_bases)
    final = np.clip(rng.uniform(0.5, 0.8, n_tasks)[None, :] + skill[:, None], 0.05, 0.95)
    gap = rng.uniform(0.02, 0.2, (n_bases, n_tasks))
    stages = np.arange(1, n_stages + 1)
    curves = final[:, :, None] - gap[:, :, None] * (1 / stages - 1 / n_stages)
    validation = np.clip(curves + rng.normal(0, noise, curves.shape), 0, 1)
    return make_matrix(np.clip(final + rng.normal(0, noise, final.shape), 0, 1), validation)


def write_folder(folder: Path, matrix: PerformanceMatrix) -> Path:
    """Write matrix.txt and datasets.txt, and validation.csv where there are stages."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(name.replace("/", "--") for name in matrix.base_models)]
    lines += ["\t".join("" if np.isnan(score) else f"{score:.6f}" for score in column) for column in matrix.test.T]
    (folder / "matrix.txt").write_text("\n".join(lines) + "\n")
    (folder / "datasets.txt").write_text("\n".join(matrix.tasks))
    if matrix.n_stages:
        rows = [",".join(["base_model", "task", *(f"stage_{s + 1}" for s in range(matrix.n_stages)), "test"])]
        for row, base in enumerate(matrix.base_models):
            for column, task in enumerate(matrix.tasks):
                scores = [*matrix.validation[row, column], matrix.test[row, column]]
                rows.append(
                    ",".join([base, task, *("" if np.isnan(score) else repr(float(score)) for score in scores)])
                )
        (folder / "validation.csv").write_text("\n".join(rows) + "\n")
    return folder
