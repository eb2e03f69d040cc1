"""`make clusters MATRIX=...`: which base models behave alike on the benchmark tasks."""

from __future__ import annotations

import json
from pathlib import Path

from analysis.selection.clustered import ClusteredMatrix, cluster_matrix, clusters_as_plain
from analysis.selection.published import matrix_of
from ray_app.commands.console import console, print_table
from ray_app.config import AppConfig
from tracking.errors import ConfigError, TableError
from tracking.names import file_name
from tracking.records import write_atomically
from tracking.two_phase import read_matrix

OK = 0


def run(config: AppConfig) -> int:
    """Cluster, print, write outputs/clusters/<name>.json; returns the exit code.

    Raises:
        ConfigError: no MATRIX.
        TableError: a folder that cannot be read, or holds no score at all.
    """
    name, clustered = load_clustered(config)
    plain = clusters_as_plain(clustered)
    path = config.out / "clusters" / f"{file_name(name)}.json"
    write_atomically(path, json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False).encode())
    rule = f"rule {config.recall.rule.value}" if config.recall.threshold is None else "given"
    title = (
        f"{name}: {plain['n_base_models']} base models, {plain['n_tasks']} tasks; {plain['n_non_singleton']} clusters with "
        f"{plain['n_in_non_singleton']} of them, {plain['n_singleton']} alone; threshold {clustered.threshold:g} ({rule}), "
        f"k = {clustered.k}"
    )
    rows = [
        [str(number), str(len(members)), representative, ", ".join(members)]
        for number, (members, representative) in enumerate(
            zip(plain["clusters"], plain["representatives"], strict=True), start=1
        )
        if len(members) > 1
    ]
    print_table(title, ["cluster", "size", "representative", "base models"], rows, left=4)
    for form in ("silhouette_reference", "silhouette_sklearn"):
        value = plain[form]
        console.print(f"{form}: {'not defined for these clusters' if value is None else f'{value:.4f}'}")
    console.print(f"written: {path}")
    return OK


def load_clustered(config: AppConfig) -> tuple[str, ClusteredMatrix]:
    """Name of the folder that MATRIX= gives, and its clusters."""
    folder = matrix_folder(config)
    published = read_matrix(folder)
    try:
        matrix = matrix_of(published)
        empty = [base for base, mean in zip(matrix.base_models, matrix.average, strict=True) if mean != mean]
        if len(empty) == len(matrix.base_models):
            raise TableError(
                f"{folder} holds no score; expected at least one base model with a score", path=str(folder)
            )
        for base in empty:
            console.print(
                f"note: {base} has no score on any task: it stands alone, and cannot be recalled", markup=False
            )
        return published.name, cluster_matrix(matrix, config.recall)
    except ValueError as error:
        raise TableError(f"{folder}: {error}", path=str(folder)) from error


def matrix_folder(config: AppConfig) -> Path:
    """The folder that MATRIX= gives."""
    if config.matrix is None:
        raise ConfigError(
            "MATRIX: not given; name a folder with matrix.txt and datasets.txt, published or written by make matrix"
        )
    return config.matrix.expanduser()
