"""Curves of section 6: source size (Fig. 3), target size (Figs. 4 and 8 to 10), seeds of one source (Fig. 11)."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.analyses import Analyses, Extras
from analysis.factor_studies import SizeLine, target_size_gains
from analysis.report.figure_style import INK, MUTED, PALETTE, one_panel, quiet, shortened, zero_line

_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")


def draw_source_size(analyses: Analyses, extras: Extras) -> Figure | str:
    """Fig. 3: average gain by the number of rows that the source model was finetuned on."""
    found = analyses.factors
    if not found.source_lines:
        return found.source_lines_reason
    return _size_figure(found.source_lines, "source", f"average gain over {len(analyses.study.tasks)} targets, points")


def draw_target_size(analyses: Analyses, extras: Extras) -> Figure | str:
    """Fig. 4: gain by the number of training rows of the target, averaged over base models."""
    found = analyses.factors
    if not found.target_lines:
        return found.target_lines_reason
    return _size_figure(found.target_lines, "target", "average gain over base models, points")


def _size_figure(lines: tuple[SizeLine, ...], kind: str, label: str) -> Figure:
    figure, axes = one_panel()
    zero_line(axes)
    for place, line in enumerate(lines):
        axes.errorbar(
            line.sizes, line.mean, yerr=np.where(np.isfinite(line.se), line.se, 0.0), capsize=2, markersize=4, linewidth=1.3,
            color=PALETTE[place % len(PALETTE)], marker=_MARKS[place // len(PALETTE) % len(_MARKS)], label=line.name,
        )  # fmt: skip
    _size_axis(axes, sorted({size for line in lines for size in line.sizes}))
    axes.set_xlabel(f"training rows of the {kind} task")
    axes.set_ylabel(label)
    axes.set_title(f"Gain and {kind} size (bars: one standard error)")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _size_axis(axes: Axes, sizes: list[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=35 if len(sizes) > 6 else 0)
    axes.minorticks_off()


def draw_u_shapes(analyses: Analyses, extras: Extras) -> Figure | str:
    """Figs. 8 to 10: for each target, a line a base model, and what the test for a U-shape says."""
    found = analyses.factors
    if not found.target_lines:
        return found.target_lines_reason
    sizes = sorted(extras.by_target_size)
    columns = min(3, len(found.u_shapes))
    rows = math.ceil(len(found.u_shapes) / columns)
    figure = Figure(figsize=(1.2 + 3.1 * columns, 0.6 + 2.5 * rows), layout="constrained")
    drawn = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (task, shape) in zip(drawn, found.u_shapes, strict=False):
        quiet(axes)
        zero_line(axes)
        bases, gains = target_size_gains(extras.by_target_size, task)
        for place, (base, gain) in enumerate(zip(bases, gains, strict=True)):
            name = shortened(base, limit=30)
            axes.plot(
                sizes, gain, marker="o", markersize=2.5, linewidth=0.9, color=PALETTE[place % len(PALETTE)], label=name
            )
        if len(bases):
            axes.plot(sizes, gains.mean(axis=0), color=INK, linewidth=2.0, label="average")
        _size_axis(axes, sizes)
        axes.tick_params(labelsize=7)
        axes.set_title(f"{task}: p(U) = {shape.p:.2f}" if not shape.reason else task, fontsize=9)
    for axes in drawn[len(found.u_shapes) :]:
        axes.set_visible(False)
    handles, labels = drawn[0].get_legend_handles_labels()
    if len(labels) <= 13:
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    figure.supxlabel("training rows of the target", fontsize=9, color=INK)
    figure.supylabel("gain, points", fontsize=9, color=INK)
    return figure


def draw_seeds(analyses: Analyses, extras: Extras) -> Figure | str:
    """Fig. 11: score on the source task against the average score on the targets, a point a seed."""
    found = analyses.factors
    if not found.seeds:
        return found.seeds_reason
    figure, axes = one_panel()
    for place, each in enumerate(found.seeds):
        r = each.spread.association
        text = f"Pearson {r.pearson:.2f}, p {r.pearson_p:.2g}" if not r.reason else r.reason
        axes.scatter(100 * each.source_score, 100 * each.target_average, s=24, color=PALETTE[place % len(PALETTE)],
                     label=f"{each.task}, {len(each.seeds)} seeds: {text}")  # fmt: skip
        for seed, x, y in zip(each.seeds, 100 * each.source_score, 100 * each.target_average, strict=True):
            axes.annotate(str(seed), (x, y), (3, 3), textcoords="offset points", fontsize=6.5, color=MUTED)
    axes.set_xlabel("score on the source task, points")
    axes.set_ylabel("average score on the targets, points")
    axes.set_title("One source, many seeds")
    axes.legend(loc="best")
    return figure
