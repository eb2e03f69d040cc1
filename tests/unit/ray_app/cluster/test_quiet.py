"""What Ray tells the driver, in one line."""

from __future__ import annotations

import logging

import pytest

from ray_app.cluster.quiet import _log_first_line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Raylet is terminated. Termination is unexpected.\n    [state-dump] a\n    [state-dump] b", "a node was lost"),
        ("\nThe actor cannot be scheduled\nmore", "Ray: The actor cannot be scheduled"),
    ],
)
def test_one_line_for_each(text: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        _log_first_line({"lines": [text], "pid": "raylet", "is_err": False}, ignore_prefix=False)
        _log_first_line({"lines": []})
    (record,) = caplog.records
    assert record.getMessage().startswith(said) and "\n" not in record.getMessage()
