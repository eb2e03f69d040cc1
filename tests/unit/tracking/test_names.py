"""Untrusted names: never two with one file, never out of their folder; texts in which nothing is hidden."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tracking.names import LONGEST, file_name, marked_stem, visible, visible_lines


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("t5-small", "t5-small"),
        ("google/t5-v1_1-base", "google_t5-v1_1-base"),
        ("startline/tiny-doc_kind", "startline_tiny-doc_kind"),
        ("a/b", "a_b"),
    ],
)
def test_a_plain_name_keeps_the_published_form(name: str, expected: str) -> None:
    assert file_name(name) == expected


def test_names_that_would_share_a_file_are_told_apart_without_knowing_each_other() -> None:
    names = ["a/b", "a_b", "a/b_c", "a_b/c", "a/b/c", "a_b_c", "", "_"]
    assert len({file_name(name) for name in names}) == len(names)
    assert file_name("a_b") == "a_b~" + hashlib.sha256(b"a_b").hexdigest()[:8]


HOSTILE = [
    "..", "../../etc/passwd", "/etc/passwd", "C:\\Windows\\x", "\\\\host\\share", "a\0b", "a\nb", "x" * 5000, "gооgle/t5", "con",
    "NUL.txt", "com1", ".git", "-rf", "a.", "a ", "~/x", "$HOME", "%2e%2e", "a\u202eb", "\ud800", "",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    stem = file_name(name)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.~-]*", stem) and "~" in stem and len(stem) <= LONGEST + 10
    path = tmp_path / f"{stem}.csv"
    path.write_text("x")
    assert path.resolve().parent == tmp_path.resolve()


def test_a_look_alike_is_another_file() -> None:
    assert file_name("google/t5") != file_name("gооgle/t5")  # the second is Cyrillic


@settings(deadline=None)
@given(st.lists(st.text("ab_/-.~\u0430", max_size=6), unique=True, max_size=40))
@example(["a_b", "a/b", "a~b", "_", "/", ""])
def test_no_two_names_share_a_file(names: list[str]) -> None:
    assert len({file_name(name) for name in names}) == len(names)


def test_a_marked_stem_belongs_to_one_name() -> None:
    assert marked_stem("a/b") != marked_stem("a_b")


def test_nothing_in_a_text_is_hidden() -> None:
    assert visible("a\u202eb\x00c\u2028d\ud800") == "a\\u202eb\\u0000c\\u2028d\\ud800"
    assert visible("Schöner Name/模型-1") == "Schöner Name/模型-1"
    assert visible_lines("a\x1b[2J\nb") == "a\\u001b[2J\nb"
