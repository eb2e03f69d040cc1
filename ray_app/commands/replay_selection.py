"""`make replay-selection MATRIX=...`: the paper's tables and figures, and every policy, on what a matrix has recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analysis.report.figure_style import store_figure, styled
from analysis.report.selection_figures import (
    draw_chosen,
    draw_curves,
    draw_recall,
    draw_trend_quality,
    draw_trends,
)
from analysis.selection.cluster_tables import Table, cluster_tables
from analysis.selection.performance import PerformanceMatrix
from analysis.selection.replay import TargetRecord, target_record
from analysis.selection.replay_tables import (
    ReplayedTarget,
    replay_targets,
    table_cases,
    table_end_to_end,
    table_epochs,
    table_epochs_by_count,
    table_forecasts,
    table_policies,
    table_thresholds,
)
from analysis.selection.trend_quality import trend_quality
from ray_app.commands.clusters import load_clustered, matrix_folder
from ray_app.commands.console import console, print_table, write_results
from ray_app.config import AppConfig, nearest
from ray_app.hub.checkpoints import find_checkpoint
from tracking.errors import ConfigError, InputError, StorageError, TableError
from tracking.names import file_name
from tracking.records import write_atomically
from tracking.two_phase import read_scores

FloatArray = npt.NDArray[np.float64]

OK = 0
TWO_PHASE = ("fine_selection", "tied")
"""Policies shown end to end."""
STAGES_OF_PAPER = 5
"""Stages by which epochs are counted where none is recorded; the paper trains text for 5 epochs, images for 4."""
_SEED = 0


def run(config: AppConfig) -> int:
    """Replay, print, write outputs/replay/<name>/: a CSV and Parquet file a table, summary.json, figures; returns the exit code.

    Raises:
        ConfigError: no MATRIX, or a TASK that the matrix has not.
        TableError: a folder that cannot be read or replayed.
    """
    name, clustered = load_clustered(config)
    matrix = clustered.matrix
    vectors = _card_vectors(config, matrix)
    try:
        targets, notes = _targets(config, matrix)
        replayed = replay_targets(targets, config.rounds, k=config.select.k) if matrix.n_stages else []
        tables = cluster_tables(matrix, config.recall, vectors=vectors) + _target_tables(config, matrix, replayed)
    except ValueError as error:
        raise TableError(f"{config.matrix}: {error}") from error
    folder = config.out / "replay" / file_name(name)
    for table in tables:
        _show(table)
        write_results(folder / table.name, _as_arrow(table))
    figures = _draw(config, matrix, targets, replayed, folder)
    summary = {
        "matrix": name,
        "n_base_models": len(matrix.base_models),
        "n_tasks": len(matrix.tasks),
        "n_stages": matrix.n_stages,
        "k": config.select.k,
        "targets": [target.task for target in targets],
        "tables": {table.name: {"title": table.title, "note": table.note} for table in tables},
        "figures": figures,
        "notes": notes,
    }
    write_atomically(folder / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False).encode())
    for note in [*notes, *(f"{drawn}: not drawn: {why}" for drawn, why in figures.items() if why)]:
        console.print(f"note: {note}", markup=False)
    console.print(f"written: {folder}")
    return OK


def _targets(config: AppConfig, matrix: PerformanceMatrix) -> tuple[list[TargetRecord], list[str]]:
    """The tasks to replay, and what is missing of them."""
    wanted = [part.strip() for part in config.task.split(",")] if config.task else list(matrix.tasks)
    unknown = [task for task in wanted if task not in matrix.tasks]
    if unknown:
        raise ConfigError(f"TASK: the matrix has no task {unknown[0]!r}{nearest(unknown[0], matrix.tasks)}")
    if len(matrix.tasks) < 2:
        return [], [
            f"the matrix has one task, {matrix.tasks[0]}: no target could be replayed, for none would be left to learn from"
        ]
    found, notes = [], []
    for task in wanted:
        target = target_record(matrix, task, config.recall, scores=_scores(config, matrix, task))
        if not target.recalled:
            notes.append(f"{task}: no base model has both a curve and a test score; it is no target")
            continue
        if target.missing:
            notes.append(f"{task}: without {', '.join(target.missing)}, which have no curve or test score there")
        found.append(target)
    return found, notes


def _scores(config: AppConfig, matrix: PerformanceMatrix, task: str) -> Mapping[str, Mapping[str, float]]:
    """Proxy scores on a task, from files <proxy>_score_<task>.txt in the matrix folder or among SCORES."""
    paths = sorted(matrix_folder(config).glob(f"*_score_{task}.txt"))
    paths += [Path(path).expanduser() for path in config.scores if Path(path).stem.endswith(f"_score_{task}")]
    files = [read_scores(path, matrix.base_models) for path in dict.fromkeys(paths)]
    return {file.proxy: file.scores for file in files}


def _card_vectors(config: AppConfig, matrix: PerformanceMatrix) -> dict[str, FloatArray]:
    """Base model -> vector of its card, for cards in the matrix folder; none where the encoder is not here."""
    from ray_app.probing.cards import embed_texts, find_cards, read_cards  # torch: only where there are cards

    cards = read_cards(find_cards(matrix_folder(config), matrix.base_models))
    if not cards:
        return {}
    try:
        encoder = find_checkpoint(
            config.card_encoder,
            mirror=config.mirror,
            cache_dir=config.cache.expanduser(),
            expected_model_types=(),
            offline=True,
        )
    except InputError as error:
        console.print(f"note: cards are not compared: {error.message}", markup=False)
        return {}
    return dict(zip(cards, embed_texts(list(cards.values()), encoder.path), strict=True))


def _target_tables(config: AppConfig, matrix: PerformanceMatrix, replayed: Sequence[ReplayedTarget]) -> list[Table]:
    counts = table_epochs_by_count(
        len(matrix.base_models),
        matrix.n_stages or STAGES_OF_PAPER,
        k=config.select.k,
        epochs_per_stage=config.rounds.epochs_per_stage,
    )
    if not replayed:
        return [counts]
    ends = [
        table for policy in TWO_PHASE for table in (table_end_to_end(replayed, policy), table_cases(replayed, policy))
    ]
    return [
        table_thresholds(replayed, config.rounds),
        counts,
        table_epochs(replayed),
        *ends,
        table_policies(replayed),
        table_forecasts(matrix, config.rounds),
    ]


def _show(table: Table) -> None:
    if table.note:
        console.print(f"note: {table.name}: {table.note}", markup=False)
    if table.rows:
        left = sum(isinstance(cell, str) for cell in table.rows[0])
        print_table(table.title, table.columns, [[_text(cell) for cell in row] for row in table.rows], left=left)


def _text(cell: str | int | float | None) -> str:
    if cell is None:
        return "-"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _as_arrow(table: Table) -> pa.Table:
    columns = list(zip(*table.rows, strict=True)) if table.rows else [()] * len(table.columns)
    return pa.table({name: pa.array(list(values)) for name, values in zip(table.columns, columns, strict=True)})


def _draw(
    config: AppConfig,
    matrix: PerformanceMatrix,
    targets: Sequence[TargetRecord],
    replayed: Sequence[ReplayedTarget],
    folder: Path,
) -> dict[str, str]:
    """Name of every figure -> why it was not drawn, empty where it was."""
    rng = np.random.default_rng(_SEED)
    n_trends = config.rounds.n_trends
    quality = [
        trend_quality(matrix, base, 1, n_trends=n_trends, rng=rng) for base in matrix.base_models if matrix.n_stages
    ]
    reasons = {}
    with styled():
        figures: dict[str, Any] = {
            "figure_3_curves": draw_curves(targets),
            "figure_4_trends": draw_trends(matrix, n_trends=n_trends),
            "figure_5_recall": draw_recall(targets),
            "figure_6_trend_quality": draw_trend_quality(quality),
            "figure_7_chosen": draw_chosen(replayed),
        }
        for name, figure in figures.items():
            reasons[name] = figure if isinstance(figure, str) else ""
            if not isinstance(figure, str):
                try:
                    store_figure(figure, folder / name)
                except OSError as error:
                    raise StorageError(
                        f"cannot write figures to {folder} ({error.strerror or error}); free space or choose OUT=dir",
                        path=str(folder),
                    ) from error
    return reasons
