"""Every figure of `make analyze`: drawn where the cells for it exist, else named with the requirement that failed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from analysis.analyses import Analyses, Extras
from analysis.report.factor_figures import draw_seeds, draw_source_size, draw_target_size, draw_u_shapes
from analysis.report.figure_style import store_figure, styled
from analysis.report.gain_figures import draw_gain_matrix, draw_probe, draw_sensitivity, draw_std_matrix


@dataclass(frozen=True, kw_only=True)
class DrawnFigure:
    """A figure that was drawn, or why it was not."""

    name: str
    files: tuple[Path, ...] = ()
    reason: str = ""


GAIN_FIGURES = {
    "gain_matrix": draw_gain_matrix,
    "std_matrix": draw_std_matrix,
    "probe": draw_probe,
    "sensitivity": draw_sensitivity,
}
FACTOR_FIGURES = {
    "source_size": draw_source_size,
    "target_size": draw_target_size,
    "u_shape": draw_u_shapes,
    "source_seeds": draw_seeds,
}


def draw_figures(analyses: Analyses, extras: Extras, folder: Path, *, stem: str) -> tuple[DrawnFigure, ...]:
    """Draw what can be drawn to ``folder``/``stem``-<figure>.png and .svg.

    Raises:
        OSError: the folder cannot be written.
    """
    drawn: list[DrawnFigure] = []
    with styled():
        for name, draw in GAIN_FIGURES.items():
            drawn.append(_stored(name, draw(analyses), folder / f"{stem}-{name}"))
        for name, draw_factor in FACTOR_FIGURES.items():
            drawn.append(_stored(name, draw_factor(analyses, extras), folder / f"{stem}-{name}"))
    return tuple(drawn)


def _stored(name: str, outcome: Figure | str, stem: Path) -> DrawnFigure:
    if isinstance(outcome, str):
        for suffix in (".png", ".svg"):  # a figure of earlier cells would pass for one of these
            stem.with_name(stem.name + suffix).unlink(missing_ok=True)
        return DrawnFigure(name=name, reason=outcome)
    return DrawnFigure(name=name, files=store_figure(outcome, stem))
