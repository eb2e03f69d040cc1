"""Faults of a task, its caps and its place in the fingerprint, each found and worded."""

import dataclasses

import pytest

from ray_app.hub.task_data import task_fingerprint
from ray_app.hub.tasks import Metric, SplitCaps, SplitRule, TaskConfig

NAMES = ["negative", "neutral", "positive"]
NUMBER = {"metric": Metric.SPEARMAN, "label_names": []}


def task(**changes) -> TaskConfig:
    stated = {"name": "mood", "hub_id": "org/mood", "text_columns": ["text"], "label_names": NAMES, "license": "CC0"}
    return TaskConfig(**{**stated, **changes})


def test_a_sound_task_has_no_fault():
    assert task().faults() == []
    assert task(**NUMBER).faults() == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"name": "a/b"}, "name: 'a/b'"),
        ({"hub_id": "imdb"}, "hub_id: 'imdb' is not of the form org/name"),
        ({"revision": "eb185aad"}, "revision: 'eb185aad' is not a 40-hex commit"),
        ({"license": " "}, "license: empty"),
        ({"splits": {"dev": ["dev"], "train": ["train"]}}, "splits: 'dev' is not one of"),
        ({"splits": {"test": ["test"]}}, "splits: no hub split is named for train"),
        ({"splits": {"train": ["train"], "test": []}}, "splits.test: names no hub split"),
        ({"splits": {"train": ["all"], "test": ["all"]}}, "splits: hub split 'all' is used twice"),
        ({"splits": {"train": ["train"]}, "data_files": {"tets": "x"}}, "data_files: 'tets' is not a hub split"),
        ({"text_columns": []}, "text_columns: empty"),
        ({"text_columns": ["a", "a"]}, "text_columns: 'a' is named twice"),
        ({"label_column": "text"}, "text_columns: 'text' is the label column"),
        ({"label_column": "y", "text_columns": ["label"]}, "text_columns: a text column may not be called 'label'"),
        ({"label_names": ["one"]}, "label_names: 1 given"),
        ({"label_names": ["a", "b", "a"]}, "label_names: 'a' is given twice"),
        ({"label_words": ["a", "b"]}, "label_words: 2 given for 3 label names"),
        ({"label_words": ["a", "b", " c"]}, "label_words: ' c' has no text, or blanks"),
        ({"metric": Metric.SPEARMAN}, "label_names: a regression task has none"),
    ],
)
def test_every_fault_of_a_task_is_found(changes, fault):
    found = task(**changes).faults()
    assert len(found) == 1 and found[0].startswith(fault)


def test_caps_below_one_are_faults():
    assert SplitCaps(train=1).faults() == []
    assert SplitCaps(train=0, test=-3).faults() == [
        "train: 0 is not a number of rows; give 1 or more, or null for all",
        "test: -3 is not a number of rows; give 1 or more, or null for all",
    ]


def test_every_field_but_three_is_in_the_fingerprint():
    fields = {item.name for item in dataclasses.fields(TaskConfig)} - {"license", "groups", "notes"}
    given = {"revision": "r", "split_rule": SplitRule.SITE, "caps": SplitCaps()}
    every = task(image_columns=["image"], text_columns=[], label_column_fallback="labels")
    assert fields <= set(task_fingerprint(every, **given))
    assert fields - set(task_fingerprint(task(), **given)) == {"image_columns", "label_column_fallback"}, (
        "keys of old cells"
    )
