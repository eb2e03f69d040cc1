"""Tasks agree with their YAML, splits share no text, classes are balanced."""

from collections import Counter
from pathlib import Path

import pytest

from ray_app.embedded.config import EmbeddedConfig
from ray_app.embedded.split import Part
from ray_app.embedded.tasks import TASKS, make_rows
from ray_app.hub.task_yaml import read_task_config
from tracking.errors import InputError

CONF = Path(__file__).resolve().parents[4] / "conf" / "task"
SMALL = EmbeddedConfig(
    source_rows={"train": 41, "validation": 10, "test": 12}, target_rows={"train": 31, "validation": 10, "test": 12}
)


def test_there_are_at_least_three_sources_and_four_targets():
    roles = Counter(task.role for task in TASKS.values())
    assert roles["source"] >= 3 and roles["target"] >= 4 and set(roles) == {"source", "target"}
    assert sorted(TASKS) == sorted(path.stem for path in CONF.glob("doc_*.yaml"))


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_task_and_its_yaml_say_the_same(name):
    task, stated = TASKS[name], read_task_config(CONF / f"{name}.yaml")
    assert (stated.name, tuple(stated.text_columns), tuple(stated.label_names)) == (
        task.name,
        task.text_columns,
        task.label_names,
    )
    assert stated.hub_id is None and stated.label_column == "label" and not stated.hidden_test
    assert stated.groups == [f"embedded_{task.role}"]


@pytest.mark.parametrize("name", ["doc_order", "doc_swap", "doc_first"])
def test_classes_come_equally_often_and_no_row_twice(name, passages):
    task = TASKS[name]
    part = Part.SOURCE_TRAIN if task.role == "source" else Part.TARGET_TRAIN
    rows = make_rows(task, part, passages, SMALL)
    assert len(rows) == len(set(rows)) == (41 if task.role == "source" else 31)
    counts = Counter(label for _, label in rows)
    assert max(counts.values()) - min(counts.values()) == 1
    assert rows == make_rows(task, part, passages, SMALL)
    labels = [label for _, label in rows]
    assert labels != sorted(labels), "the classes stand mixed"


def test_parts_draw_differently(passages):
    task = TASKS["doc_swap"]
    assert (
        make_rows(task, Part.TARGET_VALIDATION, passages, SMALL)
        != make_rows(task, Part.TARGET_TEST, passages, SMALL)[:10]
    )


def test_too_little_text_names_task_split_and_class(passages):
    config = EmbeddedConfig(target_rows={"train": 10_000, "validation": 1, "test": 1})
    with pytest.raises(InputError, match=r"doc_swap, train: \d+ rows of class 'intact', 5000 needed"):
        make_rows(TASKS["doc_swap"], Part.TARGET_TRAIN, passages, config)
