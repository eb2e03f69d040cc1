"""Numbers as text on the pages; a dash where there is none."""

from __future__ import annotations

import math

from analysis.report.site.content import ArchReport, ModelReport

NONE = "–"


def points(value: float) -> str:
    """Two decimals."""
    return NONE if math.isnan(value) else f"{value:.2f}"


def signed(value: float, digits: int = 2) -> str:
    """With its sign; what rounds to zero has none."""
    if math.isnan(value):
        return NONE
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text


def p_value(value: float) -> str:
    """Three decimals, or below what."""
    if math.isnan(value):
        return NONE
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def interval(model: ModelReport) -> str:
    """The 95 % interval of the average gain."""
    return NONE if math.isnan(model.low) or math.isnan(model.high) else f"{signed(model.low)} to {signed(model.high)}"


def rank_span(model: ModelReport) -> str:
    """Ranks that seeds and tasks like these allow."""
    return _span(model.rank_low, model.rank_high)


def rank_span_seeds(model: ModelReport) -> str:
    """Ranks that seeds allow on these very tasks."""
    return _span(model.rank_low_seeds, model.rank_high_seeds)


def _span(low: int | None, high: int | None) -> str:
    if low is None or high is None:
        return NONE
    return str(low) if low == high else f"{low}–{high}"


def yes_no(value: bool | None) -> str:
    """A fact that may be unknown."""
    return "not known" if value is None else "yes" if value else "no"


def seeds(report: ArchReport) -> str:
    """How many seeds of the pretrained model there are."""
    counts = [task.n_seeds for task in report.baseline]
    low, high = min(counts), max(counts)
    if low != high:
        return f"{low} to {high} seeds"
    return "1 seed" if high == 1 else f"{high} seeds"
