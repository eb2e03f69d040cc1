"""`make recall MATRIX=... SCORES=...`: which base models to train on a new target, from proxy scores of a few."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from analysis.selection.clustered import ClusteredMatrix, recall_from
from analysis.selection.recall import Recall
from ray_app.commands.clusters import load_clustered
from ray_app.commands.console import console, print_table, write_csv
from ray_app.config import AppConfig
from tracking.errors import ConfigError, TableError
from tracking.names import file_name
from tracking.two_phase import PublishedScores, read_scores

OK = 0
COLUMNS = ("base_model", "score", "rank", "cluster")


def run(config: AppConfig) -> int:
    """Recall, print the first K, write all to outputs/recall/<task>.csv; returns the exit code.

    Raises:
        ConfigError: no MATRIX or SCORES, or files of several targets without TASK.
        TableError: a file that cannot be read, or holds no usable score.
    """
    if not config.scores:
        raise ConfigError("SCORES: not given; name a file of proxy scores, such as <folder>/leep_score_multirc.txt")
    name, clustered = load_clustered(config)
    files = [read_scores(Path(path).expanduser(), clustered.matrix.base_models) for path in config.scores]
    task = _task(config, files)
    try:
        found = recall_from(clustered, _by_proxy(files), config.recall)
    except ValueError as error:
        raise TableError(f"{', '.join(config.scores)}: {error}") from error
    rows = recall_rows(clustered, found)
    path = write_csv(config.out / "recall" / f"{file_name(task)}.csv", COLUMNS, rows)
    _print(config, name, task, rows, found)
    console.print(f"written: {path}")
    return OK


def recall_rows(clustered: ClusteredMatrix, found: Recall) -> list[list[str | float | int | None]]:
    """Every base model by rank: name, recall score, rank, number of its cluster (from 1); no score, no rank."""
    rows: list[list[str | float | int | None]] = []
    for rank, row in enumerate(found.order.tolist(), start=1):
        score = float(found.scores[row])
        known = bool(np.isfinite(score))
        cluster = int(clustered.clusters.labels[row]) + 1
        rows.append([clustered.matrix.base_models[row], score if known else None, rank if known else None, cluster])
    return rows


def _task(config: AppConfig, files: list[PublishedScores]) -> str:
    tasks = sorted({file.task for file in files})
    if config.task is not None:
        return config.task
    if len(tasks) > 1:
        raise ConfigError(
            f"SCORES: files of several targets, {', '.join(tasks)}; give those of one, or name it with TASK="
        )
    return tasks[0]


def _by_proxy(files: list[PublishedScores]) -> Mapping[str, Mapping[str, float]]:
    """Scores by proxy; a file that does not name its proxy is known by its task."""
    found: dict[str, Mapping[str, float]] = {}
    for file in files:
        proxy = file.proxy or file.task
        if proxy in found:
            raise ConfigError(f"SCORES: two files hold the scores of {proxy}; give one for each proxy")
        found[proxy] = file.scores
    return found


def _print(config: AppConfig, name: str, task: str, rows: list[list[str | float | int | None]], found: Recall) -> None:
    wanted = config.select.k
    ranked = [row for row in rows if row[2] is not None]
    shown = ranked[:wanted]
    title = (
        f"{task}: {len(shown)} of {len(rows)} base models of {name} recalled, variant {config.recall.variant.value}, "
        f"{len(found.proxies_read)} proxy scores read"
    )
    print_table(
        title,
        ["base model", "recall score", "rank", "cluster"],
        [[str(base), f"{score:.6f}", str(rank), str(cluster)] for base, score, rank, cluster in shown],
    )
    if found.note:
        console.print(f"note: {found.note}")
    if len(ranked) < wanted:
        console.print(f"note: K = {wanted} was asked for; only {len(ranked)} base models have a recall score")
