"""Numbers as text."""

from __future__ import annotations

import math

import pytest

from analysis.report.site import ArchReport
from analysis.report.site.numbers import interval, p_value, points, rank_span, seeds, signed, yes_no


@pytest.mark.parametrize(
    ("value", "text"), [(0.004, "0.00"), (-0.004, "0.00"), (1.005, "+1.00"), (-2.5, "-2.50"), (math.nan, "–")]
)
def test_signed(value: float, text: str) -> None:
    assert signed(value) == text


def test_others(small: ArchReport) -> None:
    up, untested = small.models[0], small.models[-1]
    assert (points(78.234), points(math.nan)) == ("78.23", "–")
    assert (p_value(0.0004), p_value(0.0126), p_value(math.nan)) == ("<0.001", "0.013", "–")
    assert interval(up) == "-2.02 to +22.02" and interval(untested) == "–" and rank_span(untested) == "–"
    assert rank_span(up) == ("1" if up.rank_low == up.rank_high else f"{up.rank_low}–{up.rank_high}")
    assert (yes_no(None), yes_no(True), yes_no(False)) == ("not known", "yes", "no")
    assert seeds(small) == "2 seeds"
