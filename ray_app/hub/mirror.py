"""A mirror: a folder that replaces the hub for tasks and models, for clusters without a way out.

    <mirror>/tasks/<task>/{train,validation,test}.parquet, or under <mirror>/images/ for a task of images
    <mirror>/models/<org>/<name>/     in hub format; <mirror>/models/<name>/ for an id without an organisation

Every id is checked before a path is made of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tracking.errors import ConfigError

TASK_PLACES = ("tasks", "images")
"""Folders of a mirror that hold tasks; the first that has one wins."""
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_HUB_ID = re.compile(rf"(?:{_PART}/)?{_PART}")
_TASK_NAME = re.compile(_PART)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REVISION = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._/-]{0,198}[A-Za-z0-9_])?")


def check_hub_id(hub_id: str) -> str:
    """The id itself, once it is sure that it is one: ``name`` or ``org/name``.

    Raises:
        ConfigError: not a hub id (characters, length, '..', '--', an absolute path).

    Source: huggingface_hub, utils/_validators.py, validate_repo_id.
    """
    plain = _HUB_ID.fullmatch(hub_id) and ".." not in hub_id and "--" not in hub_id and not hub_id.endswith(".git")
    if not plain:
        raise ConfigError(
            f"{hub_id!r} is not a hub id; expected name or org/name of letters, digits, '-', '_' and '.', "
            "without '..' or '--'"
        )
    return hub_id


def check_revision(revision: str) -> str:
    """The revision itself, once it is sure that it is a commit, branch or tag name.

    Raises:
        ConfigError: characters that no git reference of the hub has, or '..'.
    """
    if not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision:
        raise ConfigError(f"{revision!r} is not a revision; expected a 40-hex commit, or a branch or tag name")
    return revision


def faults_of(check: Callable[[str], str], value: str) -> list[str]:
    """What a check such as ``check_hub_id`` says of a value; empty where it is fine."""
    try:
        check(value)
    except ConfigError as error:
        return error.faults
    return []


def is_commit(revision: str | None) -> bool:
    """True for a full 40-hex commit: nothing is left to resolve."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def find_model_folder(mirror: Path, model_id: str) -> Path | None:
    """Folder of a model in the mirror, or None where there is no such folder with files in it.

    ``org/name`` is only looked for under its organisation: two owners may use the same name.

    Raises:
        ConfigError: the id is no hub id, or its folder leads out of the mirror.
    """
    folder = mirror / "models" / check_hub_id(model_id)
    if not folder.is_dir() or not any(entry.is_file() for entry in folder.iterdir()):
        return None
    return _inside(folder, mirror / "models")


def find_task_folder(mirror: Path, task: str) -> Path | None:
    """Folder of a task in the mirror, or None where there is no such folder with a Parquet file.

    Raises:
        ConfigError: the task name is not a plain name, or its folder leads out of the mirror.
    """
    if not _TASK_NAME.fullmatch(task) or ".." in task:
        raise ConfigError(f"{task!r} is not a task name; expected letters, digits, '-', '_' and '.'")
    for place in TASK_PLACES:
        folder = mirror / place / task
        if any(folder.glob("*.parquet")):
            return _inside(folder, mirror / place)
    return None


def _inside(folder: Path, root: Path) -> Path:
    """The folder, unless a symbolic link leads out of the root."""
    if not folder.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"{folder} leads out of the mirror {root}; replace the link by a folder")
    return folder
