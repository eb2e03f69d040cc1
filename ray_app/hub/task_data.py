"""A task's rows, read from a mirror or handed over from the hub, checked, split and capped.

Reading costs one pass over the needed columns; nothing is downloaded here.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_app.hub.mirror import TASK_PLACES, find_task_folder
from ray_app.hub.splits import RULES_VERSION, SplitPlan, cap_rows, cut_rows, cut_size, draw_order, plan_splits
from ray_app.hub.task_rows import LABEL, RawSplit, RoleRows, read_role, row_ids, unreadable
from ray_app.hub.tasks import ROLES, SplitCaps, SplitRule, TaskConfig
from tracking.errors import TaskDataError

_NOT_IDENTITY = ("license", "groups", "notes")


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """A task ready to be tokenised."""

    config: TaskConfig
    """The task."""
    splits: dict[str, pa.Table]
    """train, validation, test -> the text columns (string, no nulls) or the image column (bytes and path), then 'label' (int64
    class ids, or float64)."""
    revision: str
    """Hub commit, or 'sha256:<16 hex>' of the mirror's files."""
    facts: dict[str, str | int]
    """What reading did, as '<role>.<fact>': rows_read, rows_unlabelled, null_texts, from, rows_before_cap, rows, ..."""

    @property
    def text_columns(self) -> list[str]:
        """The text columns in order, as they are called in ``splits`` (a copy of the data may need the fallback names); of a
        task of images its image column."""
        return [name for name in self.splits["train"].column_names if name != LABEL]


def read_task(
    config: TaskConfig,
    *,
    raw: Mapping[str, RawSplit],
    revision: str,
    split_rule: SplitRule,
    caps: SplitCaps,
    data_seed: int = 0,
) -> TaskData:
    """Read a task from its hub splits.

    Rows without a label are dropped and counted; a split that has none but such rows is a hidden one and counts as absent.
    Null texts become empty ones and are counted; lists of texts are joined by blanks.

    Args:
        config: the task; ``config.splits`` says which hub splits make which role (without it the names are the roles).
        raw: hub split name -> Parquet file, files, or table (with the schema metadata that ``datasets`` writes).
        revision: commit the files were taken from.
        split_rule: which rows are train, validation and test.
        caps: upper limits of rows.
        data_seed: seed of cutting and capping; part of the identity.

    Raises:
        TaskDataError: unreadable file, missing split or column, empty split, a label that cannot be (see
            ``read_labels``), or a train or test split of one class only.
    """
    named = config.splits or {role: [role] for role in ROLES if role in raw}
    missing = [f"{role} ({name!r})" for role, names in named.items() for name in names if name not in raw]
    if missing or "train" not in named:
        wanted = ", ".join(missing) or "train"
        raise TaskDataError(
            f"task {config.name}: the data set has no split for {wanted}; it has {_listed(raw)}; "
            f"name its splits in conf/task/{config.name}.yaml",
            task=config.name,
        )
    parts = {role: [raw[name] for name in names] for role, names in named.items()}
    return _assemble(config, parts, revision=revision, split_rule=split_rule, caps=caps, data_seed=data_seed)


def read_mirror_task(
    config: TaskConfig, *, mirror: Path, split_rule: SplitRule, caps: SplitCaps, data_seed: int = 0
) -> TaskData:
    """Read a task from ``<mirror>/tasks/<task>/{train,validation,test}.parquet``; the files stand for the roles.

    Raises:
        TaskDataError: the mirror does not hold the task, or as ``read_task``.
    """
    files: dict[str, list[RawSplit]] = {role: [path] for role, path in _mirror_files(config, mirror).items()}
    revision = mirror_revision(config, mirror=mirror)
    return _assemble(config, files, revision=revision, split_rule=split_rule, caps=caps, data_seed=data_seed)


def part_of_task(data: TaskData, index: int, n_parts: int) -> TaskData:
    """A task whose training rows are one of n disjoint parts of equal size (within a row), drawn by a fixed seed.

    Raises:
        TaskDataError: the part has no row, or rows of one class only.
    """
    name, train = data.config.name, data.splits["train"]
    rows = draw_order(train.num_rows, seed=0, stream=f"part/{name}")[index::n_parts]
    if not len(rows):
        raise TaskDataError(
            f"task {name} has {train.num_rows} training rows, expected at least one for each of {n_parts} parts; make fewer",
            task=name,
        )
    part = train.take(rows)
    _check_more_than_one_label(data.config, "train", part, cap=len(rows))
    return dataclasses.replace(data, splits={**data.splits, "train": part})


def mirror_revision(config: TaskConfig, *, mirror: Path) -> str:
    """'sha256:' and 16 hex digits over the bytes of the mirror's files of a task: what stands in for a commit.

    Digests are kept in the process by (path, size, mtime), so that planning a large sweep reads each file once.

    Raises:
        TaskDataError: the mirror does not hold the task, or a file cannot be read.
    """
    whole = hashlib.sha256()
    for role, path in _mirror_files(config, mirror).items():
        try:
            stat = path.stat()
            whole.update(f"{role}:{_file_digest(path, stat.st_size, stat.st_mtime_ns)}\n".encode())
        except OSError as error:
            raise unreadable(config, path, error) from error
    return f"sha256:{whole.hexdigest()[:16]}"


def require_hub_id(config: TaskConfig) -> str:
    """The task's hub id.

    Raises:
        TaskDataError: it has none, so only a mirror can supply it.
    """
    if config.hub_id is None:
        raise TaskDataError(
            f"task {config.name} has no data set on the hub; give a mirror that holds tasks/{config.name}/train.parquet, "
            f"or leave the task out{': ' + config.notes if config.notes else ''}",
            task=config.name,
        )
    return config.hub_id


def task_fingerprint(
    config: TaskConfig, *, revision: str, split_rule: SplitRule, caps: SplitCaps, data_seed: int = 0
) -> dict[str, object]:
    """Everything that defines the task's texts, labels and rows, as plain JSON values, for hashing into a cell's key."""
    stated = {name: value for name, value in asdict(config).items() if name not in _NOT_IDENTITY}
    for name in ("image_columns", "label_column_fallback"):
        if not stated[name]:  # its absence says the same, and cells from before it keep their keys
            del stated[name]
    plain = {name: value.value if isinstance(value, Enum) else value for name, value in stated.items()}
    return {
        **plain,
        "revision": revision,
        "split_rule": split_rule.value,
        "caps": asdict(caps),
        "data_seed": data_seed,
        "rules_version": RULES_VERSION,
    }


def _mirror_files(config: TaskConfig, mirror: Path) -> dict[str, Path]:
    folder = find_task_folder(mirror, config.name)
    files = {role: folder / f"{role}.parquet" for role in ROLES} if folder else {}
    present = {role: path for role, path in files.items() if path.is_file()}
    if "train" not in present:
        found = f"it has {_listed(path.name for path in present.values())} only" if present else "there is no such file"
        place = TASK_PLACES[-1 if config.is_image else 0]
        raise TaskDataError(
            f"task {config.name}: expected {mirror}/{place}/{config.name}/train.parquet in the mirror, but {found}; "
            "put it there, or run without the mirror",
            task=config.name,
        )
    return present


_digests: dict[tuple[Path, int, int], str] = {}


def _file_digest(path: Path, size: int, mtime_ns: int) -> str:
    key = (path.resolve(), size, mtime_ns)
    if key not in _digests:
        with path.open("rb") as file:
            _digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _digests[key]


def _assemble(
    config: TaskConfig,
    parts: Mapping[str, Sequence[RawSplit]],
    *,
    revision: str,
    split_rule: SplitRule,
    caps: SplitCaps,
    data_seed: int,
) -> TaskData:
    read = {role: read_role(config, role, raw) for role, raw in parts.items()}
    labelled = {role: read[role] for role in ROLES if role in read and read[role].table.num_rows}
    if "train" not in labelled:
        raise TaskDataError(
            f"task {config.name}, split train: none of its {read['train'].rows_read} rows has a label; "
            "expected labelled rows; check label_column and the choice of splits",
            task=config.name,
        )
    _check_same_columns(config, labelled)
    plan = plan_splits(labelled, hidden_test=config.hidden_test, names_test="test" in config.splits, rule=split_rule)
    facts = _facts_of_reading(read, plan)
    splits = _split(config, {role: split.table for role, split in labelled.items()}, plan, seed=data_seed, facts=facts)
    for role in ROLES:
        cap = getattr(caps, role)
        facts[f"{role}.rows_before_cap"] = splits[role].num_rows
        if cap is not None:
            rows = cap_rows(splits[role].num_rows, cap=cap, seed=data_seed, stream=f"cap/{config.name}/{role}")
            splits[role] = splits[role].take(rows)
        facts[f"{role}.rows"] = splits[role].num_rows
    for role in ("train", "test"):
        _check_more_than_one_label(config, role, splits[role], cap=getattr(caps, role))
    return TaskData(config=config, splits=splits, revision=revision, facts=facts)


def _split(
    config: TaskConfig, tables: dict[str, pa.Table], plan: SplitPlan, *, seed: int, facts: dict[str, str | int]
) -> dict[str, pa.Table]:
    """The three splits of the plan, cut from train where it says so, with what was found about shared texts."""
    ids = row_ids(tables)
    tables_by_role = {role: tables[source] for role, source in plan.sources.items()}
    ids_by_role = {role: ids[source] for role, source in plan.sources.items()}
    size = cut_size(tables["train"].num_rows)
    for role in plan.cut:
        train_ids = np.unique(ids_by_role["train"], return_inverse=True)[1].astype(np.int64)
        try:
            cut, left = cut_rows(train_ids, size=size, seed=seed, stream=f"cut/{config.name}/{role}")
        except ValueError as error:
            raise TaskDataError(
                f"task {config.name}: no {role} set can be made from train: {error}; supply a {role} split",
                task=config.name,
            ) from error
        tables_by_role[role], ids_by_role[role] = tables_by_role["train"].take(cut), ids_by_role["train"][cut]
        tables_by_role["train"], ids_by_role["train"] = tables_by_role["train"].take(left), ids_by_role["train"][left]
    for role in ("validation", "test"):
        facts[f"{role}.rows_repeated"] = len(ids_by_role[role]) - len(np.unique(ids_by_role[role]))
        facts[f"{role}.rows_shared_with_train"] = int(np.isin(ids_by_role[role], ids_by_role["train"]).sum())
    return {role: tables_by_role[role] for role in ROLES}


def _facts_of_reading(read: Mapping[str, RoleRows], plan: SplitPlan) -> dict[str, str | int]:
    facts: dict[str, str | int] = {}
    for role, split in read.items():
        facts[f"{role}.rows_read"] = split.rows_read
        facts[f"{role}.rows_unlabelled"] = split.rows_unlabelled
        facts[f"{role}.null_texts"] = split.null_texts
    for role in ROLES:
        facts[f"{role}.from"] = "cut from train" if role in plan.cut else f"{plan.sources[role]} split"
    for role in plan.unused:
        facts[f"{role}.unused_rows"] = read[role].table.num_rows
    return facts


def _check_same_columns(config: TaskConfig, read: Mapping[str, RoleRows]) -> None:
    columns = {role: rows.table.column_names for role, rows in read.items()}
    for role, names in columns.items():
        if names != columns["train"]:
            raise TaskDataError(
                f"task {config.name}, split {role}: its columns are {_listed(names)} where train has "
                f"{_listed(columns['train'])}; expected the same in both; repair the data",
                task=config.name,
            )


def _check_more_than_one_label(config: TaskConfig, role: str, table: pa.Table, *, cap: int | None) -> None:
    values = pc.unique(table.column(LABEL))
    if len(values) > 1:
        return
    only = values[0].as_py()
    label = only if config.is_regression else config.label_names[only]
    remedy = "check the data" if cap is None else f"raise the cap of {cap} rows, or check the data"
    raise TaskDataError(
        f"task {config.name}, split {role}: all {table.num_rows} rows have the label {label!r}; expected at least two "
        f"different labels to learn or to measure anything; {remedy}",
        task=config.name,
        split=role,
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"
