"""Templates of clusters with the account filled in: plain YAML whose FILL_IN_<NAME> are replaced, nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tracking.errors import ConfigError

_MARK = re.compile(r"FILL_IN_([A-Z][A-Z0-9_]*)")
_PLAIN = re.compile(r"[\w./:@=,+ -]*", re.ASCII)
"""Characters that need no quoting in YAML text, a shell command or a path; a filled-in value holds no others."""


def fill_in(text: str, values: Mapping[str, str | None], *, where: str, given: Mapping[str, str] | None = None) -> str:
    """A template with ``FILL_IN_<NAME>`` replaced by ``values[name]``.

    Args:
        text: the template.
        values: by lower-case name, as the user wrote them; None is not known yet.
        given: the same for what Startline itself puts there, ready for its place.
        where: what the template is called in messages.

    Raises:
        ConfigError: names that are not filled in (all of them, with their lines), values that are not plain text, or values
            that the template has no place for.
    """
    faults, wanted, given = [], set(), given or {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") and not line.lstrip().startswith("#SBATCH"):
            continue
        for mark in _MARK.findall(line):
            name = mark.lower()
            if name in given:
                continue
            if name not in wanted and not values.get(name):
                faults.append(
                    f"cluster.launch.account.{name}: not filled in ({where}, line {number}); write it into the cluster's YAML "
                    f"under conf/cluster, or give ARGS=cluster.launch.account.{name}=..."
                )
            wanted.add(name)
    for name, value in values.items():
        if value and not _PLAIN.fullmatch(value):
            faults.append(
                f"cluster.launch.account.{name}: {value!r}; expected plain text (letters, digits and ./:@=,+-_)"
            )
        if value and name not in wanted:
            names = ", ".join(sorted(wanted)) or "none"
            faults.append(f"cluster.launch.account.{name}: {where} has no FILL_IN_{name.upper()}; it has: {names}")
    if faults:
        raise ConfigError(faults)
    known = {**values, **given}
    return _MARK.sub(lambda mark: str(known.get(mark[1].lower()) or mark[0]), text)


def read_documents(text: str, *, where: str) -> list[dict[str, Any]]:
    """The YAML documents of a filled-in template.

    Raises:
        ConfigError: it is not YAML, or a document is no mapping.
    """
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{where}: not YAML any more ({str(error).splitlines()[0]}); check what was filled in"
        ) from error
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise ConfigError(f"{where}: expected YAML mappings; restore the template from the repository")
    return documents


def read_template(folder: Path, name: str) -> str:
    """The text of a template.

    Raises:
        ConfigError: there is no template of that name.
    """
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise ConfigError(f"cluster.launch.template: there is no {name!r}; known: {', '.join(known)}")
    return (folder / f"{name}.yaml").read_text()
