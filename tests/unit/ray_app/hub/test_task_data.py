"""Reading a task: labels by name, splits, caps, facts, identity, and every kind of bad input."""

import hashlib
import itertools
import json
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_app.hub.task_data import (
    mirror_revision,
    read_mirror_task,
    read_task,
    require_hub_id,
    task_fingerprint,
)
from ray_app.hub.tasks import Metric, SplitCaps, SplitRule, TaskConfig
from tracking.errors import TaskDataError

NAMES = ["negative", "neutral", "positive"]


def task(**changes) -> TaskConfig:
    stated = {"name": "mood", "hub_id": "org/mood", "text_columns": ["text"], "label_names": NAMES, "license": "CC0"}
    return TaskConfig(**{**stated, **changes})


def table(labels, names=None, label="label", **columns) -> pa.Table:
    """Rows with the labels given; ``names`` makes the label a ClassLabel as ``datasets`` writes it."""
    columns = columns or {"text": [f"text {i}" for i in range(len(labels))]}
    made = pa.table({**columns, label: labels})
    if names is None:
        return made
    feature = {"names": names, "_type": "ClassLabel"}
    stored = json.dumps({"info": {"features": {label: feature}}})
    return made.replace_schema_metadata({"huggingface": stored})


def read(config, train, *, rule=SplitRule.SITE, caps=None, seed=0, **splits):
    raw = {"train": train, **splits}
    return read_task(config, raw=raw, revision="r", split_rule=rule, caps=caps or SplitCaps(), data_seed=seed)


def labels_of(data, split="train"):
    return data.splits[split]["label"].to_pylist()


TEST = table([0, 1, 2], text=["x", "y", "z"])
VALIDATION = table([0, 1, 2], text=["u", "v", "w"])


# --- labels ---------------------------------------------------------------------------------------------------------


def test_class_labels_are_mapped_by_the_names_in_the_file():
    """The file has positive = 0, negative = 1, neutral = 2; ours is the alphabetical order."""
    train = table([0, 1, 2, 0], names=["positive", "negative", "neutral"])
    assert labels_of(read(task(), train, validation=VALIDATION, test=TEST)) == [2, 0, 1, 2]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (["positive", "negative", "neutral"], [2, 0, 1]),
        (pa.array(["positive", "negative", "neutral"]).dictionary_encode(), [2, 0, 1]),
        (pa.array(["positive", "negative"], pa.large_string()), [2, 0]),
        ([2, 0, 1], [2, 0, 1]),
        (pa.array([2, 0], pa.int8()), [2, 0]),
        ([2.0, 0.0], [2, 0]),
    ],
)
def test_strings_and_plain_integers(column, expected):
    assert labels_of(read(task(), table(column), validation=VALIDATION, test=TEST)) == expected


def test_a_class_label_whose_names_are_numbers_says_nothing():
    train = table([2, 0, 1], names=["0", "1", "2"])
    assert labels_of(read(task(), train, validation=VALIDATION, test=TEST)) == [2, 0, 1]


@pytest.mark.parametrize(
    ("names", "expected"), [(["False", "True"], [1, 0]), (["True", "False"], [0, 1]), (["a", "b"], [1, 0])]
)
def test_boolean_labels(names, expected):
    config = task(label_names=names)
    other = table([0, 1], text=["x", "y"])
    assert labels_of(read(config, table([True, False]), validation=other, test=other)) == expected


def test_parts_of_a_role_are_mapped_each_by_its_own_names():
    """anli has three hub splits a role; a copy may number the classes of one otherwise."""
    config = task(splits={"train": ["r1", "r2"], "test": ["test"]}, label_names=["a", "b"])
    one = table([0, 1], names=["a", "b"], text=["p", "q"])
    two = table([0, 1], names=["b", "a"], text=["r", "s"])
    raw = {"r1": one, "r2": two, "test": table([0, 1], text=["x", "y"]), "not_used": one}
    data = read_task(config, raw=raw, revision="r", split_rule=SplitRule.SITE, caps=SplitCaps())
    rows = {row["text"]: row["label"] for split in ("train", "validation") for row in data.splits[split].to_pylist()}
    assert rows == {"p": 0, "q": 1, "r": 1, "s": 0}


def test_regression_labels_are_doubles():
    config = task(metric=Metric.SPEARMAN, label_names=[])
    train = table(pa.array([0.5, 5.0, None], pa.float32()))
    other = table([0, 3], text=["x", "y"])
    data = read(config, train, validation=other, test=other)
    assert labels_of(data) == [0.5, 5.0]
    assert data.splits["test"].schema.field("label").type == pa.float64()
    assert data.facts["train.rows_unlabelled"] == 1


# --- texts and gaps -------------------------------------------------------------------------------------------------


def test_unlabelled_rows_are_dropped_and_counted():
    train = table([0, -1, 1, None, 2], names=NAMES)
    data = read(task(), train, validation=VALIDATION, test=TEST)
    assert data.splits["train"]["text"].to_pylist() == ["text 0", "text 2", "text 4"]
    assert (data.facts["train.rows_read"], data.facts["train.rows_unlabelled"]) == (5, 2)


@pytest.mark.parametrize("rule", SplitRule)
def test_a_split_without_any_label_is_absent(rule):
    hidden = table([-1] * 5)
    data = read(task(), table([0, 1, 2] * 10), rule=rule, validation=VALIDATION, test=hidden)
    assert data.facts["test.from"] == "cut from train"
    assert (data.splits["train"].num_rows, data.splits["test"].num_rows) == (27, 3)


def test_a_hidden_regression_split_is_absent():
    config = task(metric=Metric.SPEARMAN, label_names=[])
    data = read(config, table([float(i) for i in range(20)]), validation=table([1.0, 2.0]), test=table([-1.0, -1.0]))
    assert data.facts["test.from"] == "cut from train"


def test_null_texts_become_empty_and_are_counted():
    config = task(text_columns=["a", "b"])
    train = table([0, 1], a=["one", None], b=[None, None])
    other = table([0, 1], a=["x", "y"], b=["", ""])
    data = read(config, train, validation=other, test=other)
    assert data.splits["train"]["a"].to_pylist() == ["one", ""]
    assert data.facts["train.null_texts"] == 3
    assert data.splits["train"]["a"].null_count == 0 == data.splits["train"]["b"].null_count


def test_lists_and_numbers_become_text():
    config = task(text_columns=["words", "year"])
    train = table([0, 1, 2], words=[["a", "b"], [], ["c", None]], year=[1990, 2000, 2010])
    data = read(config, train, validation=train, test=train)
    assert data.splits["train"]["words"].to_pylist() == ["a b", "", "c"]
    assert data.splits["train"]["year"].to_pylist() == ["1990", "2000", "2010"]


def test_fallback_columns_are_read_where_the_others_are_missing():
    config = task(text_columns=["title", "body"], text_columns_fallback=["text"])
    data = read(config, table([0, 1, 2]), validation=VALIDATION, test=TEST)
    assert data.text_columns == ["text"]
    full = table([0, 1], title=["t", "u"], body=["b", "c"])
    assert read(config, full, validation=full, test=full).text_columns == ["title", "body"]


def test_other_columns_are_left_behind():
    train = table([0, 1], text=["a", "b"], idx=[7, 8])
    data = read(task(), train, validation=VALIDATION, test=TEST)
    assert data.splits["train"].column_names == ["text", "label"]
    assert data.splits["train"].schema.types == [pa.string(), pa.int64()]


# --- files ----------------------------------------------------------------------------------------------------------


def test_tables_files_and_lists_of_files_read_alike(tmp_path):
    rows = table([1, 0, 2, 1], names=["neutral", "negative", "positive"])
    whole, first, second = (tmp_path / f"{name}.parquet" for name in "wab")
    pq.write_table(rows, whole)
    pq.write_table(rows.slice(0, 2), first)
    pq.write_table(rows.slice(2), second)
    read_as = [read(task(), raw, validation=VALIDATION, test=TEST) for raw in (rows, whole, [first, second])]
    assert all(data.splits["train"].equals(read_as[0].splits["train"]) for data in read_as)
    assert labels_of(read_as[0]) == [0, 1, 2, 0]


def write_mirror(folder: Path, **splits) -> Path:
    (folder / "tasks" / "mood").mkdir(parents=True)
    for role, rows in splits.items():
        pq.write_table(rows, folder / "tasks" / "mood" / f"{role}.parquet")
    return folder


def test_a_mirror_reads_like_the_tables_in_it(tmp_path):
    splits = {"train": table([0, 1, 2] * 5), "validation": VALIDATION, "test": TEST}
    mirror = write_mirror(tmp_path, **splits)
    from_files = read_mirror_task(task(), mirror=mirror, split_rule=SplitRule.PAPER, caps=SplitCaps())
    from_tables = read(task(), rule=SplitRule.PAPER, **splits)
    assert all(from_files.splits[role].equals(from_tables.splits[role]) for role in splits)


def test_in_a_mirror_the_files_are_the_roles_whatever_the_hub_calls_its_splits(tmp_path):
    config = task(splits={"train": ["train"], "validation": ["dev_matched"], "test": ["dev_mismatched"]})
    mirror = write_mirror(tmp_path, train=table([0, 1, 2]), validation=VALIDATION, test=TEST)
    data = read_mirror_task(config, mirror=mirror, split_rule=SplitRule.PAPER, caps=SplitCaps())
    assert data.splits["test"]["text"].to_pylist() == ["x", "y", "z"]


def test_the_revision_of_a_mirror_is_the_hash_of_its_bytes(tmp_path):
    mirror = write_mirror(tmp_path, train=table([0, 1, 2]), test=TEST)
    folder = mirror / "tasks" / "mood"
    lines = "".join(
        f"{role}:{hashlib.sha256((folder / f'{role}.parquet').read_bytes()).hexdigest()}\n"
        for role in ("train", "test")
    )
    assert mirror_revision(task(), mirror=mirror) == f"sha256:{hashlib.sha256(lines.encode()).hexdigest()[:16]}"
    before = mirror_revision(task(), mirror=mirror)
    pq.write_table(table([2, 1, 0, 0]), folder / "train.parquet")
    assert mirror_revision(task(), mirror=mirror) != before


# --- cutting and capping --------------------------------------------------------------------------------------------


def many(n, start=0):
    return table([i % 3 for i in range(n)], text=[f"text {start + i}" for i in range(n)])


def test_caps_are_nested_and_draw_the_same_rows_again():
    splits = {"validation": VALIDATION, "test": many(50, start=1000)}
    sizes = (5, 20, 60, 200)
    drawn = [read(task(), many(100), caps=SplitCaps(train=cap, test=cap), **splits) for cap in sizes]
    for role in ("train", "test"):
        texts = [data.splits[role]["text"].to_pylist() for data in drawn]
        assert all(larger[: len(fewer)] == fewer for fewer, larger in itertools.pairwise(texts))
    assert [data.splits["train"].num_rows for data in drawn] == [5, 20, 60, 100]
    assert drawn[0].facts["train.rows_before_cap"] == 100 and drawn[0].facts["train.rows"] == 5


def test_a_cap_does_not_move_rows_between_splits():
    whole = read(task(), many(100), test=TEST)
    capped = read(task(), many(100), test=TEST, caps=SplitCaps(train=10))
    assert capped.splits["validation"].equals(whole.splits["validation"])
    assert set(capped.splits["train"]["text"].to_pylist()) <= set(whole.splits["train"]["text"].to_pylist())


def test_the_data_seed_changes_what_is_cut():
    first, second = (read(task(), many(100), test=TEST, seed=seed).splits["validation"] for seed in (0, 1))
    assert not first.equals(second)


def test_cut_splits_share_no_text_with_train():
    """40 rows, every text twice: ten rows a cut would split pairs; both cuts hold whole pairs."""
    texts = [f"text {i // 2}" for i in range(40)]
    data = read(task(), table([i % 3 for i in range(40)], text=texts), rule=SplitRule.PAPER)
    held = {role: data.splits[role]["text"].to_pylist() for role in ("train", "validation", "test")}
    assert [len(held[role]) for role in ("train", "validation", "test")] == [32, 4, 4]
    assert not (set(held["train"]) & set(held["validation"])) and not set(held["test"]) & (
        set(held["train"]) | set(held["validation"])
    )
    assert (data.facts["test.rows_repeated"], data.facts["test.rows_shared_with_train"]) == (2, 0)


def test_texts_shared_between_given_splits_are_counted():
    shared = table([0, 1, 2], text=["text 0", "text 1", "new"])
    data = read(task(), many(30), validation=VALIDATION, test=shared)
    assert data.facts["test.rows_shared_with_train"] == 2


def test_equal_first_fields_alone_are_no_repetition():
    config = task(text_columns=["a", "b"])
    train = table([0, 1, 2, 0], a=["same"] * 4, b=["1", "2", "3", "4"])
    data = read(config, train, validation=train, test=train)
    assert data.facts["test.rows_repeated"] == 0 and data.facts["test.rows_shared_with_train"] == 4


# --- identity -------------------------------------------------------------------------------------------------------


def fingerprint(config, **changes):
    stated = {"revision": "r", "split_rule": SplitRule.SITE, "caps": SplitCaps()}
    return task_fingerprint(config, **{**stated, **changes})


def test_the_fingerprint_is_plain_json_and_moves_with_all_that_defines_the_data():
    base = json.dumps(fingerprint(task()))
    moved = [
        fingerprint(task(), revision="s"),
        fingerprint(task(), split_rule=SplitRule.PAPER),
        fingerprint(task(), caps=SplitCaps(train=5)),
        fingerprint(task(), data_seed=1),
        fingerprint(task(label_names=NAMES[::-1])),
        fingerprint(task(label_words=["a", "b", "c"])),
        fingerprint(task(text_columns=["other"])),
    ]
    assert base not in [json.dumps(other) for other in moved]
    same = task(license="other", groups=["nli"], notes="read me", revision="a" * 40)
    assert json.dumps(fingerprint(same)) == base


def test_task_data_can_be_sent_to_a_worker():
    data = read(task(), many(30), validation=VALIDATION, test=TEST)
    copy = pickle.loads(pickle.dumps(data))
    assert copy.splits["train"].equals(data.splits["train"]) and copy.facts == data.facts


def test_a_task_without_hub_id_says_where_it_can_come_from():
    assert require_hub_id(task()) == "org/mood"
    with pytest.raises(TaskDataError, match=r"mood has no data set on the hub; give a mirror .* no copy is canonical"):
        require_hub_id(task(hub_id=None, notes="no copy is canonical"))


# --- bad input ------------------------------------------------------------------------------------------------------

GOOD = {"train": many(30), "validation": VALIDATION, "test": TEST}
NUMBER = {"metric": Metric.SPEARMAN, "label_names": []}


@pytest.mark.parametrize(
    ("changes", "splits", "message"),
    [
        ({"text_columns": ["body"]}, {}, r"split train: no column 'body'; the columns are 'text', 'label'"),
        ({"label_column": "topic"}, {}, r"split train: no column 'topic'"),
        ({}, {"test": table([], text=pa.array([], pa.string()))}, r"split test: it has no rows"),
        ({}, {"train": table([0, 1, 3, 3])}, r"split train: label 3 \(2 rows\) is out of range; expected 0 to 2"),
        ({}, {"train": table([0, -2, 1])}, r"label -2 \(1 row\) is out of range"),
        ({}, {"train": table([0, 5], names=NAMES)}, r"label 5 \(1 row\) is out of range"),
        ({}, {"train": table([0, 1, 1], names=["neutral", "angry"])}, r"label 'angry' \(2 rows\) is not among"),
        ({}, {"train": table(["neutral", "Neutral"])}, r"label 'Neutral' \(1 row\) is not among the label names"),
        ({}, {"train": table([0.5, 1.0])}, r"label 0\.5 \(1 row\) in column 'label' is no class id"),
        ({}, {"train": table([float("nan"), 1.0])}, r"label nan \(1 row\) in column 'label' is no class id"),
        ({}, {"train": table([[0], [1]])}, r"column 'label' has type list<.*expected class names or class ids"),
        ({}, {"train": table([1] * 30)}, r"split train: all 30 rows have the label 'neutral'"),
        ({}, {"test": table([2, 2])}, r"split test: all 2 rows have the label 'positive'"),
        ({}, {"train": table([-1] * 4)}, r"split train: none of its 4 rows has a label"),
        (NUMBER, {"train": table(["1.5", "2"])}, r"type string \(first value '1\.5'\); expected numbers"),
        (NUMBER, {"train": table([1.0, float("nan")])}, r"1 row of column 'label' hold nan"),
        (NUMBER, {"train": table([1.0, float("inf")])}, r"hold inf; expected finite numbers"),
        (NUMBER, {"train": table([2.0, 2.0])}, r"split train: all 2 rows have the label 2\.0"),
        ({"splits": {"train": ["train"], "test": ["dev"]}}, {}, r"no split for test \('dev'\); it has 'train'"),
        ({"text_columns": ["at"]}, {"train": table([0, 1], at=[{"x": 1}, {"x": 2}])}, r"column 'at' has type struct"),
    ],
)
def test_bad_data_is_named(changes, splits, message):
    with pytest.raises(TaskDataError, match=message):
        read(task(**changes), **{**GOOD, **splits})


def test_no_train_split():
    with pytest.raises(TaskDataError, match="the data set has no split for train; it has 'test'"):
        read_task(task(), raw={"test": TEST}, revision="r", split_rule=SplitRule.SITE, caps=SplitCaps())


def test_a_cap_that_leaves_one_class_is_named():
    with pytest.raises(TaskDataError, match=r"all 1 rows have the label .* raise the cap of 1 rows"):
        read(task(), **GOOD, caps=SplitCaps(train=1))


def test_a_train_split_of_one_text_cannot_be_cut():
    with pytest.raises(TaskDataError, match=r"no validation set can be made from train: .* supply a validation split"):
        read(task(), table([0, 1] * 10, text=["same"] * 20), test=TEST)


def test_splits_whose_columns_differ():
    config = task(text_columns=["title"], text_columns_fallback=["text"])
    with pytest.raises(
        TaskDataError, match=r"split test: its columns are 'title', 'label' where train has 'text', 'label'"
    ):
        read(config, many(30), validation=VALIDATION, test=table([0, 1], title=["a", "b"]))


@pytest.mark.parametrize("damage", ["truncated", "text", "gone"])
def test_an_unreadable_file_is_named(tmp_path, damage):
    mirror = write_mirror(tmp_path, train=many(30), test=TEST)
    path = mirror / "tasks" / "mood" / "test.parquet"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "text":
        path.write_text("version https://git-lfs.github.com/spec/v1\n")
    else:
        path.unlink()
        path.symlink_to(tmp_path / "nowhere")
    if damage == "gone":  # a dangling link is no file: the split is missing and the rule makes it
        data = read_mirror_task(task(), mirror=mirror, split_rule=SplitRule.SITE, caps=SplitCaps())
        assert data.facts["test.from"] == "cut from train"
        return
    with pytest.raises(TaskDataError, match=r"test\.parquet cannot be read as Parquet \(.*\); fetch or write the file"):
        read_mirror_task(task(), mirror=mirror, split_rule=SplitRule.SITE, caps=SplitCaps())


@pytest.mark.parametrize("present", [{}, {"validation": VALIDATION}])
def test_a_mirror_without_the_task(tmp_path, present):
    mirror = write_mirror(tmp_path, **present)
    with pytest.raises(TaskDataError, match=r"expected .*tasks/mood/train\.parquet in the mirror, but"):
        read_mirror_task(task(), mirror=mirror, split_rule=SplitRule.SITE, caps=SplitCaps())
