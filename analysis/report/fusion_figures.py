"""Curves of collaborative descent: gain after every iteration, against what it is held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.report.figure_style import INK, PALETTE, quiet, shortened, zero_line


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Gains along the iterations of a loop, points."""

    name: str
    x: Sequence[float]
    gain: Sequence[float]
    se: Sequence[float | None]
    """Standard errors; None: not known."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Curves that belong together, and levels that they are held against."""

    title: str
    x_label: str
    curves: Sequence[Curve]
    levels: Sequence[tuple[str, float]] = ()
    """(name, gain) of base models that are no iterations."""


def draw_curves(panels: Sequence[Panel], *, title: str) -> Figure | str:
    """Panels side by side, a band of one standard error around each curve; every curve begins with the pretrained model at 0."""
    shown = [panel for panel in panels if any(len(curve.x) for curve in panel.curves)]
    if not shown:
        return "no iteration was tried on any target"
    figure = Figure(figsize=(1.2 + 4.4 * len(shown), 4.2), layout="constrained")
    for axes, panel in zip(np.atleast_1d(figure.subplots(1, len(shown))), shown, strict=True):
        _draw(axes, panel)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, fontweight="bold", color=INK)
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    quiet(axes)
    zero_line(axes)
    for index, curve in enumerate(panel.curves):
        colour = PALETTE[index % len(PALETTE)]
        x, y = np.array([0.0, *curve.x]), np.array([0.0, *curve.gain])
        noise = np.array([0.0, *(np.nan if se is None else se for se in curve.se)])
        axes.plot(x, y, "o-", color=colour, markersize=3.5, linewidth=1.6, label=shortened(curve.name))
        axes.fill_between(x, y - noise, y + noise, color=colour, alpha=0.15, linewidth=0)
    for index, (name, gain) in enumerate(panel.levels):
        colour = PALETTE[(len(panel.curves) + index) % len(PALETTE)]
        axes.axhline(gain, color=colour, linewidth=1.1, linestyle=(0, (4, 2)), label=shortened(name))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel("gain over the pretrained model, points")
    axes.legend(loc="best")
