"""Digest of a local checkpoint folder: its revision where no hub commit tells one state of it from another."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import threading
import time
from pathlib import Path

from ray_app.hub.model_files import is_identity_file
from tracking.errors import CheckpointError, StorageError

logger = logging.getLogger(__name__)

_MEMO = "digests.json"
_SETTLED_NS = 2_000_000_000
"""Age from which a file's time stamp tells its state: a younger file may change again within one tick of the clock."""
_memo_lock = threading.Lock()


def folder_revision(folder: Path, *, cache_dir: Path) -> str:
    """'sha256:' and the first 16 hex digits of SHA-256 over the lines ``name NUL sha256(content) LF``, names sorted.

    Names are those of config.json, tokenizer files and safetensors: what decides the numbers, and nothing else.
    Digests of files are kept in ``<cache_dir>/digests.json`` by path, size and time of change, so that a second call
    reads no weights.

    Raises:
        CheckpointError: a file cannot be read.
        StorageError: the cache folder cannot be written.

    Cost: reads every byte once, about 0.4 s a gigabyte on a fast disk.
    """
    memo_path = cache_dir / _MEMO
    memo = _load(memo_path)
    fresh: dict[str, list[int | str]] = {}
    outer = hashlib.sha256()
    for path in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if path.is_file() and is_identity_file(path.name):
            outer.update(f"{path.name}\0{_file_digest(path, memo, fresh)}\n".encode())
    if fresh:
        _store(memo_path, fresh)
    return f"sha256:{outer.hexdigest()[:16]}"


def _file_digest(path: Path, memo: dict[str, list[int | str]], fresh: dict[str, list[int | str]]) -> str:
    key = str(path.resolve())
    try:
        stat = path.stat()
        known = memo.get(key)
        if known is not None and known[:2] == [stat.st_size, stat.st_mtime_ns]:
            return str(known[2])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}); expected a readable checkpoint file: check its permissions.",
            file=str(path),
        ) from error
    if time.time_ns() - stat.st_mtime_ns > _SETTLED_NS:
        fresh[key] = [stat.st_size, stat.st_mtime_ns, digest]
    return digest


def _load(memo_path: Path) -> dict[str, list[int | str]]:
    try:
        memo = json.loads(memo_path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read (%s): digests are computed again", memo_path, error)
        return {}
    if not isinstance(memo, dict):
        return {}
    return {key: entry for key, entry in memo.items() if isinstance(entry, list) and len(entry) == 3}


def _store(memo_path: Path, fresh: dict[str, list[int | str]]) -> None:
    """Add entries to the memo; another process may do the same, so what is lost is at most a digest to compute again."""
    try:
        with _memo_lock:
            memo_path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps({**_load(memo_path), **fresh}, indent=0, sort_keys=True)
            handle, temporary = tempfile.mkstemp(dir=memo_path.parent, prefix=_MEMO)
            with os.fdopen(handle, "w") as file:
                file.write(text)
            Path(temporary).replace(memo_path)
    except OSError as error:
        raise StorageError(
            f"{memo_path.parent} cannot be written ({error.strerror}); expected a writable cache folder: "
            "free space there or name another one.",
            folder=str(memo_path.parent),
        ) from error
