"""A task's rows from the hub: the few files that hold its splits, at one commit, as Arrow tables.

The files are read as they lie in the repository (Parquet, JSON lines, CSV); no script of a data set is ever run. Where the
main branch holds only a script, the hub's own Parquet copy of it is read.
"""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from ray_app.hub.client import HubClient, is_offline, open_hub
from ray_app.hub.dataset_files import CARD, CONVERTED, class_label_names, read_card, shown, split_files
from ray_app.hub.hub_cache import Listing, cached_file, noted_listing, snapshot_listing, user_cache
from ray_app.hub.patience import Patience
from ray_app.hub.refusals import RepoKind, unreachable
from ray_app.hub.task_data import require_hub_id
from ray_app.hub.task_rows import label_column
from ray_app.hub.tasks import ROLES, TaskConfig
from tracking.errors import TaskDataError, UnreachableError

logger = logging.getLogger(__name__)

_JSON_BLOCK_BYTES = 64 << 20
"""Longest line of JSON that can be read."""


class _Source:
    """One data set on the hub, or what the disk holds of it."""

    def __init__(self, hub: HubClient, config: TaskConfig, *, offline: bool, min_free_bytes: int) -> None:
        self.hub = hub
        self.config = config
        self.repo_id = require_hub_id(config)
        self.offline = offline
        self.min_free_bytes = min_free_bytes
        self.roots = [hub.cache, user_cache()]

    def listing(self, revision: str | None) -> Listing:
        """Files of a revision, from the hub, or from what is on disk where the hub is away or not to be asked."""
        if not self.offline:
            try:
                return self.hub.listing(RepoKind.DATASET, self.repo_id, revision)
            except UnreachableError as error:
                known = self._known_listing(revision)
                if known is None:
                    raise
                logger.warning("%s; %s is taken from the cache at commit %s", error, self.repo_id, known.commit)
                return known
        known = self._known_listing(revision)
        if known is None:
            raise self._switched_off(f"revision {revision or 'main'}")
        return known

    def files(self, listing: Listing, names: list[str]) -> list[Path]:
        """Files on this disk, fetched where they are not."""
        at = {"kind": RepoKind.DATASET, "repo_id": self.repo_id, "revision": listing.commit}
        missing = [name for name in names if cached_file(self.roots, name=name, **at) is None]  # type: ignore[arg-type]
        if missing and self.offline:
            raise self._switched_off(f"{shown(missing)} at {listing.commit[:12]}")
        self.hub.fetch_all(
            RepoKind.DATASET, self.repo_id, listing=listing, names=missing, min_free_bytes=self.min_free_bytes
        )
        found = [cached_file(self.roots, name=name, **at) for name in names]  # type: ignore[arg-type]
        return [path for path in found if path is not None]

    def _known_listing(self, revision: str | None) -> Listing | None:
        asked: Mapping[str, Any] = {"kind": RepoKind.DATASET, "repo_id": self.repo_id, "revision": revision}
        return noted_listing(self.hub.cache, **asked) or snapshot_listing(user_cache(), **asked)

    def _switched_off(self, wanted: str) -> UnreachableError:
        return unreachable(
            "asking it is switched off",
            kind=RepoKind.DATASET,
            repo_id=self.repo_id,
            wanted=wanted,
            endpoint=self.hub.endpoint,
        )


def fetch_task_tables(
    config: TaskConfig,
    *,
    cache_dir: Path,
    offline: bool,
    min_free_bytes: int = 0,
    patience: Patience | None = None,
) -> tuple[dict[str, pa.Table], str]:
    """Rows of every hub split that a task uses, and the commit they were taken from.

    Args:
        config: the task; ``splits`` names the hub splits (none named: train, validation and test, as far as there).
        cache_dir: folder for downloads (``hub/``, laid out as the hub's own cache).
        offline: never ask the hub (HF_HUB_OFFLINE does the same).
        min_free_bytes: space that must be left on the disk of ``cache_dir`` after a download.
        patience: when to ask a busy hub again; None: as `ray_app.hub.patience.Patience` says.

    Returns:
        Hub split -> table of the task's columns (of all columns, where one of those is missing), class names in the
        schema's metadata as ``datasets`` writes them; and the 40-hex commit.

    Raises:
        TaskDataError: the hub refuses or does not have it, a split has no file that can be read, a file is damaged.
        UnreachableError: the hub is away (or not to be asked) and no cache has it.
        StorageError: too little space, or a cache that cannot be written.

    Cost: a second call asks the hub only which commit a branch is at, and nothing for a pinned commit.
    """
    source = _Source(
        open_hub(cache_dir, patience), config, offline=offline or is_offline(), min_free_bytes=min_free_bytes
    )
    listing, files, card = _locate(source)
    labels = class_label_names(card, config_name=config.config)
    tables = {}
    for split, names in files.items():
        parts = [
            _read(path, config=config, name=name)
            for name, path in zip(names, source.files(listing, names), strict=True)
        ]
        tables[split] = _with_class_names(_joined(parts, config=config, split=split), labels)
    return tables, listing.commit


def task_commit(config: TaskConfig, *, cache_dir: Path, offline: bool, patience: Patience | None = None) -> str:
    """The commit that `fetch_task_tables` would read, without reading or fetching any rows.

    Raises:
        TaskDataError, UnreachableError: as `fetch_task_tables`.
    """
    source = _Source(open_hub(cache_dir, patience), config, offline=offline or is_offline(), min_free_bytes=0)
    return _locate(source)[0].commit


def _locate(source: _Source) -> tuple[Listing, dict[str, list[str]], dict[str, Any]]:
    """Listing, split -> files, and the head of the card. Falls back on the hub's Parquet copy where main has none."""
    config = source.config
    wanted = [name for names in config.splits.values() for name in names] or list(ROLES)
    listing = source.listing(config.revision)
    card = _card(source, listing)
    files = split_files(listing.files, config=config, wanted=wanted, card=card)
    if not files and config.revision is None and not config.data_files:
        converted = _converted(source)
        if converted is not None:
            listing, files = converted, split_files(converted.files, config=config, wanted=wanted, card={})
    missing = [name for name in wanted if name not in files]
    if not files or (config.splits and missing):
        raise TaskDataError(
            f"task {config.name}: {source.repo_id} at {listing.commit[:12]} has no file that can be read for "
            f"{shown(missing)}{f' of configuration {config.config}' if config.config else ''}; it holds {shown(listing.files)}; "
            f"name the files as data_files, or pin a commit of {CONVERTED}, in conf/task/{config.name}.yaml",
            task=config.name,
        )
    return listing, files, card


def _card(source: _Source, listing: Listing) -> dict[str, Any]:
    if CARD not in listing.files:
        return {}
    return read_card(source.files(listing, [CARD])[0].read_text(encoding="utf-8", errors="replace"))


def _converted(source: _Source) -> Listing | None:
    """The hub's Parquet copy; None where it made none (then the first listing's error is the better one)."""
    try:
        return source.listing(CONVERTED)
    except TaskDataError:
        return None


def _read(path: Path, *, config: TaskConfig, name: str) -> pa.Table:
    try:
        if name.endswith(".parquet"):
            return _read_parquet(path, config)
        plain = name.removesuffix(".gz")
        with gzip.open(path) if plain != name else path.open("rb") as file:
            if plain.endswith((".jsonl", ".json")):
                return pa.json.read_json(file, read_options=pa.json.ReadOptions(block_size=_JSON_BLOCK_BYTES))
            delimiter = "\t" if plain.endswith(".tsv") else ","
            parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
            return pa.csv.read_csv(file, parse_options=parse)
    except (pa.ArrowException, OSError, EOFError) as error:
        raise TaskDataError(
            f"task {config.name}: {name} of {config.hub_id} cannot be read ({str(error).partition(chr(10))[0][:200]}); "
            f"remove {path} to fetch it again, or name other files as data_files in conf/task/{config.name}.yaml",
            task=config.name,
            file=str(path),
        ) from error


def _read_parquet(path: Path, config: TaskConfig) -> pa.Table:
    """The task's columns of a Parquet file; all columns where one is missing, so that the reader can name what there is."""
    with pq.ParquetFile(path) as file:
        present = set(file.schema_arrow.names)
        label = label_column(config, present)
        columns = next((names for names in config.column_choices if {*names, label} <= present), None)
        return file.read(columns=[*columns, label] if columns else None)


def _joined(parts: list[pa.Table], *, config: TaskConfig, split: str) -> pa.Table:
    try:
        return pa.concat_tables(parts, promote_options="default")
    except pa.ArrowException as error:
        raise TaskDataError(
            f"task {config.name}, split {split}: its files do not have the same columns ({str(error).partition(chr(10))[0][:200]}); "
            f"name files of one kind as data_files in conf/task/{config.name}.yaml",
            task=config.name,
        ) from error


def _with_class_names(table: pa.Table, labels: Mapping[str, list[str]]) -> pa.Table:
    """The table with the card's class names in its metadata, unless the file itself says what its columns are."""
    metadata = dict(table.schema.metadata or {})
    named = {column: names for column, names in labels.items() if column in table.column_names}
    if b"huggingface" in metadata or not named:
        return table
    features = {column: {"names": names, "_type": "ClassLabel"} for column, names in named.items()}
    metadata[b"huggingface"] = json.dumps({"info": {"features": features}}).encode()
    return table.replace_schema_metadata(metadata)
