"""Reading tasks of images: columns, copies that call them otherwise, mirrors, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_app.hub.task_data import TaskData, mirror_revision, read_mirror_task, read_task
from ray_app.hub.task_rows import IMAGE
from ray_app.hub.tasks import SplitCaps, SplitRule, TaskConfig
from tracking.errors import TaskDataError


def config(**given: object) -> TaskConfig:
    stated = {"name": "pets", "image_columns": ["img", "image"], "label_names": ["cat", "dog"], **given}
    return TaskConfig(**stated)  # type: ignore[arg-type]


def rows(contents: list[bytes | None], *, struct: bool = True, column: str = "image", label: str = "label") -> pa.Table:
    images = [{"bytes": content, "path": f"{row}.jpg"} for row, content in enumerate(contents)] if struct else contents
    return pa.table({column: images, label: [row % 2 for row in range(len(contents))]})


def read(task: TaskConfig, **tables: pa.Table) -> TaskData:
    return read_task(task, raw=tables, revision="r", split_rule=SplitRule.SITE, caps=SplitCaps())


def three(make=rows, **given: object) -> dict[str, pa.Table]:  # type: ignore[no-untyped-def]
    return {
        split: make([f"{split}{row}".encode() for row in range(4)], **given)
        for split in ("train", "validation", "test")
    }


@pytest.mark.parametrize("struct", [True, False], ids=["struct of datasets", "plain bytes"])
def test_images_are_bytes_with_a_name(struct: bool) -> None:
    data = read(config(), **three(struct=struct))
    assert data.text_columns == ["image"] and data.splits["train"].column("image").type == IMAGE
    first = data.splits["test"].column("image")[2].as_py()
    assert first == {"bytes": b"test2", "path": "2.jpg" if struct else None}
    assert data.splits["test"].column("label").to_pylist() == [0, 1, 0, 1]


def test_a_copy_may_call_image_and_label_otherwise() -> None:
    named = config(label_column="labels", label_column_fallback="label")
    assert read(named, **three(column="img")).text_columns == ["img"]
    assert read(named, **three(label="labels")).splits["train"].column_names == ["image", "label"]


def test_equal_files_are_found_by_their_bytes() -> None:
    tables = three()
    tables["test"] = rows([b"train0", b"train0", b"new", b"train1"])
    facts = read(config(), **tables).facts
    assert (facts["test.rows_repeated"], facts["test.rows_shared_with_train"]) == (1, 3)


def test_a_missing_test_set_is_cut_from_train_without_sharing_an_image() -> None:
    data = read(config(), train=rows([f"{row // 2 * 2}".encode() for row in range(40)]))
    assert data.facts["test.from"] == "cut from train" and data.facts["test.rows_shared_with_train"] == 0


def test_a_mirror_keeps_images_beside_tasks(tmp_path: Path) -> None:
    folder = tmp_path / "images" / "pets"
    folder.mkdir(parents=True)
    for split, table in three().items():
        pq.write_table(table, folder / f"{split}.parquet")
    data = read_mirror_task(config(), mirror=tmp_path, split_rule=SplitRule.SITE, caps=SplitCaps(train=3))
    assert data.splits["train"].num_rows == 3 and data.revision == mirror_revision(config(), mirror=tmp_path)
    with pytest.raises(TaskDataError, match=r"expected .*/images/other/train.parquet in the mirror"):
        read_mirror_task(config(name="other"), mirror=tmp_path, split_rule=SplitRule.SITE, caps=SplitCaps())


REFUSED = {
    "no such column": (
        rows([b"a", b"b"], column="picture"),
        "no column 'img'; the columns are 'picture', 'label'; set image_columns",
    ),
    "text": (pa.table({"image": ["a.jpg", "b.jpg"], "label": [0, 1]}), "has type string; expected encoded images"),
    "numbers": (pa.table({"image": [[1, 2], [3, 4]], "label": [0, 1]}), "expected encoded images, as bytes or as"),
    "a path only": (
        rows([b"a", None]),
        r"1 of 2 images have no bytes \(the first is labelled row 1, which has only the path '1.jpg'\)",
    ),
    "null": (rows([None, b"a"], struct=False), r"1 of 2 images have no bytes \(the first is labelled row 0\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_image_column_is_refused(name: str) -> None:
    table, reason = REFUSED[name]
    with pytest.raises(TaskDataError, match=rf"task pets, split train: .*{reason}"):
        read(config(), **{**three(), "train": table})


def test_a_row_is_a_text_or_an_image() -> None:
    assert config().faults() == [] and config().is_image
    assert any("a row is a text or an image, not both" in fault for fault in config(text_columns=["text"]).faults())
    assert (
        config(image_columns=[])
        .faults()[0]
        .startswith("text_columns: empty; name at least one text column, or image_columns")
    )
    assert config(image_columns=["image", "image"]).faults() == ["image_columns: 'image' is named twice"]
    assert config(image_columns=["label"]).faults() == ["image_columns: 'label' is the label column"]
