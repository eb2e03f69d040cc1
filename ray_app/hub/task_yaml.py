"""Reads the YAML files under conf/task and conf/suite as they are, without Hydra: for suites, documents and tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml

from ray_app.hub.tasks import Metric, SplitCaps, SplitRule, SuiteConfig, TaskConfig, nearest_names
from tracking.errors import ConfigError

_Member = TypeVar("_Member", bound=Enum)


def read_task_config(path: Path) -> TaskConfig:
    """The task that one YAML file states.

    Raises:
        ConfigError: the file is no mapping, has an unknown or mistyped field, or ``TaskConfig.faults`` finds something.
    """
    stated = _read_mapping(path, TaskConfig)
    stated["metric"] = _member(path, "metric", Metric, stated.get("metric", "accuracy"))
    task = TaskConfig(**stated)
    wrong = [] if task.name == path.stem else [f"name: {task.name!r} in a file called {path.name}; they must agree"]
    _raise_faults(path, wrong + task.faults())
    return task


def read_task_configs(folder: Path) -> dict[str, TaskConfig]:
    """Every task of a folder of YAML files, by name, in the order of the names.

    Raises:
        ConfigError: as ``read_task_config``, for the first file with a fault; or the folder holds no YAML file.
    """
    tasks = {path.stem: read_task_config(path) for path in sorted(folder.glob("*.yaml"))}
    if not tasks:
        raise ConfigError(f"{folder}: no task YAML found; expected conf/task of a Startline checkout")
    return tasks


def read_suite_config(path: Path) -> SuiteConfig:
    """The suite that one YAML file states.

    Raises:
        ConfigError: the file is no mapping, has an unknown or mistyped field, or a ``faults`` method finds something.
    """
    stated = _read_mapping(path, SuiteConfig)
    stated["split_rule"] = _member(path, "split_rule", SplitRule, stated.get("split_rule", "site"))
    stated["caps"] = SplitCaps(**_known_fields(path, stated.get("caps", {}), SplitCaps))
    suite = SuiteConfig(**stated)
    _raise_faults(path, suite.faults() + [f"caps.{fault}" for fault in suite.caps.faults()])
    return suite


def _read_mapping(path: Path, schema: type) -> dict[str, Any]:
    try:
        stated = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    return _known_fields(path, stated, schema)


def _known_fields(path: Path, stated: object, schema: type) -> dict[str, Any]:
    """The mapping, once every key of it is a field of the dataclass and every plain value has the field's type."""
    if not isinstance(stated, Mapping):
        raise ConfigError(f"{path}: expected the fields of {schema.__name__}, found {type(stated).__name__}")
    hints = get_type_hints(schema)
    required = [item.name for item in fields(schema) if item.name == "name"]
    faults = [f"{name}: missing; it is required" for name in required if name not in stated]
    for key, value in stated.items():
        if key not in hints:
            faults.append(f"{key}: no such field{nearest_names(str(key), list(hints))}")
        elif not _fits(value, hints[key]):
            faults.append(
                f"{key}: {value!r} does not fit; expected {_spelled(hints[key])} (put words like No in quotes)"
            )
    _raise_faults(path, faults)
    return dict(stated)


def _fits(value: object, hint: Any) -> bool:
    """True when the value has the hinted type; enums and nested dataclasses are looked at by their own readers."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return any(_fits(value, option) for option in inner)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, inner[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items())
    if hint in (str, int, bool, type(None)):
        return type(value) is hint
    return True


def _spelled(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and get_origin(hint) is None else str(hint)


def _member(path: Path, name: str, kind: type[_Member], stated: object) -> _Member:
    try:
        return kind(stated)
    except ValueError as error:
        expected = ", ".join(member.value for member in kind)
        raise ConfigError(f"{path}: {name}: {stated!r} is not one of {expected}") from error


def _raise_faults(path: Path, faults: list[str]) -> None:
    if faults:
        raise ConfigError([f"{path}: {fault}" for fault in faults])
