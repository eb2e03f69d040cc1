"""Figures 3 to 7 of the two-phase paper, of recorded curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.report.figure_style import INK, MUTED, PALETTE, quiet, shortened
from analysis.selection.performance import PerformanceMatrix
from analysis.selection.replay import TargetRecord
from analysis.selection.replay_tables import ReplayedTarget
from analysis.selection.trend_quality import TrendQuality
from analysis.selection.trends import mine_trends

MOST_PANELS = 9
"""Targets drawn in one figure; the tables hold all."""
_SHOWN = 10
_BARS = ("successive_halving", "fine_selection", "tied")
_NO_CURVES = "no curves are recorded, only final scores"


def draw_curves(targets: Sequence[TargetRecord]) -> Figure | str:
    """Fig. 3: validation scores of the first ten recalled on each target, and their test scores at the end."""
    shown = [target for target in targets if any(target.curves.values())]
    if not shown:
        return _NO_CURVES

    def panel(axes: Axes, target: TargetRecord) -> None:
        for place, (name, curve) in enumerate(target.first(_SHOWN).items()):
            colour = PALETTE[place % len(PALETTE)]
            stages = np.arange(1, len(curve) + 1)
            axes.plot(stages, curve, color=colour, marker=".", linewidth=1.2, label=shortened(name, limit=30))
            axes.plot(len(curve) + 0.6, target.finals[name], marker="D", color=colour, markersize=4)
        axes.set_title(target.task)
        axes.set_xlabel("stage (diamond: test)")
        axes.legend(fontsize=5.5, loc="best")

    return _panels(shown, panel, title="Fig. 3: the first ten recalled, validation by stage and test")


def draw_trends(record: PerformanceMatrix, *, n_trends: int) -> Figure | str:
    """Fig. 4: one model on every benchmark task, coloured by its trend at the first stage."""
    counts = [int(np.isfinite(record.validation[row, :, 0]).sum()) if record.n_stages else 0 for row in _rows(record)]
    if not counts or max(counts) < 2:
        return _NO_CURVES
    base = record.base_models[int(np.argmax(counts))]
    trends = mine_trends(record, base, 1, n_trends=n_trends)
    if trends is None:
        return f"{base} has no task with both a first stage and a test score"
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.add_subplot()
    quiet(axes)
    for column, trend in enumerate(trends.labels.tolist()):
        if trend < 0:
            continue
        curve = record.validation[record.row(base), column]
        known = np.flatnonzero(np.isfinite(curve))
        colour = PALETTE[trend % len(PALETTE)]
        axes.plot(known + 1, curve[known], color=colour, linewidth=1.1, marker=".")
        axes.plot(record.n_stages + 0.6, record.test[record.row(base), column], marker="D", color=colour, markersize=4)
    axes.set_xlabel("stage (diamond: test)")
    axes.set_ylabel("score")
    groups = len(trends.test)
    figure.suptitle(
        f"Fig. 4: {shortened(base)} on {sum(trends.n_tasks)} benchmark tasks, {groups} trends at stage 1",
        x=0.01,
        ha="left",
        fontsize=10.5,
        weight="bold",
        color=INK,
    )
    return figure


def draw_recall(targets: Sequence[TargetRecord]) -> Figure | str:
    """Fig. 5: average test score of the first K recalled against that of K models at random."""
    shown = [target for target in targets if len(target.recalled) > 1]
    if not shown:
        return "no target has two base models with a test score"

    def panel(axes: Axes, target: TargetRecord) -> None:
        scores = np.array([target.finals[name] for name in target.recalled])
        k = np.arange(1, scores.size + 1)
        label = "coarse recall" if target.with_proxies else "by average alone"
        axes.plot(k, np.cumsum(scores) / k, color=PALETTE[0], label=label)
        axes.axhline(scores.mean(), color=PALETTE[1], label="random (expected)")
        axes.axvline(int(np.argmax(scores)) + 1, color=MUTED, linestyle=":", linewidth=0.9, label="place of the best")
        axes.set_title(target.task)
        axes.set_xlabel("K")
        axes.legend(fontsize=6.5)

    return _panels(shown, panel, title="Fig. 5: average test score of the first K recalled")


def draw_trend_quality(found: Sequence[TrendQuality]) -> Figure | str:
    """Fig. 6: silhouette of trends against random groups, and error of their predictions against the mean of all tasks."""
    shown = [one for one in found if math.isfinite(one.silhouette) or math.isfinite(one.error)]
    if not shown:
        return _NO_CURVES
    figure = Figure(figsize=(8.6, 1.4 + 0.26 * len(shown)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    rows = np.arange(len(shown))
    pairs = (
        ([one.silhouette for one in shown], [one.silhouette_random for one in shown], "silhouette", "random groups"),
        ([one.error for one in shown], [one.error_of_mean for one in shown], "relative error", "mean of all tasks"),
    )
    for axes, (ours, plain, label, other) in zip(panels, pairs, strict=True):
        quiet(axes)
        axes.barh(rows - 0.2, ours, height=0.4, color=PALETTE[0], label="trends")
        axes.barh(rows + 0.2, plain, height=0.4, color=PALETTE[4], label=other)
        axes.set_xlabel(label)
        axes.legend(fontsize=6.5, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    panels[0].set_yticks(rows, [shortened(one.base_model, limit=30) for one in shown], fontsize=7)
    figure.suptitle("Fig. 6: trends at stage 1", x=0.01, ha="left", fontsize=10.5, weight="bold", color=INK)
    return figure


def draw_chosen(replayed: Sequence[ReplayedTarget]) -> Figure | str:
    """Fig. 7: test score of the chosen model by policy, among the first K and among all, between best and worst of the first K."""
    shown = [one for one in replayed if any(one.target.curves.values())]
    if not shown:
        return _NO_CURVES

    def panel(axes: Axes, one: ReplayedTarget) -> None:
        names = [name for name in _BARS if name in one.first]
        for place, name in enumerate(names):
            for offset, found in ((-0.2, one.first), (0.2, one.all)):
                colour = PALETTE[0] if offset < 0 else PALETTE[4]
                axes.bar(place + offset, found[name].test_score, width=0.38, color=colour)
        first = [one.target.finals[name] for name in one.target.recalled[: one.k]]
        axes.axhline(max(first), color=PALETTE[2], linewidth=0.9, label=f"best of the first {one.k}")
        axes.axhline(min(first), color=PALETTE[1], linewidth=0.9, label=f"worst of the first {one.k}")
        axes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names], fontsize=7)
        spread = max(max(first) - min(first), 0.01)
        axes.set_ylim(min(first) - spread, max(first) + spread)
        axes.set_title(one.target.task)
        axes.legend(fontsize=5.5)

    return _panels(shown, panel, title="Fig. 7: the chosen model (blue: first K, orange: all)")


def _rows(record: PerformanceMatrix) -> range:
    return range(len(record.base_models))


_One = TypeVar("_One", TargetRecord, ReplayedTarget)


def _panels(shown: Sequence[_One], panel: Callable[[Axes, _One], None], *, title: str) -> Figure:
    """Small multiples, at most ``MOST_PANELS``."""
    drawn = shown[:MOST_PANELS]
    across = min(3, len(drawn))
    down = -(-len(drawn) // across)
    figure = Figure(figsize=(1.0 + 3.6 * across, 0.6 + 2.9 * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for axes, one in zip(grid.flat, drawn, strict=False):
        quiet(axes)
        panel(axes, one)
    for axes in grid.flat[len(drawn) :]:
        axes.set_axis_off()
    more = f" ({len(drawn)} of {len(shown)} targets)" if len(shown) > len(drawn) else ""
    figure.suptitle(title + more, x=0.01, ha="left", fontsize=10.5, weight="bold", color=INK)
    return figure
