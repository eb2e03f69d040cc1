"""Features on disk: one forward pass per model, task and split, memory-mapped by every head, task and score that reads them.

An entry is a folder, named by a digest of all that decides its content, and is made whole or not at all. It holds an .npy file per
pooling, the labels and the source head's logits, in float32: the numbers are those of a pass without a cache (float16 would round
the small directions that H-score and LogME weigh most, and overflows at 65,504).
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ray_app.probing.backbone import BackboneShelf
from ray_app.probing.forward import SOURCE, walk_split
from ray_app.probing.settings import Pooling
from ray_app.training.settings import Precision
from ray_app.training.tokens import EncodedTask, Family
from tracking.cells import digest
from tracking.errors import StorageError

FEATURES_VERSION = 1
"""Version of the pass and of the files; part of the entry's name, so that an older one is never read."""
_LEFTOVER_S = 24 * 3600
"""Age at which an unfinished entry is taken for that of a dead process."""


@dataclass(frozen=True, kw_only=True)
class FeatureSource:
    """A frozen model that features are made of."""

    base_model: str
    revision: str
    folder: Path
    """Its checkpoint."""
    family: Family
    precision: Precision
    """Arithmetic, settled (not AUTO)."""

    def entry(self, task: EncodedTask, split: str) -> str:
        """Name of the entry of a split: model, revision, precision, and the tokens (data, split rule, tokenizer, length)."""
        known = [FEATURES_VERSION, self.base_model, self.revision, self.precision.value, self.family.value]
        return f"{digest([*known, task.folder.name])}-{split}"


class SplitFeatures:
    """The features of one split, memory-mapped.

    Raises:
        OSError, ValueError, KeyError: the entry is not there, or is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        meta = json.loads((folder / "meta.json").read_text())
        for name, size in meta["sizes"].items():
            if (folder / name).stat().st_size != size:
                raise ValueError(f"{folder / name} has not its {size} bytes")
        self.no_source_head: str = meta["no_source_head"]
        """Why there are no source logits; empty where there are."""
        self.forward_s: float = meta["forward_s"]
        """Seconds of the pass that made them."""
        self.labels = np.load(folder / "label.npy", mmap_mode="r")
        """Class ids (int64) or numbers (float64), shape (n_rows,)."""

    def pooled(self, pooling: Pooling) -> np.ndarray:
        """Vectors of a pooling, float32, shape (n_rows, width), read from disk as they are used."""
        return np.asarray(np.load(self.folder / f"{pooling.value}.npy", mmap_mode="r"))

    @property
    def source_logits(self) -> np.ndarray | None:
        """Answers of the checkpoint's own head, float32, shape (n_rows, n_source_classes); None without a trained one."""
        return None if self.no_source_head else np.asarray(np.load(self.folder / f"{SOURCE}.npy", mmap_mode="r"))


class FeatureCache:
    """The entries under one folder, kept below a size by removing those not read for longest.

    Args:
        folder: made where absent; on a cluster, one that every node sees.
        limit_bytes: size to stay below; one entry may be larger, then it is the only one.
    """

    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes

    def features(
        self,
        source: FeatureSource,
        task: EncodedTask,
        split: str,
        *,
        shelf: BackboneShelf,
        max_tokens: int,
        device: str = "cpu",
    ) -> SplitFeatures:
        """The features of a split, made where they are not here yet (the model is loaded only then).

        Args:
            source: the frozen model.
            task: the tokenised task.
            split: 'train', 'validation' or 'test'.
            shelf: models this worker keeps loaded.
            max_tokens: most padded tokens of a micro-batch.
            device: where to run the model.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
            IncompleteCheckpointError: the checkpoint does not fill its architecture.
        """
        folder = self.folder / source.entry(task, split)
        found = _read(folder)
        if found is not None:
            return found
        writer = _Writer(folder)
        try:
            self._fill(writer, source, task, split, shelf=shelf, max_tokens=max_tokens, device=device)
            made = writer.finish()
        except OSError as error:
            raise StorageError(
                f"features cannot be written to {self.folder} ({error.strerror or error}); free space, run `make clean-features`, "
                'or choose another folder with ARGS="cache=dir"',
                path=str(self.folder),
            ) from error
        finally:
            writer.discard()
        self.trim(keep=folder)
        return made

    def _fill(
        self,
        writer: _Writer,
        source: FeatureSource,
        task: EncodedTask,
        split: str,
        *,
        shelf: BackboneShelf,
        max_tokens: int,
        device: str,
    ) -> None:
        """Run the model over a split."""
        backbone = shelf.get(source.folder, source.family)
        rows_of = task[split]
        started = time.perf_counter()
        writer.add_labels(np.asarray(rows_of.labels))
        for rows, vectors in walk_split(
            backbone, rows_of, pad_id=task.pad_id, max_tokens=max_tokens, precision=source.precision, device=device
        ):
            writer.add(rows, vectors)
        writer.facts = {
            "base_model": source.base_model,
            "revision": source.revision,
            "task": task.facts.name,
            "split": split,
            "precision": source.precision.value,
            "max_length": task.max_length,
            "no_source_head": backbone.no_source_head,
            "forward_s": time.perf_counter() - started,
        }

    def trim(self, *, keep: Path | None = None) -> int:
        """Remove what was not read for longest until the rest is below the limit; returns the bytes removed."""
        entries = sorted((_used_at(entry), entry) for entry in self._entries() if entry != keep)
        sizes = {entry: _size(entry) for _, entry in entries}
        total = sum(sizes.values()) + (_size(keep) if keep is not None else 0)
        removed = 0
        for _, entry in entries:
            if total - removed <= self.limit_bytes:
                break
            shutil.rmtree(entry, ignore_errors=True)
            removed += sizes[entry]
        for leftover in self.folder.glob(".*.tmp"):
            if time.time() - _used_at(leftover) > _LEFTOVER_S:
                shutil.rmtree(leftover, ignore_errors=True)
        return removed

    def clean(self) -> int:
        """Remove everything; returns the bytes removed."""
        removed = 0
        for entry in [*self._entries(), *self.folder.glob(".*.tmp")]:
            removed += _size(entry)
            shutil.rmtree(entry, ignore_errors=True)
        return removed

    def _entries(self) -> Iterator[Path]:
        if self.folder.is_dir():
            yield from (path for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _read(folder: Path) -> SplitFeatures | None:
    """An entry, marked as used; None where there is none, and a damaged one is removed."""
    try:
        found = SplitFeatures(folder)
        os.utime(folder / "meta.json")
        return found
    except (OSError, ValueError, KeyError):
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _used_at(folder: Path) -> float:
    """When an entry was last read (an unfinished one: begun), seconds since epoch."""
    for path in (folder / "meta.json", folder):
        with suppress(OSError):
            return path.stat().st_mtime
    return 0.0


def _size(folder: Path) -> int:
    with suppress(OSError):
        return sum(path.stat().st_size for path in folder.iterdir())
    return 0


class _Writer:
    """An entry being made, in a folder of its own that is renamed when it is whole; memory stays that of a micro-batch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        self.facts: dict[str, object] = {}
        self._files: dict[str, np.memmap] = {}
        self._n_rows = 0

    def add_labels(self, labels: np.ndarray) -> None:
        """Begin with the labels, which tell how many rows there will be."""
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir(parents=True)
        self._n_rows = len(labels)
        np.save(self.temporary / "label.npy", labels)

    def add(self, rows: np.ndarray, vectors: dict[str, np.ndarray]) -> None:
        """Put vectors at their rows."""
        for name, values in vectors.items():
            if name not in self._files:
                self._files[name] = _reserve(self.temporary / f"{name}.npy", (self._n_rows, values.shape[1]))
            self._files[name][rows] = values

    def finish(self) -> SplitFeatures:
        """Make the entry visible, unless another process was faster."""
        for file in self._files.values():
            file.flush()
        self._files.clear()
        sizes = {path.name: path.stat().st_size for path in self.temporary.glob("*.npy")}
        (self.temporary / "meta.json").write_text(json.dumps({**self.facts, "sizes": sizes}))
        try:
            self.temporary.replace(self.folder)
        except OSError:
            if _read(self.folder) is None:
                raise
        return SplitFeatures(self.folder)

    def discard(self) -> None:
        """Remove what is unfinished."""
        self._files.clear()
        shutil.rmtree(self.temporary, ignore_errors=True)


def _reserve(path: Path, shape: tuple[int, int]) -> np.memmap:
    """An .npy file whose space is taken at once: a disk that fills up later would end the process, not raise."""
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    with path.open("r+b") as handle:
        os.posix_fallocate(handle.fileno(), 0, path.stat().st_size)
    return file
