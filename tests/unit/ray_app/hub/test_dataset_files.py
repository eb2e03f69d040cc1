"""Which files hold which split, from names and cards alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_app.hub.dataset_files import class_label_names, read_card, shown, split_files
from ray_app.hub.tasks import TaskConfig
from tracking.errors import TaskDataError


def _task(**changes: object) -> TaskConfig:
    return TaskConfig(**{"name": "toy", "hub_id": "org/toy", **changes})  # type: ignore[arg-type]


def _files(paths: list[str], wanted: list[str], **changes: object) -> dict[str, list[str]]:
    return split_files(paths, config=_task(**changes), wanted=wanted, card={})


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train.parquet", "train"),
        ("data/train-00000-of-00001.parquet", "train"),
        ("default/train/0000.parquet", "train"),
        ("training.csv", "train"),
        ("dev.jsonl", "validation"),
        ("val.tsv.gz", "validation"),
        ("eval/any.json", "test"),
        ("data/validation_matched-00000-of-00001.parquet", "validation_matched"),
    ],
)
def test_names_that_tell_their_split(path: str, split: str) -> None:
    assert _files([path, "README.md"], [split]) == {split: [path]}


@pytest.mark.parametrize(
    "path",
    [
        "train.txt",
        "train.py",
        "mytrain.parquet",
        "train_r1.parquet",
        "train/readme.md",
        "partial-train/0.parquet",
        "test.csv",
    ],
)
def test_names_that_do_not_tell_train(path: str) -> None:
    assert _files([path], ["train"]) == {}


def test_a_configuration_is_a_folder() -> None:
    paths = ["a/train.parquet", "b/train.parquet", "data/b/test.parquet"]
    assert _files(paths, ["train", "test"], config="b") == {
        "train": ["b/train.parquet"],
        "test": ["data/b/test.parquet"],
    }
    with pytest.raises(TaskDataError, match="keeps several sets"):
        _files(paths, ["train"])


def test_one_format_of_several() -> None:
    paths = ["train.csv", "train.jsonl", "train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    assert _files(paths, ["train"])["train"] == paths[2:]


@pytest.mark.parametrize(
    ("data_files", "expected"),
    [
        ("'x/a.csv'", {"train": ["x/a.csv"]}),
        ("['x/a.csv', 'x/b.csv']", {"train": ["x/a.csv", "x/b.csv"]}),
        ("{train: 'x/*.csv', test: ['y/**']}", {"train": ["x/a.csv", "x/b.csv"], "test": ["y/z/c.csv"]}),
        (
            "[{split: test, path: './x/a.csv'}, {split: train, path: '**/c.csv'}]",
            {"test": ["x/a.csv"], "train": ["y/z/c.csv"]},
        ),
        ("[{split: train, path: 'x/**.csv'}]", {"train": ["x/a.csv", "x/b.csv"]}),
    ],
)
def test_all_ways_a_card_states_files(data_files: str, expected: dict[str, list[str]]) -> None:
    card = read_card(f"---\nconfigs:\n- config_name: default\n  data_files: {data_files}\n---\ntext")
    paths = ["x/a.csv", "x/b.csv", "y/z/c.csv"]
    assert split_files(paths, config=_task(), wanted=["train", "test"], card=card) == expected


def test_the_default_configuration_is_taken_where_none_is_named() -> None:
    card = read_card(
        "---\nconfigs: [{config_name: a, data_files: a.csv}, {config_name: b, default: true, data_files: b.csv}]\n---"
    )
    assert split_files(["a.csv", "b.csv"], config=_task(), wanted=["train"], card=card) == {"train": ["b.csv"]}


@pytest.mark.parametrize(
    "text", ["", "# no head", "---\n[1, 2]\n---\n", "---\na: [\n---\n", "---\na: 2001-99-99\n---\n", "---\nopen"]
)
def test_a_card_without_a_usable_head_says_nothing(text: str) -> None:
    assert read_card(text) == {}


def test_class_names() -> None:
    names = {"class_label": {"names": {"10": "k", "2": "c", "0": "a"}}}
    info = {
        "features": [
            {"name": "label", "dtype": names},
            {"name": "text", "dtype": "string"},
            3,
            {"dtype": {"class_label": 1}},
        ]
    }
    assert class_label_names({"dataset_info": info}, config_name=None) == {"label": ["a", "c", "k"]}
    other = {"config_name": "b", "features": [{"name": "y", "dtype": {"class_label": {"names": ["u", "v"]}}}]}
    assert class_label_names({"dataset_info": [{**info, "config_name": "a"}, other]}, config_name="b") == {
        "y": ["u", "v"]
    }
    assert class_label_names({"dataset_info": [{**info, "config_name": "a"}, other]}, config_name="c") == {}
    assert class_label_names({}, config_name=None) == {}


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["configs", "data_files", "split", "path", "features", "dtype", "names"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(configs=_json, info=_json)
def test_any_card_is_read_or_refused_in_our_own_words(configs: object, info: object) -> None:
    card = {"configs": configs, "dataset_info": info}
    class_label_names(card, config_name=None)
    try:
        split_files(["train.csv"], config=_task(), wanted=["train"], card=card)
    except TaskDataError as error:
        assert error.message.startswith("task toy: ")


def test_at_most_eight_names_are_shown() -> None:
    assert shown(["b", "a"]) == "a, b"
    assert shown([str(number) for number in range(10)]) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"
