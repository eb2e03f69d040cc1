"""What a running sweep says; a clock that the test turns."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ray_app.sweeps.progress import PLAIN_EVERY_S, SweepProgress, spell_time


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (90061, "25 h 01 min"),
    ],
)
def test_times(seconds: float, text: str) -> None:
    assert spell_time(seconds) == text


def test_counts_and_time_left() -> None:
    clock = Clock()
    out = io.StringIO()
    progress = SweepProgress(total=3, total_cost=10.0, console=Console(file=out, width=200), clock=clock)
    assert progress.seconds_left is None
    progress.started("t1", "a on b")
    clock.now = 8.0
    progress.ended("t1", cost=4.0, failed=False)
    assert progress.seconds_left == pytest.approx(12.0)
    assert progress.line() == "cells: 1/3 done, 0 running, 0 failed, 8 s, about 12 s left"
    progress.started("t2", "c")
    progress.ended("t2", cost=6.0, failed=True)
    assert progress.line() == "cells: 1/3 done, 0 running, 1 failed, 8 s, about 0 s left"
    assert out.getvalue() == ""
    clock.now = 8.0 + PLAIN_EVERY_S
    progress.started("t3", "d")
    assert out.getvalue().count("cells:") == 1, "one plain line at a time where there is no terminal"
    with progress:
        pass
    assert out.getvalue().count("cells:") == 2
