"""The table of all targets: what it says of a selection and of what others would have come to."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from ray_app.commands.select_report import COLUMNS, comparison_rows, write_comparison


def selection(**changes: Any) -> dict[str, Any]:
    plain = {
        "task": "rte",
        "policy": "fine_selection",
        "chosen": "org/a",
        "test_score": 0.6,
        "epochs_spent": 20.0,
        "epochs_brute_force": 170.0,
        "compared": [
            {
                "method": "brute_force",
                "chosen": "org/b",
                "test_score": 0.61,
                "epochs": 170.0,
                "difference": -0.01,
                "difference_se": 0.04,
            }
        ],
    }
    return plain | changes


def test_ours_comes_first_and_speed_is_against_brute_force() -> None:
    ours, brute = comparison_rows([selection()])
    assert ours == ["rte", "recall + fine_selection", "org/a", 0.6, 20.0, 8.5, None, None]
    assert brute == ["rte", "brute_force", "org/b", 0.61, 170.0, 1.0, -0.01, 0.04]


def test_nothing_to_compare_with_and_nothing_chosen_are_rows_too(tmp_path: Path) -> None:
    plain = selection(compared=[], chosen=None, test_score=None)
    with write_comparison(tmp_path / "comparison.csv", [plain]).open() as file:
        header, row = csv.reader(file)
    assert tuple(header) == COLUMNS
    assert row == ["rte", "recall + fine_selection", "", "", "20.0", "8.5", "", ""]
