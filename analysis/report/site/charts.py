"""Places of marks on the pages' charts: gain bars by task, heat map colours, probe scatter. No text is escaped here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis.report.site.content import ArchReport, ModelReport, TaskCell
from analysis.report.site.numbers import signed

BAR_WIDTH = 1000
"""Width of a bar chart's drawing, stretched to the column on the page."""
HEAT_STEPS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Gains in points, up or down, at which the colour of the heat map changes."""
WHOLE = 9.95
"""Gain in points from which a cell of the heat map has no decimals."""
CUT = 1.5
"""How far the axis of a gain chart follows the noise, in largest gains."""
_TICKS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Straight-line map from values to places."""

    low: float
    high: float
    start: float = 0.0
    """Place of ``low``."""
    end: float = BAR_WIDTH
    """Place of ``high``."""

    def at(self, value: float) -> float:
        """Place of a value, held within the ends, to a tenth."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


@dataclass(frozen=True, kw_only=True)
class GainBar:
    """One task of a model's gain chart."""

    cell: TaskCell
    start: float
    """Score of the pretrained model, points."""
    drawn: bool
    zero: float
    x: float
    width: float
    band_x: float
    band_width: float
    css: str
    note: str


def gain_bars(report: ArchReport, model: ModelReport) -> tuple[Scale, list[GainBar]]:
    """Bars of a model, largest gain first, tasks without a gain last; and their common scale.

    The scale holds every gain, and of the noise no more than half as far again as the largest gain: noisier bands are cut.
    """
    there = [cell for cell in model.cells if not math.isnan(cell.gain)]
    reach = max([1.0, *(CUT * abs(cell.gain) for cell in there)])
    ends = [min(max(end, -reach), reach) for cell in there for end in _band(cell)]
    low = math.floor(round(min([-1.0, *(cell.gain for cell in there), *ends]), 6))
    high = math.ceil(round(max([1.0, *(cell.gain for cell in there), *ends]), 6))
    scale = Scale(low=low, high=high)
    start = {task.task: task.mean for task in report.baseline}
    cells = sorted(model.cells, key=lambda cell: math.inf if math.isnan(cell.gain) else -round(cell.gain, 6))
    return scale, [_bar(cell, scale, start=start[cell.task]) for cell in cells]


def _band(cell: TaskCell) -> tuple[float, ...]:
    return () if math.isnan(cell.noise) else (-2 * cell.noise, 2 * cell.noise)


def _bar(cell: TaskCell, scale: Scale, *, start: float) -> GainBar:
    drawn = not math.isnan(cell.gain)
    ends = sorted((scale.at(0.0), scale.at(cell.gain))) if drawn else (0.0, 0.0)
    band = [scale.at(value) for value in _band(cell)] if drawn and _band(cell) else (0.0, 0.0)
    css = "up" if cell.gain > 0 else "down"
    return GainBar(
        cell=cell,
        start=start,
        drawn=drawn,
        zero=scale.at(0.0),
        x=ends[0],
        width=round(max(ends[1] - ends[0], 2.0), 1),
        band_x=band[0],
        band_width=round(band[1] - band[0], 1),
        css=css if cell.beyond_noise or not _band(cell) else f"{css} weak",
        note=_note(cell),
    )


def _note(cell: TaskCell) -> str:
    words = {
        "repaired": "put back under its name",
        "lost": "lost: overwritten by another task's score",
        "quarantined": "set aside",
        "missing": "no score",
        "failed": "failed",
    }
    notes = [words[cell.status]] if cell.status in words else []
    if cell.trained_on:
        notes.append("trained on this task")
    return "; ".join(notes)


def heat_class(gain: float) -> str:
    """Colour class of a gain: o for none, z around zero, u1 to u6 up, d1 to d6 down."""
    if math.isnan(gain):
        return "o"
    step = sum(abs(gain) >= edge for edge in HEAT_STEPS)
    return "z" if step == 0 else f"{'u' if gain > 0 else 'd'}{step}"


def heat_legend() -> list[tuple[str, str]]:
    """(class, words) of every colour, from losses to gains."""
    steps = len(HEAT_STEPS)
    down = [(f"d{step}", f"≤ {-HEAT_STEPS[step - 1]:g}") for step in range(steps, 0, -1)]
    up = [(f"u{step}", f"≥ {HEAT_STEPS[step - 1]:g}") for step in range(1, steps + 1)]
    return [*down, ("z", "about 0"), *up, ("o", "no trusted score")]


def heat_cell(cell: TaskCell) -> tuple[str, str]:
    """(classes, text) of a cell of the heat map."""
    if math.isnan(cell.gain):
        return "o", "·"
    strong = not math.isnan(cell.noise) and cell.beyond_noise
    return heat_class(cell.gain) + (" s" if strong else ""), signed(cell.gain, 0 if abs(cell.gain) >= WHOLE else 1)


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    value: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A base model in the scatter."""

    x: float
    y: float
    css: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """The drawing of probe score against gain."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    dots: Sequence[Dot]
    band: str
    """Path of the interval around the line; empty without a line."""
    line: str


def scatter(report: ArchReport, *, width: int = 760, height: int = 440) -> Scatter | None:
    """Ranked base models by probe score and gain; None where none has both."""
    models = [m for m in report.ranked if not math.isnan(m.probe) and not math.isnan(m.avg_gain)]
    if not models:
        return None
    x = _scale([m.probe for m in models], start=58.0, end=width - 12.0)
    y = _scale([0.0, *(m.avg_gain for m in models)], start=height - 46.0, end=12.0)
    inside = [step for step in report.probe_fit.band if y.low <= step[1] <= y.high]
    upper = [(x.at(p), y.at(high)) for p, _, _, high in report.probe_fit.band]
    lower = [(x.at(p), y.at(low)) for p, _, low, _ in reversed(report.probe_fit.band)]
    return Scatter(
        width=width,
        height=height,
        left=x.start,
        right=x.end,
        top=y.end,
        bottom=y.start,
        x_ticks=[Tick(at=x.at(value), value=value, label=f"{value:g}") for value in ticks(x.low, x.high)],
        y_ticks=[Tick(at=y.at(value), value=value, label=_plain(value)) for value in ticks(y.low, y.high)],
        dots=[
            Dot(
                x=x.at(m.probe),
                y=y.at(m.avg_gain),
                css=m.standing.value,
                label=f"{m.name}: probe {m.probe:.2f}, gain {signed(m.avg_gain)}",
            )
            for m in models
        ],
        band=_path([*upper, *lower], closed=True),
        line=_path([(x.at(p), y.at(mean)) for p, mean, _, _ in inside], closed=False),
    )


def _plain(value: float) -> str:
    return f"{value:+g}" if value else "0"


def _scale(values: Sequence[float], *, start: float, end: float) -> Scale:
    low, high = min(values), max(values)
    margin = 0.04 * (high - low) or 1.0
    return Scale(low=low - margin, high=high + margin, start=start, end=end)


def _path(places: Iterable[tuple[float, float]], *, closed: bool) -> str:
    text = "L".join(f"{x:g} {y:g}" for x, y in places)
    return f"M{text}{'Z' if closed else ''}" if text else ""


def ticks(low: float, high: float, *, most: int = 8) -> list[float]:
    """Round values within [low, high], at most ``most`` of them, at steps of 1, 2, 2.5 or 5 times a power of ten.

    Raises:
        ValueError: high is not above low.
    """
    if not high > low:
        raise ValueError(f"got an axis from {low} to {high}; expected an end above its start")
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(size * power for size in (*_TICKS, 20.0) if (high - low) / (size * power) <= most - 1 + 1e-9)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 10) for index in range(first, math.floor(high / step + 1e-9) + 1)]
