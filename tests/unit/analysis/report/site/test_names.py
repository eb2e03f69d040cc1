"""File names of untrusted names: never two alike, never out of their folder; texts in which nothing is hidden."""

from __future__ import annotations

import hashlib
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.report.site.names import file_stems
from tracking.names import LONGEST


def test_a_plain_name_keeps_the_published_form() -> None:
    assert file_stems(["google/t5-v1_1-base"]) == {"google/t5-v1_1-base": "google_t5-v1_1-base"}


def test_names_that_would_share_a_file_are_told_apart_whatever_their_order() -> None:
    names = ["a/b", "a_b", "A/b", "c/d"]
    stems = file_stems(names)
    assert stems == file_stems(reversed(names))
    assert len({stem.casefold() for stem in stems.values()}) == 4
    assert stems["c/d"] == "c_d"
    assert stems["a/b"] == "a_b~" + hashlib.sha256(b"a/b").hexdigest()[:8]


def test_hidden_reserved_empty_and_long_names_are_marked() -> None:
    stems = file_stems(["..", ".git", "con", "CON.txt", "", "-rf", "x" * 500])
    assert all("~" in stem for stem in stems.values())
    assert not any(stem.startswith((".", "-", "con", "CON")) for stem in stems.values())
    assert max(map(len, stems.values())) <= LONGEST + 10


@settings(deadline=None)
@given(st.lists(st.text(max_size=30), unique=True, max_size=30))
def test_no_name_leaves_its_folder_or_takes_another_ones_file(names: list[str]) -> None:
    stems = file_stems(names)
    assert set(stems) == set(names)
    assert len({stem.casefold() for stem in stems.values()}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.~-]*", stem) for stem in stems.values())
