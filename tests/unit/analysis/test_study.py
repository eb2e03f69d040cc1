"""Studies and their parts."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.study import SETS, group_of, part_of
from tests.study_factory import made_of, make_study

GROUPS = {
    "mnli": ("general", "nli", "site36"),
    "cola": ("general", "site36"),
    "irony": ("twitter",),
    "imdb": ("site36",),
}
GAIN = np.arange(12.0).reshape(3, 4)
STUDY = make_study(GAIN, tasks=list(GROUPS), origins=[made_of("cola"), None, made_of("imdb")], probe=[1, 2, 3])


@pytest.mark.parametrize(
    ("memberships", "group"),
    [
        (("general", "nli"), "nli"),
        (("general",), "general"),
        (("twitter", "site36"), "twitter"),
        (("site36",), "other"),
        ((), "other"),
    ],
)
def test_a_task_counts_in_one_group_as_in_table_2(memberships: tuple[str, ...], group: str) -> None:
    assert group_of(memberships) == group


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [
        ("in_house", [0, 2], [0, 1, 2, 3]),
        ("off_the_shelf", [1], [0, 1, 2, 3]),
        ("general", [0, 1, 2], [0, 1]),
        ("nli", [0, 1, 2], [0]),
        ("twitter", [0, 1, 2], [2]),
        (None, [0, 1, 2], [0, 1, 2, 3]),
    ],
)
def test_parts_keep_rows_and_columns_together(name: str | None, rows: list[int], columns: list[int]) -> None:
    part = part_of(STUDY, name, GROUPS)
    assert part.gain == pytest.approx(GAIN[np.ix_(rows, columns)])
    assert part.bases == tuple(STUDY.bases[row] for row in rows) and list(part.probe) == [row + 1 for row in rows]
    assert part.tasks == tuple(STUDY.tasks[column] for column in columns)


def test_every_set_is_tried_above() -> None:
    assert set(SETS) == {"in_house", "off_the_shelf", "general", "nli", "twitter"}


def test_an_empty_part_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match=r"set twitter holds 3 base models and 0 targets"):
        part_of(make_study(GAIN), "twitter", {})
    with pytest.raises(ValueError, match=r"set in_house holds 0 base models"):
        part_of(make_study(GAIN), "in_house", GROUPS)


def test_averages_need_every_task() -> None:
    study = make_study([[1.0, 3.0], [np.nan, 2.0]])
    assert study.average == pytest.approx([2.0, np.nan], nan_ok=True) and list(study.complete) == [True, False]
