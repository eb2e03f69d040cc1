"""What an iteration was made of, on shared storage: written whole or not at all, read again by whoever goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from tracking.errors import TableError
from tracking.records import write_atomically

VERSION = 1
_PREFIX = "iteration-"


class Role(StrEnum):
    """What became of a contribution."""

    USED = "used"
    FAILED = "failed"
    DIVERGED = "diverged"
    """Its loss or weights became non-finite."""
    LATE = "late"
    """It had not arrived when the iteration went on."""
    NOT_FINITE = "not finite"
    """Its stored weights hold values that are no numbers."""
    HARMFUL = "harmful"
    """By itself it harms the held-out probes."""


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """One contributor's finetune."""

    task: str
    part: int | None = None
    """Which part of the dataset, from 0, where it is cut."""
    seed: int
    """Seed of the cell."""
    key: str
    """Key of the cell; its model is stored under it."""
    base_revision: str
    """Base model it started from."""
    began: int
    """Iterations that were over when it began."""
    role: Role = Role.USED
    reason: str = ""
    weight: float = 0.0
    """Share in the next base model."""
    score: float | None = None
    """Test score on its own dataset, fraction."""
    probe: float | None = None
    """Mean score of the held-out probes of its model, fraction, where these were asked."""
    train_s: float = 0.0
    examples_seen: int = 0

    @property
    def name(self) -> str:
        """Name among the sources that are fused."""
        return f"{self.task}{'' if self.part is None else f'-part{self.part}'}-{self.key[:8]}"


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base model of the loop."""

    revision: str
    folder: Path
    pretrained: bool = False


@dataclass(frozen=True, kw_only=True)
class Iteration:
    """One step of the loop and the base model that it ends with."""

    number: int
    """From 1."""
    contributions: tuple[Contribution, ...]
    parent_revision: str
    revision: str
    """Revision of the base model after this iteration, a digest of its content; the parent's where the update was refused."""
    folder: str
    """Its folder, relative to that of the loop; empty: the pretrained model."""
    accepted: bool = True
    reason: str = ""
    """Why the update was refused, or contributors were left out."""
    base_weight: float = 0.0
    """Share of the parent in it (asynchronous)."""
    probe_before: float | None = None
    probe_after: float | None = None
    """Mean held-out score of the parent and of the update, fraction, where these were asked."""
    probe_se: float | None = None
    """Standard error of the difference of the two, fraction."""
    waited_s: float = 0.0
    """Seconds from asking for the contributions to having them."""
    fuse_s: float = 0.0
    """Seconds of fusing and storing."""
    began_ms: int = 0
    ended_ms: int = 0
    in_flight: tuple[Contribution, ...] = ()
    """Contributions that went on beyond this iteration (asynchronous)."""

    @property
    def used(self) -> list[Contribution]:
        """Contributions that are in the base model."""
        return [one for one in self.contributions if one.role is Role.USED]

    def base(self, loop: Path, pretrained: Base) -> Base:
        """The base model after this iteration, of the loop stored under a folder."""
        return Base(revision=self.revision, folder=loop / self.folder) if self.folder else pretrained

    @property
    def examples_seen(self) -> int:
        """Training examples of all contributions, those left out too."""
        return sum(one.examples_seen for one in self.contributions)


def write_iteration(folder: Path, iteration: Iteration) -> Path:
    """Store an iteration under the folder of its loop.

    Raises:
        StorageError: disk full or folder unwritable; earlier iterations are as they were.
    """
    path = folder / f"{_PREFIX}{iteration.number:04d}.json"
    plain = {"version": VERSION, **asdict(iteration)}
    write_atomically(path, json.dumps(plain, indent=1, allow_nan=False).encode())
    return path


def read_iterations(folder: Path) -> list[Iteration]:
    """Iterations that are over, from the first on, as far as each and its base model are whole.

    Raises:
        TableError: a file that is no iteration, or of a newer version.
    """
    found: list[Iteration] = []
    while True:
        path = folder / f"{_PREFIX}{len(found) + 1:04d}.json"
        if not path.is_file():
            return found
        iteration = _read(path)
        if iteration.folder and not (folder / iteration.folder / "config.json").exists():
            return found
        found.append(iteration)


def _read(path: Path) -> Iteration:
    try:
        raw = json.loads(path.read_text())
        if raw.pop("version") != VERSION:
            raise ValueError("another version")
        for name in ("contributions", "in_flight"):
            raw[name] = tuple(_read_contribution(one) for one in raw[name])
        return Iteration(**raw)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TableError(
            f"{path} is no readable iteration of version {VERSION} ({error}); remove it and those after it, and run the command "
            "again to make them anew",
            path=str(path),
        ) from error


def _read_contribution(raw: dict[str, Any]) -> Contribution:
    return Contribution(**{**raw, "role": Role(raw["role"])})
