"""The matrices (Figs. 1 and 5) and the scatters (Fig. 2, section 4.1)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure

from analysis.analyses import N_STD, Analyses
from analysis.gain_matrix import order_by_group
from analysis.probe_gain import FamilyInfluence, ProbeFit
from analysis.published_tables import PublishedLine
from analysis.report.figure_style import (
    INK,
    MUTED,
    PALETTE,
    label_points,
    long_title,
    one_panel,
    shortened,
    zero_line,
)
from analysis.study import GROUP_ORDER, GainStudy

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MOST_ROWS = 60
"""Rows that a matrix shows; of more, the best, the worst and as many between are shown."""
_SOURCE_ORDER = (*GROUP_ORDER, "")


def draw_gain_matrix(analyses: Analyses) -> Figure | str:
    """Fig. 1: gains by base model and target, significant gains in italics."""
    study = analyses.study
    rows, columns, skipped = _layout(analyses)
    marks = analyses.beyond_noise
    note = (
        f"italic: more than {N_STD:g} standard errors above 0"
        if not marks.reason
        else "significance unknown: " + marks.reason
    )
    title = f"Gain over {study.pretrained}, points ({note})"
    bound = float(np.nanpercentile(np.abs(study.gain), 98)) or 1.0
    norm = TwoSlopeNorm(0.0, vmin=-bound, vmax=bound)
    return _matrix(
        analyses, study.gain, rows, columns, skipped, title=title, norm=norm, cmap="RdBu", italic=marks.better
    )


def draw_std_matrix(analyses: Analyses) -> Figure | str:
    """Fig. 5: standard deviation of each cell over its seeds."""
    rule = analyses.paper_rule
    if not np.isfinite(rule.std).any():
        return rule.reason or "no cell has two seeds"
    rows, columns, skipped = _layout(analyses)
    bound = float(np.nanpercentile(rule.std, 98)) or 1.0
    title = "Standard deviation over seeds, points"
    norm = Normalize(0.0, bound)
    return _matrix(analyses, rule.std, rows, columns, skipped, title=title, norm=norm, cmap="Purples", italic=None)


def _layout(analyses: Analyses) -> tuple[IntArray, IntArray, list[int]]:
    """Row and column order of Fig. 1; of too many rows the best, the worst and some between, and after which there is a gap."""
    study = analyses.study
    average = _present_mean(study.gain, axis=1)
    rows = order_by_group(average, study.source_groups, group_order=_SOURCE_ORDER)
    columns = order_by_group(_present_mean(study.gain, axis=0), study.target_groups, group_order=GROUP_ORDER)
    if len(rows) <= MOST_ROWS:
        return rows, columns, []
    third = MOST_ROWS // 3
    middle = np.linspace(third, len(rows) - third - 1, third + 2).round().astype(int)[1:-1]
    shown = np.concatenate([np.arange(third), middle, np.arange(len(rows) - third, len(rows))])
    return rows[shown], columns, [third - 1, 2 * third - 1]


def _present_mean(values: FloatArray, *, axis: int) -> FloatArray:
    known = np.isfinite(values)
    n = known.sum(axis=axis)
    return np.asarray(np.where(n > 0, np.where(known, values, 0.0).sum(axis=axis) / np.maximum(n, 1), np.nan))


def _matrix(
    analyses: Analyses,
    values: FloatArray,
    rows: IntArray,
    columns: IntArray,
    skipped: list[int],
    *,
    title: str,
    norm: Normalize,
    cmap: str,
    italic: npt.NDArray[np.bool_] | None,
) -> Figure:
    """Cells as numbers on colour, averages as a last column, groups apart by a line."""
    study = analyses.study
    shown = values[np.ix_(rows, columns)]
    table = np.column_stack([shown, _present_mean(values, axis=1)[rows]])
    names = [shortened(study.bases[row]) for row in rows]
    width = 1.4 + 0.075 * max(map(len, names)) + 0.46 * table.shape[1]
    figure, axes = one_panel(width, 1.7 + 0.2 * max(len(rows), 4))
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    image = axes.imshow(table, cmap=cmap, norm=norm, aspect="auto", interpolation="none")
    colours = image.to_rgba(table)
    for (i, j), value in np.ndenumerate(table):
        if np.isfinite(value):
            inside = j < shown.shape[1]
            slanted = italic is not None and inside and bool(italic[rows[i], columns[j]])
            red, green, blue, _ = colours[i, j]
            axes.text(
                j, i, f"{value:.1f}", ha="center", va="center", fontsize=6.6, style="italic" if slanted else "normal",
                weight="bold" if slanted else "normal", color="white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else INK,
            )  # fmt: skip
    axes.set_xticks(
        range(table.shape[1]),
        [*(study.tasks[j] for j in columns), "average"],
        rotation=55,
        ha="right",
        rotation_mode="anchor",
    )
    axes.set_yticks(range(len(rows)), names)
    axes.tick_params(length=0, labelsize=7)
    axes.axvline(shown.shape[1] - 0.5, color="white", linewidth=4)
    for place in _breaks([study.target_groups[j] for j in columns]):
        axes.axvline(place - 0.5, color=INK, linewidth=0.9)
    for place in _breaks([study.source_groups[row] for row in rows]):
        axes.axhline(place - 0.5, color=INK, linewidth=0.9)
    for place in skipped:
        axes.axhline(place + 0.5, color="white", linewidth=6)
    if skipped:
        title += f"; of {len(study.bases)} base models the best {skipped[0] + 1}, as many between, and the worst"
    long_title(axes, title)
    return figure


def _breaks(groups: list[str]) -> list[int]:
    return [place for place in range(1, len(groups)) if groups[place] != groups[place - 1]]


def draw_probe(analyses: Analyses) -> Figure | str:
    """Fig. 2: linear-probe gain on MNLI against average gain."""
    return draw_probe_fit(analyses.study, analyses.probe, analyses.influence)


def draw_probe_fit(
    study: GainStudy, fit: ProbeFit, influence: FamilyInfluence, *, printed: PublishedLine | None = None
) -> Figure | str:
    """Fig. 2 of any study, with the line that the paper prints where there is one."""
    if fit.line.reason:
        return fit.line.reason
    apart = np.array(study.families) == influence.most_influential
    apart = apart if 1 < apart.sum() < len(apart) else np.zeros(len(apart), dtype=bool)
    figure, axes = one_panel()
    zero_line(axes)
    axes.axvline(0, color=MUTED, linewidth=0.9)
    axes.scatter(study.probe[~apart], study.average[~apart], s=16, color=PALETTE[0], alpha=0.7, linewidths=0)
    ends = np.array([np.nanmin(study.probe), np.nanmax(study.probe)])
    found = fit.association
    title = f"Probe and average gain: Pearson {found.pearson:.2f}, Spearman {found.spearman:.2f}, n = {found.n}"
    if apart.any():
        name, place = influence.most_influential, influence.families.index(influence.most_influential)
        label = f"{name} ({int(apart.sum())})"
        axes.scatter(
            study.probe[apart], study.average[apart], s=16, color=PALETTE[1], alpha=0.8, linewidths=0, label=label
        )
        title += f"\nwithout {name}: Pearson {influence.pearson[place]:.2f}, Spearman {influence.spearman[place]:.2f}"
    for slope, intercept, style, of in (
        (fit.line.slope, fit.line.intercept, "-", "least squares"),
        *([(printed.slope, printed.intercept, "--", "as printed")] if printed else []),
    ):
        label = f"{of}: {slope:.4f} LP {intercept:+.3f}"
        axes.plot(ends, intercept + slope * ends, color=INK, linewidth=1.2, linestyle=style, label=label)
    axes.set_xlabel("linear-probe gain on MNLI, points")
    targets = f"{len(study.tasks)} targets" if len(study.tasks) > 1 else study.tasks[0]
    axes.set_ylabel(f"average gain over {targets}, points")
    axes.set_title(title)
    axes.legend(loc="best")
    label_points(axes, study.probe, study.average, study.bases, most=8)
    return figure


def draw_sensitivity(analyses: Analyses) -> Figure | str:
    """Section 4.1: gain of one strong base model against the best gain, a point a target."""
    study, found = analyses.study, analyses.sensitivity
    if found.reason:
        return found.reason
    figure, axes = one_panel()
    zero_line(axes)
    chance = next(iter(analyses.lost.floor.values())).max_gain
    both = np.concatenate([found.strong_gain, found.max_gain])
    ends = np.array([np.nanmin(both), np.nanmax(both)])
    axes.plot(ends, ends, color=MUTED, linewidth=0.9, linestyle="--", label="equal")
    for group, colour in zip(GROUP_ORDER, PALETTE, strict=False):
        here = np.array([name == group for name in study.target_groups])
        if here.any():
            axes.scatter(found.strong_gain[here], found.max_gain[here], s=22, color=colour, linewidths=0, label=group)
    if np.isfinite(chance).any():
        axes.scatter(found.strong_gain, chance, s=26, marker="_", color=MUTED, label="best expected by chance")
    axes.set_xlabel(f"gain of {shortened(study.bases[found.strong])}, points")
    axes.set_ylabel(f"best gain over {len(study.bases)} base models, points")
    r = found.association
    axes.set_title(f"Sensitivity of targets: Pearson {r.pearson:.2f}, Spearman {r.spearman:.2f}, n = {r.n}")
    axes.legend(loc="best")
    label_points(axes, found.strong_gain, found.max_gain, study.tasks, most=14)
    return figure
