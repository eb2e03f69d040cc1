"""A tree of configuration dataclasses: what is wrong with it, and its plain values for people and files."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracking.secrets import holds_token, holds_userinfo, redact_forms

_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_WITH_PASSWORD = ("tracking.uri", "tracking.server.database")
"""Values that may hold a name and password; they are hidden wherever the configuration is shown or kept."""


def tree_faults(value: Any, path: str = "") -> list[str]:
    """What the ``faults`` methods of a tree of dataclasses find, each with its dotted path."""
    found: list[str] = []
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        check = getattr(value, "faults", None)
        if check is not None:
            found += [f"{path}.{text}".lstrip(".") for text in check()]
        for part in dataclasses.fields(value):
            found += tree_faults(getattr(value, part.name), f"{path}.{part.name}".lstrip("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += tree_faults(item, f"{path}.{index}")
    return found


def text_faults(config: Any) -> list[str]:
    """What no text of a configuration may hold: control characters, tokens of the hub, passwords in addresses.

    A value that holds a secret is not shown.
    """
    found = []
    for path, text in _texts(config):
        if holds_token(text):
            found.append(
                f"{path}: holds what looks like a token of the hub; take it out and set it as HF_TOKEN in the environment"
            )
        elif holds_userinfo(text) and path not in _WITH_PASSWORD:
            found.append(
                f"{path}: holds a name or password in an address; leave it out, and give it in the environment of the service"
            )
        elif _HIDDEN.search(text):
            found.append(f"{path}: {text[:80]!r} holds a control character or half a character; write plain text")
    return found


def _texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a tree with its dotted path, keys of mappings among them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for part in dataclasses.fields(value):
            yield from _texts(getattr(value, part.name), f"{path}.{part.name}".lstrip("."))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield path, str(key)
            yield from _texts(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _texts(item, f"{path}.{index}")
    elif isinstance(value, str | Path):
        yield path, str(value)


def as_plain(config: Any) -> Any:
    """A dataclass tree as JSON-ready values (enums by value, paths as text), passwords in addresses hidden."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {part.name: as_plain(getattr(config, part.name)) for part in dataclasses.fields(config)}
    if isinstance(config, dict):
        return {str(key): as_plain(item) for key, item in config.items()}
    if isinstance(config, list | tuple):
        return [as_plain(item) for item in config]
    if isinstance(config, str | Path):
        return redact_forms(str(config))
    return getattr(config, "value", config)
