"""What a base model on disk is: found, checked, ready to be loaded."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ray_app.hub.digests import folder_revision
from ray_app.hub.mirror import check_hub_id, check_revision, faults_of, find_model_folder
from ray_app.hub.model_folder import inspect_folder
from tracking.errors import CheckpointError, ConfigError, StartlineError

if TYPE_CHECKING:  # at run time imported where used: only the hub path pays for an HTTP client
    from ray_app.hub.patience import Patience

_PACKAGE = re.compile(r"(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):(?P<folder>[A-Za-z0-9_.][A-Za-z0-9_./-]*)")
_MOST_THREADS = 8


@dataclass(kw_only=True)
class ModelRef:
    """How the configuration names a base model."""

    id: str
    """Hub id (org/name), or a plain name for a local one."""
    revision: str | None = None
    """40-hex commit; None: resolved at prefetch and recorded."""
    path: str | None = None
    """Local folder in hub format, instead of the hub."""
    package: str | None = None
    """'module:folder': an installed Python package that carries the checkpoint, instead of the hub."""
    licence: str = ""
    """Licence, where known."""

    def faults(self) -> list[str]:
        """Everything wrong with the name itself: paths, MLflow names and files are made of it."""
        found = [f"id: {text}" for text in faults_of(check_hub_id, self.id)]
        if self.revision is not None:
            found += [f"revision: {text}" for text in faults_of(check_revision, self.revision)]
        return found


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A base model found and checked: everything a worker needs, offline."""

    model_id: str
    revision: str
    """Hub commit, or 'sha256:<16 hex>' of config, tokenizer and weights for local folders."""
    path: Path
    """Folder in hub format."""
    model_type: str
    """``model_type`` of config.json."""
    size_bytes: int
    """Bytes of its weights."""
    n_parameters: int
    """Parameters counted in the safetensors headers."""


def find_checkpoint(
    ref: ModelRef,
    *,
    mirror: Path | None,
    cache_dir: Path,
    expected_model_types: Sequence[str],
    offline: bool = False,
    min_free_bytes: int = 0,
    patience: Patience | None = None,
) -> Checkpoint:
    """Find a base model and check it; fetch it where nothing local has it.

    Looked for in this order: ``ref.path``, ``ref.package``, the mirror, the caches of the hub (``<cache_dir>/hub``, then the
    user's own), the hub.

    Args:
        ref: the base model as the configuration names it.
        mirror: folder laid out as `ray_app.hub.mirror` says, or None.
        cache_dir: folder for downloads (``hub/``, laid out as the hub's own cache) and digests; on a cluster, one that
            every node sees.
        expected_model_types: architectures this study compares; empty: any that is taken.
        offline: never ask the hub (HF_HUB_OFFLINE does the same).
        min_free_bytes: space that must be left on the disk of ``cache_dir`` after a download.
        patience: when to ask a busy hub again; None: as `ray_app.hub.patience.Patience` says.

    Returns:
        The checkpoint, on disk and checked.

    Raises:
        CheckpointError: it cannot be used as it is, or the hub does not have it, or does not give it to us.
        UnreachableError: nothing local has it and the hub cannot be reached.
        ConfigError: an id, path or package that is none.
        StorageError: the disk is too full, or the cache folder cannot be written.
    """
    found, errors = find_checkpoints(
        [ref],
        mirror=mirror,
        cache_dir=cache_dir,
        expected_model_types=expected_model_types,
        offline=offline,
        min_free_bytes=min_free_bytes,
        patience=patience,
    )
    if errors:
        raise errors[0]
    return found[0]


def find_checkpoints(
    refs: Sequence[ModelRef],
    *,
    mirror: Path | None,
    cache_dir: Path,
    expected_model_types: Sequence[str],
    offline: bool = False,
    min_free_bytes: int = 0,
    patience: Patience | None = None,
) -> tuple[list[Checkpoint], list[StartlineError]]:
    """Find many base models, eight at a time, and collect what is wrong with any: a plan can name all of it at once.

    A hub that one of them found away is not asked for the others.

    Args: as `find_checkpoint`.

    Returns:
        The checkpoints found, in the order of ``refs``, and the errors of the others, in the same order.
    """
    if not refs:
        return [], []
    search = _Search(
        mirror=mirror,
        cache_dir=cache_dir,
        expected_model_types=expected_model_types,
        offline=offline,
        min_free_bytes=min_free_bytes,
        patience=patience,
    )
    if len(refs) == 1:
        outcomes = [search.outcome(refs[0])]
    else:
        with ThreadPoolExecutor(max_workers=min(_MOST_THREADS, len(refs))) as pool:
            outcomes = list(pool.map(search.outcome, refs))
    found = [outcome for outcome in outcomes if isinstance(outcome, Checkpoint)]
    errors = [outcome for outcome in outcomes if isinstance(outcome, StartlineError)]
    return found, errors


@dataclass(frozen=True, kw_only=True)
class _Search:
    """Where to look, the same for all base models of one call."""

    mirror: Path | None
    cache_dir: Path
    expected_model_types: Sequence[str]
    offline: bool
    min_free_bytes: int
    patience: Patience | None

    def outcome(self, ref: ModelRef) -> Checkpoint | StartlineError:
        """The base model, or why there is none."""
        try:
            return self._find(ref)
        except StartlineError as error:
            return error

    def _find(self, ref: ModelRef) -> Checkpoint:
        folder = _local_folder(ref, self.mirror)
        if folder is not None:
            revision = folder_revision(folder, cache_dir=self.cache_dir)
        else:
            folder, revision = self._from_hub(ref)
        facts = inspect_folder(folder, model_id=ref.id, expected_model_types=self.expected_model_types)
        return Checkpoint(
            model_id=ref.id,
            revision=revision,
            path=folder,
            model_type=facts.model_type,
            size_bytes=facts.size_bytes,
            n_parameters=facts.n_parameters,
        )

    def _from_hub(self, ref: ModelRef) -> tuple[Path, str]:
        from ray_app.hub.client import is_offline, open_hub
        from ray_app.hub.models_hub import fetch_model

        return fetch_model(
            open_hub(self.cache_dir, self.patience),
            ref.id,
            revision=ref.revision,
            expected_model_types=self.expected_model_types,
            offline=self.offline or is_offline(),
            min_free_bytes=self.min_free_bytes,
        )


def _local_folder(ref: ModelRef, mirror: Path | None) -> Path | None:
    """Folder that the configuration names, or the mirror has; None: only the hub can have it."""
    if ref.path is not None:
        folder = Path(ref.path).expanduser().absolute()
        if not folder.is_dir():
            raise CheckpointError(
                f"{ref.id}: there is no folder {folder}, expected a checkpoint in hub format there; check its path.",
                model_id=ref.id,
            )
        return folder
    if ref.package is not None:
        return package_folder(ref.package, model_id=ref.id)
    if mirror is not None:
        return find_model_folder(mirror.absolute(), ref.id)
    return None


def package_folder(package: str, *, model_id: str) -> Path:
    """Folder inside an installed Python package, found without importing the package.

    Args:
        package: 'module:folder', the folder relative to the module's.
        model_id: name of the base model in errors.

    Raises:
        ConfigError: not of that form, or a folder that leads out of the package.
        CheckpointError: the package is not installed, or has no such folder.
    """
    match = _PACKAGE.fullmatch(package)
    if match is None or ".." in PurePosixPath(match["folder"]).parts:
        raise ConfigError(f"{model_id}: package {package!r} is not of the form 'module:folder', without '..'")
    top, *rest = match["module"].split(".")
    spec = importlib.util.find_spec(top)
    locations = spec.submodule_search_locations if spec is not None else None
    if not locations:
        raise CheckpointError(
            f"{model_id}: the Python package '{top}' that carries it is not installed; install it, or name a path.",
            model_id=model_id,
            package=package,
        )
    for location in locations:
        folder = Path(location, *rest, match["folder"])
        if folder.is_dir():
            return folder
    raise CheckpointError(
        f"{model_id}: the Python package '{top}' has no folder '{match['folder']}'; check 'package: {package}'.",
        model_id=model_id,
        package=package,
    )
