"""Places of bars, colours, ticks and dots, by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.report.site import ArchReport
from analysis.report.site.charts import HEAT_STEPS, Scale, gain_bars, heat_class, heat_legend, scatter, ticks


def test_scale_holds_values_within_its_ends() -> None:
    scale = Scale(low=-10, high=30, start=0, end=1000)
    assert [scale.at(v) for v in (-10, 0, 30, 99, -99)] == [0, 250, 1000, 1000, 0]
    upright = Scale(low=0, high=4, start=400, end=0)
    assert upright.at(1) == 300


def test_bars_of_a_model(small: ArchReport) -> None:
    """Gains of 10, noise 8.66: the band reaches to +-17.32, and is cut where the axis ends, at half as much again as 10."""
    scale, bars = gain_bars(small, small.models[0])
    assert (scale.low, scale.high) == (-15, 15)
    bar = bars[0]
    assert (bar.zero, bar.x, bar.width) == (500, 500, pytest.approx(1000 * 10 / 30, abs=0.1))
    assert (bar.band_x, bar.band_width) == (0, 1000)
    assert bar.css == "up weak" and bar.start == pytest.approx(55)


def test_bars_of_losses_and_of_missing_scores(small: ArchReport) -> None:
    partial = next(m for m in small.models if m.name == "org/partial")
    _, bars = gain_bars(small, partial)
    assert [bar.cell.task for bar in bars] == ["cola", "mnli", "qnli", "rte"]
    assert [bar.drawn for bar in bars] == [True, True, True, False]
    assert bars[1].css == "down weak" and bars[3].note == "failed"
    assert bars[1].x + bars[1].width == pytest.approx(bars[1].zero, abs=2)


def test_a_task_the_model_was_trained_on_is_said(small: ArchReport) -> None:
    _, bars = gain_bars(small, small.models[1])
    assert [bar.note for bar in bars if bar.cell.task == "qnli"] == ["trained on this task"]


@pytest.mark.parametrize(
    ("gain", "css"),
    [
        (math.nan, "o"),
        (0.0, "z"),
        (0.24, "z"),
        (-0.25, "d1"),
        (0.5, "u2"),
        (-1.5, "d3"),
        (3.99, "u4"),
        (7.9, "u5"),
        (50, "u6"),
    ],
)
def test_heat_colours(gain: float, css: str) -> None:
    assert heat_class(gain) == css


def test_legend_names_every_colour_once() -> None:
    classes = [css for css, _ in heat_legend()]
    assert len(classes) == len(set(classes)) == 2 * len(HEAT_STEPS) + 2


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_even_and_inside(low: float, width: float) -> None:
    high = low + width
    if not high - low > 1e-4:
        return
    found = ticks(low, high)
    slack = 1e-6 * (abs(low) + width)
    assert 2 <= len(found) <= 8 and low - slack <= found[0] and found[-1] <= high + slack
    steps = [b - a for a, b in pairwise(found)]
    assert max(steps) == pytest.approx(min(steps), abs=1e-6 + 1e-6 * abs(low))


def test_ticks_by_hand() -> None:
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(-0.3, 0.42) == [-0.2, 0, 0.2, 0.4]
    with pytest.raises(ValueError, match="end above its start"):
        ticks(1, 1)


def test_scatter_places(small: ArchReport) -> None:
    plot = scatter(small)
    assert plot is not None and len(plot.dots) == 3
    highest = min(plot.dots, key=lambda dot: dot.y)
    assert highest.label == "org/up: probe 62.00, gain +10.00" and highest.x == max(dot.x for dot in plot.dots)
    assert all(plot.left <= dot.x <= plot.right and plot.top <= dot.y <= plot.bottom for dot in plot.dots)
    assert plot.band.startswith("M") and plot.band.endswith("Z")
