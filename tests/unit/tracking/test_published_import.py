"""Which runs the published files make (the store itself: tests/integration/test_published_import.py)."""

from __future__ import annotations

from pathlib import Path

from tests.published_folder import (
    model_line,
    write_models,
    write_pretrained,
)
from tracking.published import read_published
from tracking.published_import import published_runs


def test_runs_have_one_key_each_also_for_equal_lines(tmp_path: Path) -> None:
    write_models(tmp_path, [model_line("m/0", 0.2, 0.5), model_line("m/0", 0.2, 0.5), model_line("m/1", None, None)])
    write_pretrained(tmp_path, [0.5, 0.5])
    results = read_published(tmp_path)
    runs = published_runs(results.architectures[0], results.sha256)
    assert [run.name for run in runs] == [
        "m/0", "m/0", "m/1", "acme/tiny-1 (pretrained, seed 0)", "acme/tiny-1 (pretrained, seed 1)",
    ]  # fmt: skip
    assert len({run.key for run in runs}) == 5
    assert [len(run.metrics) for run in runs] == [37, 37, 0, 36, 36]


def test_keys_follow_the_content_and_not_the_place(tmp_path: Path) -> None:
    lines = [model_line("m/0", 0.2, 0.5), model_line("m/1", 0.2, 0.5)]
    write_models(tmp_path, lines)
    write_pretrained(tmp_path, [0.5, 0.5])
    first = read_published(tmp_path)
    write_models(tmp_path, [model_line("m/new", 0.2, 0.5), *lines[:1], lines[1] | {"cola": 0.25}])
    second = read_published(tmp_path)
    before = [run.key for run in published_runs(first.architectures[0], first.sha256)]
    after = [run.key for run in published_runs(second.architectures[0], second.sha256)]
    assert after[1] == before[0]
    assert after[2] != before[1]
    assert after[3:] == before[2:]
