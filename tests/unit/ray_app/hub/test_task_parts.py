"""One dataset in parts: disjoint, together whole, of equal size; and part of a cell's identity."""

from __future__ import annotations

import pyarrow as pa
import pytest

from ray_app.hub.task_data import TaskData, part_of_task
from ray_app.hub.tasks import SplitCaps, SplitRule, TaskConfig
from ray_app.sweeps.materials import TaskVariant
from tracking.errors import TaskDataError


def make_data(labels: list[int]) -> TaskData:
    config = TaskConfig(name="toy", text_columns=["text"], label_names=["no", "yes"])
    rows = pa.table({"text": [f"text {row}" for row in range(len(labels))], "label": labels})
    other = pa.table({"text": ["a", "b"], "label": [0, 1]})
    return TaskData(config=config, splits={"train": rows, "validation": other, "test": other}, revision="r", facts={})


def test_parts_are_disjoint_and_together_whole() -> None:
    data = make_data([row % 2 for row in range(50)])
    parts = [part_of_task(data, index, 4) for index in range(4)]
    texts = [part.splits["train"]["text"].to_pylist() for part in parts]
    assert sorted(map(len, texts)) == [12, 12, 13, 13]
    assert sorted(text for part in texts for text in part) == sorted(data.splits["train"]["text"].to_pylist())
    assert texts[0] != data.splits["train"]["text"].to_pylist()[:13], "drawn, not cut: a split may be ordered by class"
    assert all(part.splits["test"].equals(data.splits["test"]) for part in parts)


def test_a_part_without_rows_or_with_one_class_is_refused() -> None:
    with pytest.raises(TaskDataError, match="at least one for each of 9 parts"):
        part_of_task(make_data([0, 1]), 8, 9)
    with pytest.raises(TaskDataError, match="at least two"):
        part_of_task(make_data([0] * 20), 0, 2)


def test_a_part_is_another_variant_of_the_task() -> None:
    whole = TaskVariant.of("toy", SplitRule.SITE, SplitCaps())
    assert whole.part is None and TaskVariant("toy", SplitRule.SITE, whole.caps, (0, 2)) != whole
