"""How figures look and are stored: one canvas, one palette, PNG and SVG of the same drawing."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

FloatArray = npt.NDArray[np.float64]

INK, MUTED, GRID = "#1f2430", "#6b7280", "#e3e6eb"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c564b", "#17becf", "#bcbd22")
"""Okabe and Ito's colours first: they stay apart for colour-blind readers."""
DPI = 130
_STYLE = {
    "font.size": 9.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.parse_math": False,  # names may hold what would start a formula
    "svg.hashsalt": "startline",
    "svg.fonttype": "none",
    "legend.frameon": False,
    "legend.fontsize": 8.0,
}


def shortened(name: str, *, limit: int = 46) -> str:
    """A name cut in its middle: both its owner and its end tell models apart."""
    if len(name) <= limit:
        return name
    head = limit // 2 - 1
    return f"{name[:head]}…{name[-(limit - head - 1) :]}"


def styled() -> AbstractContextManager[None]:
    """Context in which figures are drawn and stored."""
    return matplotlib.rc_context(_STYLE)  # type: ignore[arg-type]


def one_panel(width: float = 6.4, height: float = 4.4) -> tuple[Figure, Axes]:
    """A figure with one set of axes, in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    quiet(axes)
    return figure, axes


def quiet(axes: Axes) -> None:
    """Light grid, no frame on top and right."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def long_title(axes: Axes, text: str) -> None:
    """A title broken into lines that fit the figure."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    wrapped = textwrap.fill(text, int(11 * figure.get_figwidth()))
    figure.suptitle(wrapped, x=0.01, ha="left", fontsize=10.5, weight="bold", color=INK)


def zero_line(axes: Axes) -> None:
    """Gain 0: the pretrained model."""
    axes.axhline(0, color=MUTED, linewidth=0.9, zorder=1)


def label_points(
    axes: Axes, x: npt.ArrayLike, y: npt.ArrayLike, names: Sequence[str], *, most: int = 12, limit: int = 34
) -> None:
    """Name the points that lie furthest out, each where it covers neither another name nor another point.

    Args:
        axes: after its limits are final and its legend, which names do not cover, is drawn.
        x, y: (n,) positions; NaN ones are left alone.
        names: n names.
        most: how many names at most.
        limit: characters of a name.
    """
    at = np.column_stack([np.asarray(x, dtype=float), np.asarray(y, dtype=float)])
    known = np.flatnonzero(np.isfinite(at).all(axis=1))
    if not known.size:
        return
    spread = np.ptp(at[known], axis=0)
    scaled = (at[known] - np.median(at[known], axis=0)) / np.where(spread > 0, spread, 1.0)
    order = known[np.argsort(-np.hypot(*scaled.T), kind="stable")]
    canvas = FigureCanvasAgg(axes.get_figure(root=True))
    canvas.draw()
    renderer = canvas.get_renderer()
    frame, marks = axes.get_window_extent(renderer), axes.transData.transform(at[known])
    legend = axes.get_legend()
    taken: list[Bbox] = [legend.get_window_extent(renderer)] if legend is not None else []
    most += len(taken)
    for index in order:
        if len(taken) == most:
            return
        for dx, dy, side in ((5, 3, "left"), (-5, 3, "right"), (5, -9, "left"), (-5, -9, "right")):
            text = axes.annotate(
                shortened(names[index], limit=limit), at[index], (dx, dy), textcoords="offset points", ha=side,
                fontsize=7, color=INK,
            )  # fmt: skip
            box = text.get_window_extent(renderer)
            within = box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 and box.y1 <= frame.y1
            if within and not box.count_contains(marks) and not box.count_overlaps(taken):
                taken.append(box)
                break
            text.remove()


def store_figure(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Write ``stem``.png and ``stem``.svg; equal figures give equal files.

    Raises:
        OSError: the folder cannot be written.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = stem.with_name(stem.name + ".png"), stem.with_name(stem.name + ".svg")
    figure.savefig(paths[0], dpi=DPI, metadata={"Software": None})
    figure.savefig(paths[1], metadata={"Date": None})
    return paths
