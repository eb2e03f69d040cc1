"""What a running sweep shows: done, running, failed, time left; a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.text import Text

if TYPE_CHECKING:
    from ray_app.sweeps.plan import PlannedCell

PLAIN_EVERY_S = 15.0
"""Seconds between progress lines where there is no terminal."""


def spell_time(seconds: float) -> str:
    """Seconds as '45 s', '3 min 20 s' or '2 h 05 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@dataclass
class SweepProgress:
    """Counts of a sweep, fed by the runner; draws itself."""

    total: int
    total_cost: float
    console: Console
    clock: Callable[[], float] = time.monotonic
    done: int = 0
    failed: int = 0
    running: dict[str, str] = field(default_factory=dict)
    """Trial -> what it is doing."""
    done_cost: float = 0.0

    def __post_init__(self) -> None:
        self._began = self.clock()
        self._printed = self._began
        self._live: Live | None = None

    def __enter__(self) -> SweepProgress:
        if self.console.is_terminal:
            self._live = Live(self._text(), console=self.console, refresh_per_second=4, transient=True)
            self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.__exit__(None, None, None)
        self.console.print(self.line())

    def extend(self, cells: Sequence[PlannedCell]) -> None:
        """More cells are to be run than was known."""
        self.total += len(cells)
        self.total_cost += sum(cell.cost for cell in cells)

    def started(self, trial: str, what: str) -> None:
        """A trial began."""
        self.running[trial] = what
        self._draw()

    def reported(self, trial: str, what: str) -> None:
        """A trial validated."""
        self.running[trial] = what
        self._draw()

    def ended(self, trial: str, *, cost: float, failed: bool) -> None:
        """A trial ended."""
        self.running.pop(trial, None)
        self.done += not failed
        self.failed += failed
        self.done_cost += cost
        self._draw()

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the work done so far; None before any is done."""
        if not self.done_cost:
            return None
        elapsed = self.clock() - self._began
        return elapsed * max(0.0, self.total_cost - self.done_cost) / self.done_cost

    def line(self) -> str:
        """The counts in one line."""
        left = self.seconds_left
        eta = f", about {spell_time(left)} left" if left is not None and self.done + self.failed < self.total else ""
        elapsed = spell_time(self.clock() - self._began)
        return (
            f"cells: {self.done}/{self.total} done, {len(self.running)} running, {self.failed} failed, {elapsed}{eta}"
        )

    def _text(self) -> Text:
        return Text("\n".join([self.line(), *(f"  {what}" for what in list(self.running.values())[:8])]))

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(self._text())
        elif self.clock() - self._printed >= PLAIN_EVERY_S:
            self._printed = self.clock()
            self.console.print(self.line(), highlight=False)
