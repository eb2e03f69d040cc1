"""The summary of a fuzz run."""

from __future__ import annotations

import pytest

from tests.fuzz import surface


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Inputs, refusals and seconds by surface."""
    if not surface.LONG or not surface.inputs:
        return
    terminalreporter.write_line(f"{'surface':<34}{'inputs':>9}{'refused':>9}{'seconds':>9}")
    for name, count in sorted(surface.inputs.items()):
        terminalreporter.write_line(f"{name:<34}{count:>9,}{surface.refused[name]:>9,}{surface.seconds[name]:>9.0f}")
    total = surface.inputs.total(), surface.refused.total(), surface.seconds.total()
    terminalreporter.write_line(f"{'all':<34}{total[0]:>9,}{total[1]:>9,}{total[2]:>9.0f}")
