"""The hub, read only: which commit a revision is, which files it has, and one file at a time into the cache.

The hub's own client (huggingface_hub) does the talking and keeps the cache in its own layout. Added here are patience
(`ray_app.hub.patience`), errors a user can act on (`ray_app.hub.refusals`), and a check of what was downloaded.
"""

from __future__ import annotations

import functools
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import huggingface_hub
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import silent_tqdm
from tenacity import Retrying, retry_if_exception, stop_after_attempt

from ray_app.hub.hub_cache import Listing, WrongContentError, cached_file, check_content, note_listing, noted_listing
from ray_app.hub.mirror import check_hub_id, check_revision, is_commit
from ray_app.hub.patience import HubBusyError, Patience, patiently
from ray_app.hub.refusals import CAUGHT, RepoKind, explain, of_disk, scrub, unreachable
from tracking.errors import ConfigError, StorageError, UnreachableError

logger = logging.getLogger(__name__)

_DEFAULT_ENDPOINT = "https://huggingface.co"
_TRUE = {"1", "on", "yes", "true"}
_INFO_TIMEOUT_S = 30.0


def hub_endpoint() -> str:
    """Address of the hub: HF_ENDPOINT as it stands now, else the public one.

    Raises:
        ConfigError: HF_ENDPOINT is not the address of a web server.
    """
    endpoint = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or _DEFAULT_ENDPOINT
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError("HF_ENDPOINT is not an address of the form https://host; correct or unset it")
    return endpoint


def is_offline() -> bool:
    """True when the environment forbids asking the hub (HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE)."""
    return any(os.environ.get(name, "").lower() in _TRUE for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


@dataclass(kw_only=True)
class HubClient:
    """Reads repositories of one hub into one cache. Safe to share between threads."""

    cache: Path
    """Folder in the layout of the hub's cache."""
    endpoint: str = field(default_factory=hub_endpoint)
    """Address of the hub."""
    patience: Patience = field(default_factory=Patience)
    """When to ask again, and when to give up."""
    _away: HubBusyError | None = field(default=None, init=False, repr=False)
    _away_until: float = field(default=0.0, init=False, repr=False)

    def listing(self, kind: RepoKind, repo_id: str, revision: str | None = None) -> Listing:
        """The commit a revision is, and its files; both are noted in the cache for times without a hub.

        Args:
            kind: model or data set.
            repo_id: its id on the hub.
            revision: commit, branch or tag; None: the main branch.

        Raises:
            CheckpointError, TaskDataError: the hub refuses, or has no such repository or revision.
            UnreachableError: the hub is away or stays busy.
            ConfigError: not an id, or not a revision.

        Cost: no request for a commit listed before, one for a branch; a data set's files, once a commit, one or more (a
        thousand files a page).
        """
        check_hub_id(repo_id)
        if revision is not None:
            check_revision(revision)
            noted = (
                noted_listing(self.cache, kind=kind, repo_id=repo_id, revision=revision)
                if is_commit(revision)
                else None
            )
            if noted is not None:
                return noted
        with self.asking(kind, repo_id, wanted=f"revision {revision or 'main'}"):
            api = huggingface_hub.HfApi(endpoint=self.endpoint)
            if kind is RepoKind.MODEL:
                model = api.model_info(repo_id, revision=revision, timeout=_INFO_TIMEOUT_S, files_metadata=True)
                commit = str(model.sha)
                files = {file.rfilename: file.size or 0 for file in model.siblings or []}
            else:
                commit = str(api.dataset_info(repo_id, revision=revision, timeout=_INFO_TIMEOUT_S).sha)
                noted = noted_listing(self.cache, kind=kind, repo_id=repo_id, revision=commit)
                files = noted.files if noted is not None else self._tree(api, repo_id, commit)
            if not is_commit(commit):
                raise ValueError(f"the hub names no commit, but {commit!r}")
        listing = Listing(commit=commit, files=files)
        note_listing(self.cache, listing, kind=kind, repo_id=repo_id, revision=revision or "main")
        return listing

    def _tree(self, api: huggingface_hub.HfApi, repo_id: str, commit: str) -> dict[str, int]:
        tree = api.list_repo_tree(repo_id, repo_type=RepoKind.DATASET.value, revision=commit, recursive=True)
        return {entry.path: entry.size for entry in tree if isinstance(entry, RepoFile)}

    def require_online(self, *, offline: bool, wanted: str) -> None:
        """Refuse what only the hub can answer when it is not to be asked.

        Raises:
            UnreachableError: ``offline``, or the environment says so.
        """
        if offline or is_offline():
            raise UnreachableError(
                f"{wanted} comes from the hub alone, and asking it is switched off; unset OFFLINE, HF_HUB_OFFLINE and "
                "TRANSFORMERS_OFFLINE",
                endpoint=self.endpoint,
            )

    def fetch(self, kind: RepoKind, repo_id: str, *, commit: str, name: str) -> Path:
        """One file at one commit, from the cache where it is there; checked against its SHA-256 where the hub states it.

        Raises:
            CheckpointError, TaskDataError: the hub refuses, or has no such file.
            UnreachableError: the hub is away, stays busy, or goes on cutting the file short.
            StorageError: the disk is full, or the cache cannot be written.

        Cost: no request where the file is cached, else two.
        """
        cached = cached_file([self.cache], kind=kind, repo_id=repo_id, revision=commit, name=name)
        if cached is not None:
            return cached
        with self.asking(kind, repo_id, wanted=f"{name} at {commit[:12]}"):
            retrying = Retrying(
                retry=retry_if_exception(_is_broken_body),
                stop=stop_after_attempt(3),
                wait=lambda state: 0.0,
                reraise=True,
            )
            return retrying(self._download, kind, repo_id, commit, name)

    def fetch_all(
        self, kind: RepoKind, repo_id: str, *, listing: Listing, names: list[str], min_free_bytes: int
    ) -> None:
        """Several files at one commit, in the given order, once it is sure that there is room for them.

        Args:
            kind: model or data set.
            repo_id: its id.
            listing: what the repository holds at the commit.
            names: files to fetch, all of them in the listing.
            min_free_bytes: space that must be left on the disk.

        Raises:
            StorageError: less would be left, or as `fetch`.
            CheckpointError, TaskDataError, UnreachableError: as `fetch`.
        """
        self._check_room(
            sum(
                listing.files[name]
                for name in names
                if cached_file([self.cache], kind=kind, repo_id=repo_id, revision=listing.commit, name=name) is None
            ),
            min_free_bytes=min_free_bytes,
        )
        for name in names:
            self.fetch(kind, repo_id, commit=listing.commit, name=name)

    def _download(self, kind: RepoKind, repo_id: str, commit: str, name: str) -> Path:
        path = Path(
            huggingface_hub.hf_hub_download(
                repo_id,
                name,
                repo_type=kind.value,
                revision=commit,
                cache_dir=self.cache,
                endpoint=self.endpoint,
                tqdm_class=silent_tqdm,
            )
        )
        check_content(path)
        logger.info("fetched %s of %s (%s)", name, repo_id, _mb(path.stat().st_size))
        return path

    @contextmanager
    def asking(self, kind: RepoKind, repo_id: str, *, wanted: str) -> Iterator[None]:
        """Patience for the requests inside, and our own errors for theirs. A hub found away is not asked again."""
        if self._away is not None and time.monotonic() < self._away_until:
            raise unreachable(self._away.reason, kind=kind, repo_id=repo_id, wanted=wanted, endpoint=self.endpoint)
        try:
            with patiently(self.patience):
                yield
        except CAUGHT as error:
            if isinstance(error, HubBusyError) and error.status is None:
                self._away, self._away_until = error, time.monotonic() + self.patience.away_s
            scrub(error)
            raise explain(
                error, kind=kind, repo_id=repo_id, wanted=wanted, endpoint=self.endpoint, cache=self.cache
            ) from error

    def _check_room(self, needed: int, *, min_free_bytes: int) -> None:
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.cache).free
        except OSError as error:
            raise of_disk(error, folder=self.cache) from error
        if free - needed < min_free_bytes:
            raise StorageError(
                f"{self.cache} has {_mb(free)} free, expected {_mb(needed)} for downloads and {_mb(min_free_bytes)} to be "
                "left: free space there or name another cache folder.",
                free_bytes=free,
                needed_bytes=needed,
            )


@functools.cache
def _shared_hub(cache: Path, endpoint: str, patience: Patience) -> HubClient:
    return HubClient(cache=cache, endpoint=endpoint, patience=patience)


def open_hub(cache_dir: Path, patience: Patience | None = None) -> HubClient:
    """The hub at HF_ENDPOINT with its cache in ``<cache_dir>/hub``; the same one for the same arguments, so that what is
    known of its being away is known to all.

    Raises:
        ConfigError: HF_ENDPOINT is not the address of a web server.
    """
    return _shared_hub(cache_dir.absolute() / "hub", hub_endpoint(), patience or Patience())


def _is_broken_body(error: BaseException) -> bool:
    """True when a file broke off or arrived damaged, and may arrive whole the next time."""
    if isinstance(error, (httpx2.NetworkError, WrongContentError)):
        return True
    return type(error) is OSError and error.errno is None  # huggingface_hub: another size than announced


def _mb(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"
