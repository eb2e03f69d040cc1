"""What is on this disk of the hub: its cache, in its own layout, and notes of what it answered for times without it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import httpx2
import huggingface_hub
from huggingface_hub.file_download import repo_folder_name

from ray_app.hub.mirror import check_revision, is_commit
from ray_app.hub.refusals import RepoKind

logger = logging.getLogger(__name__)

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a repository holds at one commit."""

    commit: str
    """40-hex commit."""
    files: dict[str, int]
    """Path inside the repository -> bytes."""


def user_cache() -> Path:
    """The hub cache of the user: HF_HUB_CACHE, else HF_HOME/hub, else the default place, as the environment stands now."""
    named = os.environ.get("HF_HUB_CACHE")
    if named:
        return Path(named).expanduser()
    cache_home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{cache_home}/huggingface"
    return Path(home).expanduser() / "hub"


def cached_file(roots: list[Path], *, kind: RepoKind, repo_id: str, revision: str, name: str) -> Path | None:
    """A file of a repository in the first cache that has it at a commit, or at what a branch pointed to when cached."""
    for root in roots:
        found = huggingface_hub.try_to_load_from_cache(
            repo_id, name, cache_dir=root, revision=revision, repo_type=kind.value
        )
        if isinstance(found, str):
            return Path(found)
    return None


def cached_commit(roots: list[Path], *, kind: RepoKind, repo_id: str, revision: str) -> str | None:
    """The commit that a branch or tag pointed to when it was last asked for, from the caches; None where none knows."""
    for root in roots:
        reference = root / repo_folder_name(repo_id=repo_id, repo_type=kind.value) / "refs" / check_revision(revision)
        if reference.is_file():
            return reference.read_text().strip()
    return None


def noted_listing(cache: Path, *, kind: RepoKind, repo_id: str, revision: str | None) -> Listing | None:
    """What the hub answered when last asked for the files of this revision; None where it never was.

    Args:
        cache: folder in the layout of the hub's cache; the notes are beside it, in ``listings/``.
        kind: model or data set.
        repo_id: its id.
        revision: commit, branch or tag; None: the main branch.
    """
    commit = revision if is_commit(revision) else None
    commit = commit or cached_commit([cache], kind=kind, repo_id=repo_id, revision=revision or "main")
    if commit is None or not is_commit(commit):
        return None
    try:
        files = json.loads(_listing_note(cache, kind, repo_id, commit).read_text())
        return Listing(commit=commit, files={str(name): int(size) for name, size in files.items()})
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def note_listing(cache: Path, listing: Listing, *, kind: RepoKind, repo_id: str, revision: str) -> None:
    """Note a listing, and which commit the revision is; a cache that cannot be written only loses the notes."""
    folder = repo_folder_name(repo_id=repo_id, repo_type=kind.value)
    if listing.commit != revision:
        _note(cache / folder / "refs" / revision, listing.commit)
    _note(_listing_note(cache, kind, repo_id, listing.commit), json.dumps(listing.files, sort_keys=True))


def snapshot_listing(root: Path, *, kind: RepoKind, repo_id: str, revision: str | None) -> Listing | None:
    """Files that a cache filled by other programs holds of a revision, all taken to be there; None where it has none."""
    commit = revision if is_commit(revision) else None
    commit = commit or cached_commit([root], kind=kind, repo_id=repo_id, revision=revision or "main")
    folder = root / repo_folder_name(repo_id=repo_id, repo_type=kind.value) / "snapshots" / (commit or "none")
    if commit is None or not is_commit(commit) or not folder.is_dir():
        return None
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return Listing(commit=commit, files={path.relative_to(folder).as_posix(): path.stat().st_size for path in files})


class WrongContentError(httpx2.HTTPError):
    """A file arrived whole but not as the hub states it."""


def check_content(path: Path) -> None:
    """Compare a file with the SHA-256 that the cache names its blob by (large files); remove it where they differ."""
    blob = path.resolve()
    if not _SHA256.fullmatch(blob.name):
        return
    with blob.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != blob.name:
        path.unlink()
        blob.unlink()
        raise WrongContentError(f"{path.name} came with SHA-256 {digest[:12]}, expected {blob.name[:12]}")


def _listing_note(cache: Path, kind: RepoKind, repo_id: str, commit: str) -> Path:
    return cache.parent / "listings" / f"{repo_folder_name(repo_id=repo_id, repo_type=kind.value)}@{commit}.json"


def _note(path: Path, text: str) -> None:
    """Write a small file at once or not at all; a cache that cannot be written only loses the note."""
    try:
        if path.is_file() and path.read_text() == text:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(temporary).replace(path)
    except OSError as error:
        logger.warning("%s cannot be written (%s): without a hub, the commit has to be named", path, error)
