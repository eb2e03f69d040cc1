"""Tasks from a hub on this machine, in every form they lie there."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_app.hub.datasets_hub import fetch_task_tables, task_commit
from ray_app.hub.task_data import read_mirror_task, read_task
from ray_app.hub.task_yaml import read_task_config
from ray_app.hub.tasks import SplitCaps, SplitRule, TaskConfig
from tests.hub_calls import FAST
from tests.hub_server import HubServer
from tracking.errors import TaskDataError, UnreachableError

pytestmark = pytest.mark.usefixtures("hub_environment")


def _table(n_rows: int, *, start: int = 0, names: list[str] | None = None) -> pa.Table:
    table = pa.table(
        {
            "text": [f"text number {row}" for row in range(start, start + n_rows)],
            "label": [row % 2 for row in range(start, start + n_rows)],
            "other": list(range(n_rows)),
        }
    )
    if names is None:
        return table
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": {"names": names, "_type": "ClassLabel"}}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _write(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def _task(**changes: object) -> TaskConfig:
    stated: dict[str, object] = {
        "name": "toy",
        "hub_id": "org/toy",
        "text_columns": ["text"],
        "label_names": ["no", "yes"],
        "splits": {"train": ["train"], "test": ["test"]},
    }
    return TaskConfig(**{**stated, **changes})  # type: ignore[arg-type]


@pytest.fixture
def repository(hub: HubServer, tmp_path: Path) -> Path:
    """Folder of the empty data set org/toy."""
    folder = tmp_path / "hub" / "datasets" / "org" / "toy"
    folder.mkdir(parents=True)
    return folder


def _fetch(config: TaskConfig, tmp_path: Path, *, offline: bool = False) -> tuple[dict[str, pa.Table], str]:
    return fetch_task_tables(config, cache_dir=tmp_path / "cache", offline=offline, patience=FAST)


def test_a_task_in_shards(repository: Path, hub: HubServer, tmp_path: Path) -> None:
    names = ["yes", "no"]  # the other way round than the task's own order
    _write(_table(30, names=names), repository / "data" / "train-00000-of-00002.parquet")
    _write(_table(20, start=30, names=names), repository / "data" / "train-00001-of-00002.parquet")
    _write(_table(10, start=50, names=names), repository / "data" / "test-00000-of-00001.parquet")
    tables, commit = _fetch(_task(), tmp_path)
    assert commit == hub.commit("datasets", "org/toy")
    assert {split: table.num_rows for split, table in tables.items()} == {"train": 50, "test": 10}
    assert tables["train"].column_names == ["text", "label"]
    assert tables["train"]["text"].to_pylist() == [f"text number {row}" for row in range(50)]
    data = read_task(_task(), raw=tables, revision=commit, split_rule=SplitRule.SITE, caps=SplitCaps())
    assert data.splits["test"]["label"].to_pylist() == [1, 0] * 5  # 'yes' is 0 in the file and 1 in the task


def test_a_second_fetch_of_a_task_only_resolves_the_branch(repository: Path, hub: HubServer, tmp_path: Path) -> None:
    for split in ("train", "test"):
        _write(_table(10), repository / f"{split}.parquet")
    first, commit = _fetch(_task(), tmp_path)
    hub.forget()
    second, again = _fetch(_task(), tmp_path)
    assert again == commit
    assert second == first
    assert hub.paths() == ["/api/datasets/org/toy"]
    hub.forget()
    assert _fetch(_task(revision=commit), tmp_path)[1] == commit
    assert _fetch(_task(), tmp_path, offline=True)[1] == commit
    assert hub.paths() == []
    hub.fail("/", status=503, times=None)
    assert _fetch(_task(), tmp_path)[1] == commit


def test_the_commit_of_a_task_costs_no_rows(repository: Path, hub: HubServer, tmp_path: Path) -> None:
    for split in ("train", "test"):
        _write(_table(10), repository / f"{split}.parquet")
    commit = task_commit(_task(), cache_dir=tmp_path / "cache", offline=False, patience=FAST)
    assert commit == hub.commit("datasets", "org/toy")
    assert not any("parquet" in path for path in hub.paths())


def test_a_cache_filled_by_others_serves_offline(repository: Path, hub: HubServer, tmp_path: Path) -> None:
    for split in ("train", "test"):
        _write(_table(10), repository / f"{split}.parquet")
    commit = _fetch(_task(), tmp_path)[1]
    (tmp_path / "home").mkdir()
    (tmp_path / "cache" / "hub").rename(tmp_path / "home" / "hub")
    (tmp_path / "cache" / "listings").rename(tmp_path / "gone")
    hub.forget()
    assert _fetch(_task(), tmp_path, offline=True)[1] == commit
    assert hub.paths() == []


def test_long_listings_come_in_pages(repository: Path, hub: HubServer, tmp_path: Path) -> None:
    hub.page_size = 2
    for shard in range(5):
        _write(_table(4, start=4 * shard), repository / "data" / f"train-{shard:05d}-of-00005.parquet")
    _write(_table(4), repository / "data" / "test-00000-of-00001.parquet")
    assert _fetch(_task(), tmp_path)[0]["train"].num_rows == 20


def test_the_card_names_configurations_files_and_classes(repository: Path, tmp_path: Path) -> None:
    for name, shift in (("a", 0), ("b", 100)):
        _write(_table(10, start=shift), repository / "odd" / f"{name}-first.parquet")
        _write(_table(6, start=shift), repository / "odd" / f"{name}-second.parquet")
    (repository / "README.md").write_text(
        """---
configs:
- config_name: a
  data_files:
  - split: train
    path: odd/a-first.parquet
  - split: test
    path: [odd/a-sec*.parquet]
- config_name: b
  data_dir: odd
  data_files: {train: b-first.parquet, test: b-second.parquet}
dataset_info:
- config_name: b
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names: {'0': 'yes', '1': 'no'}
---
# Toy
"""
    )
    tables, _ = _fetch(_task(config="b"), tmp_path)
    assert tables["train"]["text"][0].as_py() == "text number 100"
    data = read_task(_task(config="b"), raw=tables, revision="x", split_rule=SplitRule.SITE, caps=SplitCaps())
    assert data.splits["test"]["label"].to_pylist() == [1, 0] * 3
    assert _fetch(_task(config="a"), tmp_path)[0]["test"].num_rows == 6
    with pytest.raises(TaskDataError, match="has no configuration 'c', expected one of a, b"):
        _fetch(_task(config="c"), tmp_path)
    with pytest.raises(TaskDataError, match="has no configuration None"):
        _fetch(_task(), tmp_path)


def test_folders_of_configurations(repository: Path, tmp_path: Path) -> None:
    for name, rows in (("cola", 10), ("rte", 20)):
        _write(_table(rows), repository / name / "train-00000-of-00001.parquet")
        _write(_table(4), repository / name / "test-00000-of-00001.parquet")
    assert _fetch(_task(config="rte"), tmp_path)[0]["train"].num_rows == 20
    with pytest.raises(TaskDataError, match=r"keeps several sets of files \(cola, rte\), expected one"):
        _fetch(_task(), tmp_path)
    with pytest.raises(TaskDataError, match="no file that can be read for test, train of configuration wnli"):
        _fetch(_task(config="wnli"), tmp_path)


def test_splits_of_odd_names(repository: Path, tmp_path: Path) -> None:
    for split in ("train_r1", "train_r2", "dev_r1", "test_r1"):
        _write(_table(6), repository / "plain_text" / f"{split}-00000-of-00001.parquet")
    splits = {"train": ["train_r1", "train_r2"], "validation": ["dev_r1"], "test": ["test_r1"]}
    tables, _ = _fetch(_task(config="plain_text", splits=splits), tmp_path)
    assert sorted(tables) == ["dev_r1", "test_r1", "train_r1", "train_r2"]


def test_json_lines_and_csv(repository: Path, tmp_path: Path) -> None:
    rows = [{"text": f'a "quoted", {row}\nsecond line', "label": "yes" if row % 3 else "no"} for row in range(12)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (repository / "train.jsonl").write_text(lines)
    (repository / "dev.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    head = "text\tlabel\n"
    (repository / "test.tsv").write_text(
        head + "".join(f"tab {row}\t{'no' if row % 2 else 'yes'}\n" for row in range(6))
    )
    splits = {"train": ["train"], "validation": ["validation"], "test": ["test"]}
    tables, commit = _fetch(_task(splits=splits), tmp_path)
    assert tables["validation"] == tables["train"]
    assert tables["train"]["text"][0].as_py() == 'a "quoted", 0\nsecond line'
    data = read_task(_task(splits=splits), raw=tables, revision=commit, split_rule=SplitRule.SITE, caps=SplitCaps())
    assert data.splits["test"]["label"].to_pylist() == [1, 0] * 3


def test_the_best_format_is_read_once(repository: Path, tmp_path: Path) -> None:
    _write(_table(10), repository / "train.parquet")
    (repository / "train.csv").write_text("text,label\nx,0\n")
    _write(_table(10), repository / "test.parquet")
    assert _fetch(_task(), tmp_path)[0]["train"].num_rows == 10


def test_files_named_by_the_task(repository: Path, tmp_path: Path) -> None:
    _write(_table(10), repository / "x" / "part-1.parquet")
    _write(_table(10, start=10), repository / "x" / "part-2.parquet")
    _write(_table(4), repository / "held" / "out.parquet")
    named = {"train": "x/part-*.parquet", "test": "held/out.parquet"}
    tables, _ = _fetch(_task(data_files=named), tmp_path)
    assert tables["train"].num_rows == 20
    with pytest.raises(TaskDataError, match=r"data_files of test \(none/\*\) matches none of the files"):
        _fetch(_task(data_files={"train": "x/*.parquet", "test": "none/*"}), tmp_path)


def test_a_script_is_never_run_and_the_converted_copy_is_read(repository: Path, hub: HubServer, tmp_path: Path) -> None:
    (repository / "toy.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (repository / "train.csv").write_text("raw,material\n1,2\n")
    with pytest.raises(TaskDataError, match=r"no file that can be read for test, train; it holds toy\.py, train\.csv"):
        _fetch(_task(), tmp_path)
    converted = repository.with_name("toy@refs%2Fconvert%2Fparquet")
    _write(_table(10), converted / "default" / "train" / "0000.parquet")
    _write(_table(4), converted / "default" / "test" / "0000.parquet")
    tables, commit = _fetch(_task(), tmp_path)
    assert tables["train"].num_rows == 10
    assert commit == hub.commit("datasets", "org/toy", "refs/convert/parquet")
    hub.forget()
    assert _fetch(_task(), tmp_path, offline=True)[1] == commit
    assert _fetch(_task(revision=commit), tmp_path)[1] == commit
    assert hub.paths() == []
    assert not (tmp_path / "ran").exists()


def test_a_copy_that_was_cut_is_not_taken(repository: Path, tmp_path: Path) -> None:
    (repository / "toy.py").write_text("")
    converted = repository.with_name("toy@refs%2Fconvert%2Fparquet")
    _write(_table(10), converted / "default" / "partial-train" / "0000.parquet")
    _write(_table(4), converted / "default" / "test" / "0000.parquet")
    with pytest.raises(TaskDataError, match="no file that can be read for train"):
        _fetch(_task(), tmp_path)


def test_a_missing_column_is_left_to_the_reader(repository: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        _write(_table(4), repository / f"{split}.parquet")
    tables, _ = _fetch(_task(text_columns=["premise"]), tmp_path)
    assert tables["train"].column_names == ["text", "label", "other"]


def test_a_damaged_file_is_named(repository: Path, tmp_path: Path) -> None:
    (repository / "train.parquet").write_bytes(b"PAR1 this is none PAR1")
    _write(_table(4), repository / "test.parquet")
    with pytest.raises(TaskDataError, match=r"task toy: train\.parquet of org/toy cannot be read"):
        _fetch(_task(), tmp_path)


def test_shards_that_disagree_are_named(repository: Path, tmp_path: Path) -> None:
    _write(_table(4), repository / "train-00000-of-00002.parquet")
    _write(pa.table({"text": [1, 2], "label": ["a", "b"]}), repository / "train-00001-of-00002.parquet")
    _write(_table(4), repository / "test.parquet")
    with pytest.raises(TaskDataError, match="task toy, split train: its files do not have the same columns"):
        _fetch(_task(), tmp_path)


def test_what_the_hub_refuses_of_tasks(repository: Path, hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(TaskDataError, match="data set org/none does not exist or is private"):
        _fetch(_task(hub_id="org/none"), tmp_path)
    with pytest.raises(TaskDataError, match="has no data set on the hub"):
        _fetch(_task(hub_id=None), tmp_path)
    with pytest.raises(TaskDataError, match="data set org/toy has no revision"):
        _fetch(_task(revision="0" * 40), tmp_path)
    (repository / ".hub.json").write_text('{"gated": "auto"}')
    for split in ("train", "test"):
        _write(_table(4), repository / f"{split}.parquet")
    with pytest.raises(TaskDataError, match="data set org/toy is gated"):
        _fetch(_task(), tmp_path)
    with pytest.raises(UnreachableError, match=r"missing: data set org/other .*MIRROR=dir with tasks/<task>/"):
        _fetch(_task(hub_id="org/other"), tmp_path, offline=True)


@pytest.mark.usefixtures("small_chunks")
def test_truncation_and_5xx_of_tasks(repository: Path, hub: HubServer, tmp_path: Path) -> None:
    _write(_table(5000), repository / "train.parquet")
    _write(_table(4), repository / "test.parquet")
    hub.fail("/storage/.*train", truncate_at=10_000, times=1)
    hub.fail("/api/datasets/org/toy/tree", status=502, times=2)
    hub.rate_limit("/storage/.*test", wait_s=0, times=2)
    assert _fetch(_task(), tmp_path)[0]["train"].num_rows == 5000
    assert "bytes=10000-" in [entry.range for entry in hub.requests]


def test_real_data_is_the_same_from_hub_and_mirror(repository: Path, tmp_path: Path) -> None:
    mirror = Path(__file__).parents[3] / "shared" / "data"
    if not (mirror / "tasks" / "rte").is_dir():
        pytest.skip("no mirror with real data at ../shared/data")
    config = read_task_config(Path(__file__).parents[2] / "conf" / "task" / "rte.yaml")
    config.hub_id = "org/toy"
    for split in ("train", "validation"):
        (repository / "rte").mkdir(exist_ok=True)
        shutil.copyfile(
            mirror / "tasks" / "rte" / f"{split}.parquet", repository / "rte" / f"{split}-00000-of-00001.parquet"
        )
    rules = {"split_rule": SplitRule.SITE, "caps": SplitCaps()}
    tables, commit = _fetch(config, tmp_path)
    fetched = read_task(config, raw=tables, revision=commit, **rules)  # type: ignore[arg-type]
    mirrored = read_mirror_task(config, mirror=mirror, **rules)  # type: ignore[arg-type]
    assert fetched.splits == mirrored.splits
    assert fetched.splits["test"].num_rows == 277  # rows of GLUE's RTE validation set


def test_a_task_of_images(repository: Path, hub: HubServer, tmp_path: Path) -> None:
    """As the hub keeps them: encoded files in a struct, under a name of the copy's own, classes in the card."""
    images = [{"bytes": f"image {row}".encode(), "path": f"{row}.png"} for row in range(12)]
    rows = pa.table({"image_file_path": ["x"] * 12, "img": images, "labels": [row % 2 for row in range(12)]})
    for split in ("train", "test"):
        _write(rows, repository / "data" / f"{split}-00000-of-00001.parquet")
    (repository / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: labels\n    dtype:\n      class_label:\n        names:\n"
        "          '0': 'yes'\n          '1': 'no'\n---\n"
    )
    task = _task(text_columns=[], image_columns=["image", "img"], label_column="labels", label_column_fallback="label")
    tables, commit = _fetch(task, tmp_path)
    assert tables["train"].column_names == ["img", "labels"]
    data = read_task(task, raw=tables, revision=commit, split_rule=SplitRule.SITE, caps=SplitCaps())
    assert data.splits["test"].column("img")[3].as_py() == {"bytes": b"image 3", "path": "3.png"}
    assert data.splits["test"].column("label").to_pylist()[:4] == [1, 0, 1, 0], "mapped by the card's names"
