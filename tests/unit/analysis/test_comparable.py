"""Which tasks a ranking is over, and in which order the gate sees them."""

from __future__ import annotations

import pyarrow as pa
import pytest

from analysis.comparable import tasks_to_rank
from tracking.published_format import TASKS


def cells(pairs: list[tuple[str, str]]) -> pa.Table:
    return pa.table({"base_model": [base for base, _ in pairs], "task": [task for _, task in pairs]})


def test_published_order_first_then_by_name() -> None:
    """Shifts are undone along the order of the published file; by name most shifted rows cannot be decoded."""
    names = ["zebra", *reversed(TASKS), "apple"]
    kept, notes = tasks_to_rank(cells([("p", name) for name in names]), cells([("m", name) for name in names]))
    assert kept == (*TASKS, "apple", "zebra") and notes == []


def test_a_task_that_few_base_models_have_does_not_make_the_others_incomplete() -> None:
    others = cells([("m", "rte"), ("n", "rte"), ("o", "rte"), ("m", "cola")])
    kept, notes = tasks_to_rank(cells([("p", "rte"), ("p", "cola")]), others)
    assert kept == ("rte",) and "cola" in notes[0]


def test_nothing_in_common() -> None:
    with pytest.raises(ValueError, match="no task to rank over"):
        tasks_to_rank(cells([("p", "rte")]), cells([("m", "cola")]), wanted=["cola"])
