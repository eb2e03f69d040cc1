"""Curves on storage: whole or absent, and a damaged one is left aside."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_app.selection.curves import CurveStore


def test_a_curve_comes_back_as_it_was(tmp_path: Path) -> None:
    store = CurveStore(tmp_path / "curves")
    store.write("k1", [0.1, 1 / 3])
    assert store.read("k1") == (0.1, 1 / 3)
    assert store.read("k2") == ()
    store.remove("k1")
    store.remove("k1")
    assert store.read("k1") == ()


@pytest.mark.parametrize("content", ["", "[0.5,", '{"a": 1}', '["x"]', "null"])
def test_a_damaged_curve_is_left_aside(tmp_path: Path, content: str) -> None:
    (tmp_path / "k.json").write_text(content)
    assert CurveStore(tmp_path).read("k") == ()
