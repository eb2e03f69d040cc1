"""How well each score ranked: agreement and regret with their intervals, and agreement task by task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from analysis.backtest import METRICS, PredictorRecord
from analysis.report.figure_style import INK, MUTED, PALETTE, quiet, shortened

_LABELS = {"weighted_kendall": "weighted Kendall, mean over tasks", "regret_3": "points lost by trying the top 3"}


def draw_predictors(records: Sequence[PredictorRecord], *, title: str) -> Figure | str:
    """Mean weighted Kendall and mean regret@3 of every predictor, best first, with 95 % intervals over tasks."""
    shown = [record for record in records if np.isfinite(record.mean).any()]
    if not shown:
        return "no predictor could be judged"
    regret, agreement = METRICS.index("regret_3"), METRICS.index("weighted_kendall")
    shown.sort(key=lambda record: -np.nan_to_num(record.mean[regret], nan=np.inf))
    figure = Figure(figsize=(8.6, 1.4 + 0.32 * len(shown)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    rows = np.arange(len(shown))
    for axes, metric, colour in ((panels[0], agreement, PALETTE[0]), (panels[1], regret, PALETTE[1])):
        quiet(axes)
        for row, record in enumerate(shown):
            axes.plot(
                [record.mean_low[metric], record.mean_high[metric]], [row, row], color=colour, linewidth=2, alpha=0.5
            )
        axes.plot([record.mean[metric] for record in shown], rows, "o", color=colour, markersize=5)
        axes.axvline(0, color=MUTED, linewidth=0.9, zorder=1)
        axes.set_xlabel(_LABELS[METRICS[metric]])
    panels[0].set_yticks(rows, [shortened(record.name, limit=28) for record in shown], color=INK)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, fontweight="bold", color=INK)
    return figure


def draw_by_task(records: Sequence[PredictorRecord], tasks: Sequence[str], *, title: str) -> Figure | str:
    """Weighted Kendall of every predictor on every task."""
    agreement = METRICS.index("weighted_kendall")
    shown = [record for record in records if np.isfinite(record.values[:, agreement]).any()]
    if not shown:
        return "no predictor could be judged on any task"
    values = np.array([record.values[:, agreement] for record in shown])
    figure = Figure(figsize=(2.6 + 0.42 * len(tasks), 1.8 + 0.34 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(values, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    axes.set_xticks(np.arange(len(tasks)), tasks, rotation=60, ha="right", rotation_mode="anchor", fontsize=7.5)
    axes.set_yticks(np.arange(len(shown)), [shortened(record.name, limit=28) for record in shown])
    for row, column in np.argwhere(np.isfinite(values)):
        colour = "white" if abs(values[row, column]) > 0.6 else INK
        axes.text(column, row, f"{values[row, column]:.1f}", ha="center", va="center", fontsize=6.5, color=colour)
    figure.colorbar(image, ax=axes, label="weighted Kendall")
    axes.set_title(title)
    return figure
