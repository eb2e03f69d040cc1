"""Repositories on disk as the local hub of the tests shows them: commits, digests, and the JSON about them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

META = ".hub.json"
"""File beside a repository's own that is served by no one: further fields of the answer about it."""

_LARGE_SUFFIXES = (".safetensors", ".parquet", ".bin", ".arrow", ".model")


class RefusalError(Exception):
    def __init__(
        self, status: int, *, code: str | None = None, message: str = "", headers: dict[str, str] | None = None
    ):
        super().__init__(message)
        self.status = status
        self.headers = {**({"X-Error-Code": code} if code else {}), "X-Error-Message": message, **(headers or {})}


@dataclass(frozen=True, kw_only=True)
class Repository:
    kind: str
    repo_id: str
    folder: Path
    meta: dict[str, Any]

    def files(self) -> dict[str, Path]:
        """Path inside the repository -> file, in the order of the names."""
        found = (path for path in sorted(self.folder.rglob("*")) if path.is_file() and path.name != META)
        return {path.relative_to(self.folder).as_posix(): path for path in found}

    def commit(self) -> str:
        """SHA-1 over names and contents of all files."""
        lines = "".join(f"{name} {digests(path)[0]}\n" for name, path in self.files().items())
        return hashlib.sha1(lines.encode()).hexdigest()


_known_digests: dict[tuple[str, int, int], tuple[str, str]] = {}


def digests(path: Path) -> tuple[str, str]:
    """Git blob SHA-1 and SHA-256 of a file, kept by size and time of change."""
    stat = path.stat()
    key = (str(path), stat.st_size, stat.st_mtime_ns)
    if key not in _known_digests:
        content = path.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        _known_digests[key] = (blob, hashlib.sha256(content).hexdigest())
    return _known_digests[key]


def is_large(name: str) -> bool:
    return name.endswith(_LARGE_SUFFIXES)


def info_of(repository: Repository, *, blobs: bool = False, with_config: bool = False) -> dict[str, Any]:
    """Answer of /api/models/<id> and of its place in the list."""
    siblings: list[dict[str, Any]] = []
    for name, path in repository.files().items():
        entry: dict[str, Any] = {"rfilename": name}
        if blobs:
            blob, sha256 = digests(path)
            size = path.stat().st_size
            entry |= {"size": size, "blobId": blob}
            entry |= {"lfs": {"sha256": sha256, "size": size, "pointerSize": 134}} if is_large(name) else {}
        siblings.append(entry)
    defaults = {"private": False, "gated": False, "disabled": False, "downloads": 0, "likes": 0, "tags": []}
    config_file = repository.folder / "config.json"
    stated = json.loads(config_file.read_text()) if with_config and config_file.is_file() else {}
    config = {key: stated[key] for key in ("architectures", "model_type") if key in stated}
    named = {"id": repository.repo_id, "modelId": repository.repo_id, "author": repository.repo_id.partition("/")[0]}
    extra = {"config": config} if config else {}
    last = {"sha": repository.commit(), "siblings": siblings}
    return {"_id": "0", **named, **defaults, **extra, **repository.meta, **last}


def tree_of(repository: Repository, prefix: str, *, recursive: bool) -> list[dict[str, Any]]:
    """Files and folders below a prefix; folders before what is in them."""
    entries: dict[str, dict[str, Any]] = {}
    for name, path in repository.files().items():
        if not name.startswith(prefix):
            continue
        above = name.removeprefix(prefix).split("/")[:-1]
        for depth in range(len(above) if recursive else min(1, len(above))):
            folder = prefix + "/".join(above[: depth + 1])
            entries[folder] = {
                "type": "directory",
                "oid": hashlib.sha1(folder.encode()).hexdigest(),
                "size": 0,
                "path": folder,
            }
        if recursive or not above:
            entries[name] = entry_of(name, path)
    if prefix and not entries:
        raise RefusalError(404, code="EntryNotFound", message=f"{prefix} does not exist")
    return list(entries.values())


def entry_of(name: str, path: Path) -> dict[str, Any]:
    blob, sha256 = digests(path)
    size = path.stat().st_size
    entry = {"type": "file", "oid": blob, "size": size, "path": name}
    return entry | ({"lfs": {"oid": sha256, "size": size, "pointerSize": 134}} if is_large(name) else {})
