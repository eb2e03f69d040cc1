"""Stored iterations: written whole, read as far as they are whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ray_app.fusion.lineage import Base, Contribution, Iteration, Role, read_iterations, write_iteration
from tracking.errors import TableError

PRETRAINED = Base(revision="p", folder=Path("/pretrained"), pretrained=True)


def contribution(task: str = "cola", **given: object) -> Contribution:
    return Contribution(task=task, seed=0, key=f"{task}-key0123", base_revision="p", began=0, **given)  # type: ignore[arg-type]


def iteration(number: int, folder: str) -> Iteration:
    used = contribution(weight=0.5, score=0.7, examples_seen=30)
    late = contribution("rte", part=2, role=Role.LATE, reason="slow", examples_seen=4)
    return Iteration(
        number=number, contributions=(used, late), parent_revision="p", revision=f"r{number}", folder=folder, in_flight=(late,)
    )  # fmt: skip


def store(root: Path, number: int, folder: str | None = None) -> Iteration:
    made = iteration(number, f"iter{number:02d}" if folder is None else folder)
    if made.folder:
        (root / made.folder).mkdir(parents=True, exist_ok=True)
        (root / made.folder / "config.json").write_text("{}")
    write_iteration(root, made)
    return made


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = [store(tmp_path, 1), store(tmp_path, 2)]
    assert read_iterations(tmp_path) == made
    assert made[0].used[0].task == "cola" and made[0].examples_seen == 34
    assert made[0].contributions[1].name == "rte-part2-rte-key0" and made[0].contributions[0].name == "cola-cola-key"


def test_a_gap_or_a_missing_model_ends_the_list(tmp_path: Path) -> None:
    store(tmp_path, 1)
    store(tmp_path, 3)
    assert len(read_iterations(tmp_path)) == 1
    store(tmp_path, 2)
    (tmp_path / "iter02" / "config.json").unlink()
    assert len(read_iterations(tmp_path)) == 1
    assert read_iterations(tmp_path / "nowhere") == []


def test_a_refused_first_update_leaves_the_pretrained_model(tmp_path: Path) -> None:
    made = store(tmp_path, 1, folder="")
    assert made.base(tmp_path, PRETRAINED) == PRETRAINED
    assert iteration(1, "iter01").base(tmp_path, PRETRAINED) == Base(revision="r1", folder=tmp_path / "iter01")
    assert len(read_iterations(tmp_path)) == 1


@pytest.mark.parametrize("text", ["", "{}", '{"version": 99}', "[1]"])
def test_a_damaged_file_is_an_error_that_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "iteration-0001.json").write_text(text)
    with pytest.raises(TableError, match="remove it and those after it"):
        read_iterations(tmp_path)


def test_a_killed_write_leaves_the_earlier_iterations(tmp_path: Path) -> None:
    made = store(tmp_path, 1)
    (tmp_path / ".iteration-0002.json.99.tmp").write_text(json.dumps({"version": 1})[:5])
    assert read_iterations(tmp_path) == [made]
