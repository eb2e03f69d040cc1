"""A base model from the hub: the few files that count, at one commit, small ones first and checked before the weights."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ray_app.hub.client import HubClient
from ray_app.hub.hub_cache import Listing, cached_commit, cached_file, user_cache
from ray_app.hub.mirror import check_hub_id, is_commit
from ray_app.hub.model_files import FETCHED_FILES, VOCABULARY_FILES
from ray_app.hub.model_folder import check_architecture, parse_config
from ray_app.hub.refusals import RepoKind, refused, unreachable
from ray_app.hub.safetensors_header import INDEX_NAME, SINGLE_NAME, no_safetensors, shard_names
from tracking.errors import CheckpointError, UnreachableError

logger = logging.getLogger(__name__)


def fetch_model(
    hub: HubClient,
    model_id: str,
    *,
    revision: str | None,
    expected_model_types: Sequence[str],
    offline: bool,
    min_free_bytes: int,
) -> tuple[Path, str]:
    """Folder of a hub model on this disk, and its commit.

    A commit that is already in a cache costs no request; a branch (or no revision) costs the one that resolves it. Where
    the hub is away, what the branch was when last asked for is used, and said so in the log.

    Args:
        hub: where to read and where to put it.
        model_id: id on the hub.
        revision: commit, branch or tag; None: the main branch.
        expected_model_types: as `ray_app.hub.model_folder.check_architecture`; asked before weights are fetched.
        offline: never ask the hub.
        min_free_bytes: space that must be left on the disk.

    Raises:
        CheckpointError: the hub refuses or does not have it, only pickled weights, another architecture.
        UnreachableError: the hub is away (or not to be asked) and no cache has it.
        StorageError: too little space, or a cache that cannot be written.
    """
    check_hub_id(model_id)
    roots = [hub.cache, user_cache()]
    if offline or is_commit(revision):
        cached = _cached_folder(roots, model_id, revision or "main")
        if cached is not None:
            return cached
        if offline:
            wanted = f"revision {revision or 'main'}"
            raise unreachable(
                "asking it is switched off", kind=RepoKind.MODEL, repo_id=model_id, wanted=wanted, endpoint=hub.endpoint
            )
    try:
        listing = hub.listing(RepoKind.MODEL, model_id, revision)
    except UnreachableError:
        cached = _cached_folder(roots, model_id, revision or "main")
        if cached is None:
            raise
        logger.warning("the hub is away: %s is taken from the cache at commit %s", model_id, cached[1])
        return cached
    small, config = _small_files(listing, model_id), "config.json"
    folder = hub.fetch(RepoKind.MODEL, model_id, commit=listing.commit, name=config).parent
    check_architecture(
        parse_config((folder / config).read_bytes(), model_id=model_id),
        model_id=model_id,
        expected_model_types=expected_model_types,
    )
    names = small + _weight_files(hub, listing, model_id)
    for root in roots[1:]:
        held = _folder_with(root, model_id, listing.commit, names)
        if held is not None:
            return held, listing.commit
    hub.fetch_all(RepoKind.MODEL, model_id, listing=listing, names=names, min_free_bytes=min_free_bytes)
    return folder, listing.commit


def _small_files(listing: Listing, model_id: str) -> list[str]:
    """Files besides the weights to fetch; refuses what cannot be a safe checkpoint before anything is fetched."""
    names = sorted(listing.files)
    if "config.json" not in listing.files:
        raise refused(
            f"{model_id} has no config.json on the hub, expected a checkpoint in hub format: name another model.",
            kind=RepoKind.MODEL,
            repo_id=model_id,
        )
    if SINGLE_NAME not in listing.files and INDEX_NAME not in listing.files:
        raise no_safetensors(names, where=f"{model_id} at {listing.commit[:12]}")
    return [name for name in names if name in FETCHED_FILES and name != INDEX_NAME]


def _weight_files(hub: HubClient, listing: Listing, model_id: str) -> list[str]:
    """The safetensors files that make the model; an index stands before its shards."""
    if SINGLE_NAME in listing.files:
        return [SINGLE_NAME]
    index = hub.fetch(RepoKind.MODEL, model_id, commit=listing.commit, name=INDEX_NAME)
    shards = sorted(set(shard_names(index.read_bytes(), where=model_id).values()))
    missing = [shard for shard in shards if shard not in listing.files]
    if missing:
        raise CheckpointError(
            f"{model_id}: {INDEX_NAME} names {', '.join(missing)}, which the hub does not have; leave this model out.",
            model_id=model_id,
        )
    return [INDEX_NAME, *shards]


def _folder_with(root: Path, model_id: str, commit: str, names: list[str]) -> Path | None:
    """Snapshot folder of a cache when it holds all the named files."""
    found = [cached_file([root], kind=RepoKind.MODEL, repo_id=model_id, revision=commit, name=name) for name in names]
    return found[0].parent if found[0] is not None and all(path is not None for path in found) else None


def _cached_folder(roots: list[Path], model_id: str, revision: str) -> tuple[Path, str] | None:
    """Snapshot folder and commit of a whole checkpoint in a cache: configuration, vocabulary and all of its weights.

    Weights are fetched last, so that a fetch which broke off never looks whole.
    """
    for root in roots:
        commit = revision
        if not is_commit(revision):
            noted = cached_commit([root], kind=RepoKind.MODEL, repo_id=model_id, revision=revision)
            if noted is None:
                continue
            commit = noted
        config = cached_file([root], kind=RepoKind.MODEL, repo_id=model_id, revision=commit, name="config.json")
        if config is not None and _is_whole(config.parent):
            return config.parent, commit
    return None


def _is_whole(folder: Path) -> bool:
    if not any((folder / name).is_file() for name in (*VOCABULARY_FILES, "preprocessor_config.json")):
        return False
    if (folder / SINGLE_NAME).is_file():
        return True
    index = folder / INDEX_NAME
    if not index.is_file():
        return False
    return all((folder / shard).is_file() for shard in shard_names(index.read_bytes(), where=str(folder)).values())
