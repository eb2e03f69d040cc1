"""Which files of a data set repository hold which split: from the task's YAML, the data set's card, or the files' names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import yaml
from fsspec.utils import glob_translate

from ray_app.hub.tasks import TaskConfig
from tracking.errors import TaskDataError

CARD = "README.md"
"""The card; its YAML head states configurations and features."""
CONVERTED = "refs/convert/parquet"
"""Branch on which the hub keeps a Parquet copy of data sets, those made by scripts among them."""

_SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".json", ".json.gz")
"""Formats that can be read, the best first."""
_OTHER_NAMES = {
    "train": ("training",),
    "validation": ("valid", "val", "dev"),
    "test": ("testing", "eval"),
}
"""Names that data sets give to these splits (those `datasets` knows, as far as they are unambiguous)."""
_HEAD = re.compile(r"\A---\s*\n(?P<yaml>.*?)\n---\s*(?:\n|\Z)", re.DOTALL)


def read_card(text: str) -> dict[str, Any]:
    """The YAML head of a data set's card; empty where it has none, or none that can be read."""
    match = _HEAD.match(text)
    if match is None:
        return {}
    try:
        head = yaml.safe_load(match["yaml"])
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: a date that is none
        return {}
    return head if isinstance(head, dict) else {}


def split_files(
    paths: Collection[str], *, config: TaskConfig, wanted: Sequence[str], card: Mapping[str, Any]
) -> dict[str, list[str]]:
    """Files of each wanted split, as far as they can be told.

    Asked in this order: ``data_files`` of the task, ``configs`` of the card, names of files and folders
    (``<config>/<split>-00000-of-00002.parquet``, ``<config>/<split>/0000.parquet``, ``<split>.jsonl``).

    Args:
        paths: all files of the repository.
        config: the task.
        wanted: hub splits it asks for.
        card: YAML head of the card.

    Returns:
        Split -> its files in the order of their names; a split without files is left out, and all are where the
        repository holds nothing that can be read for them (a script, say).

    Raises:
        TaskDataError: ``data_files`` matches nothing, the card has no such configuration, or names alone cannot tell
            configurations apart.
    """
    if config.data_files:
        return _stated_files(paths, config=config, wanted=wanted)
    patterns = _card_patterns(card, config=config)
    if patterns is not None:
        found = {split: _matching(paths, patterns.get(split, [])) for split in wanted}
        return {split: _one_format(files) for split, files in found.items() if files}
    if _has_script(paths, config):
        return {}
    return _files_by_name(paths, config=config, wanted=wanted)


def class_label_names(card: Mapping[str, Any], *, config_name: str | None) -> dict[str, list[str]]:
    """Column -> class names, of the columns that the card says are classes (``dataset_info``: ``class_label``)."""
    stated = card.get("dataset_info")
    infos = [entry for entry in (stated if isinstance(stated, list) else [stated]) if isinstance(entry, dict)]
    named = [entry for entry in infos if entry.get("config_name", "default") == (config_name or "default")]
    info = named[0] if named else (infos[0] if len(infos) == 1 else {})
    features = info.get("features")
    found = {}
    for feature in features if isinstance(features, list) else []:
        names = _names_of(feature)
        if names:
            found[str(feature.get("name"))] = names
    return found


def _names_of(feature: object) -> list[str]:
    """Class names of one feature of a card (a list, or a mapping from numbers); empty where it is no class."""
    kind = feature.get("dtype") if isinstance(feature, dict) else None
    label = kind.get("class_label") if isinstance(kind, dict) else None
    names = label.get("names") if isinstance(label, dict) else None
    if isinstance(names, dict) and all(str(key).isdigit() for key in names):
        names = [names[key] for key in sorted(names, key=lambda key: int(key))]
    return [str(name) for name in names] if isinstance(names, list) else []


def _stated_files(paths: Collection[str], *, config: TaskConfig, wanted: Sequence[str]) -> dict[str, list[str]]:
    found = {split: _matching(paths, [config.data_files[split]]) for split in wanted if split in config.data_files}
    empty = [f"{split} ({config.data_files[split]})" for split, files in found.items() if not files]
    if empty:
        raise TaskDataError(
            f"task {config.name}: data_files of {', '.join(empty)} matches none of the files of {config.hub_id} "
            f"({shown(paths)}); correct data_files in conf/task/{config.name}.yaml",
            task=config.name,
        )
    return found


def _card_patterns(card: Mapping[str, Any], *, config: TaskConfig) -> dict[str, list[str]] | None:
    """Split -> patterns from the ``configs`` of a card; None where it has none that names data files.

    Source: the hub's documentation, "Data files configuration".
    """
    stated = card.get("configs")
    entries = [entry for entry in stated if isinstance(entry, dict)] if isinstance(stated, list) else []
    entries = [entry for entry in entries if entry.get("data_files") is not None]
    if not entries:
        return None
    names = [str(entry.get("config_name", "default")) for entry in entries]
    if config.config is None:
        chosen = [entry for entry in entries if entry.get("default") is True or entry.get("config_name") == "default"]
        chosen = chosen or (entries if len(entries) == 1 else [])
    else:
        chosen = [entry for entry, name in zip(entries, names, strict=True) if name == config.config]
    if not chosen and config.config is not None and set(names) == {"default"}:
        chosen = entries
    if not chosen:
        raise TaskDataError(
            f"task {config.name}: {config.hub_id} has no configuration {config.config!r}, expected one of "
            f"{', '.join(names)}; set config in conf/task/{config.name}.yaml",
            task=config.name,
        )
    folder = str(chosen[0].get("data_dir", "")).strip("/")
    prefix = f"{folder}/" if folder else ""
    return {
        split: [prefix + pattern for pattern in found] for split, found in _by_split(chosen[0]["data_files"]).items()
    }


def _by_split(data_files: object) -> dict[str, list[str]]:
    """All ways a card may state data files, as split -> patterns: text, list of texts, mapping, list of split and path."""
    if isinstance(data_files, str):
        return {"train": [data_files]}
    if isinstance(data_files, dict):
        return {str(split): _texts(patterns) for split, patterns in data_files.items()}
    found: dict[str, list[str]] = {}
    for entry in data_files if isinstance(data_files, list) else []:
        if isinstance(entry, dict):
            found.setdefault(str(entry.get("split", "train")), []).extend(_texts(entry.get("path")))
        else:
            found.setdefault("train", []).extend(_texts(entry))
    return found


def _texts(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, str)]


def _files_by_name(paths: Collection[str], *, config: TaskConfig, wanted: Sequence[str]) -> dict[str, list[str]]:
    inside = [path for path in paths if config.config is None or config.config in path.split("/")[:-1]]
    if not inside and config.config is not None:
        return {}
    found = {}
    for split in wanted:
        names = "|".join(re.escape(name) for name in (split, *_OTHER_NAMES.get(split, ())))
        shard = r"(?:-\d{5}-of-\d{5})?"
        endings = "|".join(re.escape(suffix) for suffix in _SUFFIXES)
        pattern = re.compile(rf"(?:.*/)?(?:(?:{names}){shard}|(?:{names})/[^/]+)(?:{endings})")
        files = _one_format(path for path in inside if pattern.fullmatch(path))
        if files:
            found[split] = files
    roots = {_folder_of(path) for files in found.values() for path in files}
    if len(roots) > 1 and config.config is None:
        raise TaskDataError(
            f"task {config.name}: {config.hub_id} keeps several sets of files ({shown(roots)}), expected one; name the one "
            f"meant as config, or its files as data_files, in conf/task/{config.name}.yaml",
            task=config.name,
        )
    return found


def _folder_of(path: str) -> str:
    """Folder of a file, less a last part that is a split's name."""
    parts = path.split("/")[:-1]
    known = {name for split, others in _OTHER_NAMES.items() for name in (split, *others)}
    return "/".join(parts[:-1] if parts and parts[-1] in known else parts) or "."


def _one_format(paths: Iterable[str]) -> list[str]:
    """The files of the best format among them, sorted: a repository may hold the same rows in several."""
    files = sorted(paths)
    for suffix in _SUFFIXES:
        chosen = [path for path in files if path.endswith(suffix)]
        if chosen:
            return chosen
    return []


def _matching(paths: Collection[str], patterns: Sequence[str]) -> list[str]:
    """Paths that a glob matches: '**' crosses folders, '*' does not."""
    compiled = [re.compile(glob_translate(_plain_glob(pattern))) for pattern in patterns]
    return sorted(path for path in paths if any(pattern.match(path) for pattern in compiled))


def _plain_glob(pattern: str) -> str:
    """The glob with '**' only as a whole part of it ('**.csv' means '*.csv'), which is all that is defined."""
    parts = pattern.removeprefix("./").split("/")
    return "/".join(part if part == "**" else re.sub(r"\*{2,}", "*", part) for part in parts)


def _has_script(paths: Collection[str], config: TaskConfig) -> bool:
    """True when a loading script stands in the repository: its rows are what the script makes, not what files hold."""
    return f"{str(config.hub_id).rpartition('/')[2]}.py" in paths


def shown(names: Iterable[str]) -> str:
    """At most eight names, for a message."""
    listed = sorted(names)
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")
