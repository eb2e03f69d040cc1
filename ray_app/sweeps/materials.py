"""What the cells of a sweep are made of: checkpoints found and checked, task data identified and tokenised once."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray_app.hub.checkpoints import Checkpoint, ModelRef, find_checkpoints
from ray_app.hub.model_files import PROCESSOR_FILES, TOKENIZER_FILES
from ray_app.hub.splits import RULES_VERSION
from ray_app.hub.task_data import (
    TaskData,
    mirror_revision,
    part_of_task,
    read_mirror_task,
    read_task,
    require_hub_id,
    task_fingerprint,
)
from ray_app.hub.tasks import SplitCaps, SplitRule, TaskConfig
from ray_app.sweeps.settings import ArchConfig
from ray_app.training.pixels import PIXELS_VERSION
from ray_app.training.tokens import FORMAT_VERSION, Family, TaskFacts
from tracking.cells import digest
from tracking.errors import ConfigError, InputError, StartlineError

Say = Callable[[str], None]


@dataclass(frozen=True)
class TaskVariant:
    """A task under a split rule and caps."""

    name: str
    split_rule: SplitRule
    caps: tuple[int | None, int | None, int | None]
    """Most rows of train, validation and test."""
    part: tuple[int, int] | None = None
    """(i, n): the i-th of n parts of the training rows, from 0; validation and test are whole."""

    @classmethod
    def of(cls, name: str, split_rule: SplitRule, caps: SplitCaps) -> TaskVariant:
        """Variant with these caps."""
        return cls(name, split_rule, (caps.train, caps.validation, caps.test))

    @property
    def split_caps(self) -> SplitCaps:
        """The caps as the configuration has them."""
        return SplitCaps(train=self.caps[0], validation=self.caps[1], test=self.caps[2])


class TaskShelf:
    """Task data by variant, from the mirror where it has the task, else from the hub; texts are read at most once, images (gigabytes)
    once for every image processor.

    Args:
        configs: every task that may be asked for, by name.
        mirror: folder that replaces the hub.
        cache: folder for downloads and tokenised data.
        offline: never ask the hub.
    """

    def __init__(self, configs: dict[str, TaskConfig], *, mirror: Path | None, cache: Path, offline: bool) -> None:
        self.configs = configs
        self.mirror = mirror
        self.cache = cache
        self.offline = offline
        self._raw: dict[str, tuple[Any, str]] = {}
        self._commits: dict[str, str] = {}
        self._read: dict[TaskVariant, TaskData] = {}

    def revision(self, name: str) -> str:
        """Digest of the mirror's files, or the commit on the hub.

        Raises:
            InputError: neither mirror nor hub has the task, or the hub cannot be reached.
        """
        if self.mirror is not None:
            return mirror_revision(self.configs[name], mirror=self.mirror)
        if name in self._raw:
            return self._raw[name][1]
        from ray_app.hub.datasets_hub import task_commit

        require_hub_id(self.configs[name])
        if name not in self._commits:
            self._commits[name] = task_commit(self.configs[name], cache_dir=self.cache, offline=self.offline)
        return self._commits[name]

    def _fetch(self, name: str) -> tuple[Any, str]:
        from ray_app.hub.datasets_hub import fetch_task_tables

        if name in self._raw:
            return self._raw[name]
        config = self.configs[name]
        require_hub_id(config)
        fetched = fetch_task_tables(config, cache_dir=self.cache, offline=self.offline)
        if config.is_image:  # gigabytes: read again where another image processor needs them
            self._commits[name] = fetched[1]
        else:
            self._raw[name] = fetched
        return fetched

    def fingerprint(self, variant: TaskVariant) -> dict[str, object]:
        """Everything that defines the variant's texts, labels and rows, for the cell's key."""
        config = self.configs[variant.name]
        revision = self.revision(variant.name)
        known = task_fingerprint(config, revision=revision, split_rule=variant.split_rule, caps=variant.split_caps)
        return known if variant.part is None else {**known, "part": list(variant.part)}

    def read(self, variant: TaskVariant) -> TaskData:
        """The rows of a variant.

        Raises:
            TaskDataError: the data cannot be used as they are.
        """
        if variant in self._read:
            return self._read[variant]
        data = self._read_anew(variant)
        if not self.configs[variant.name].is_image:
            self._read[variant] = data
        return data

    def _read_anew(self, variant: TaskVariant) -> TaskData:
        if variant.part is not None:
            return part_of_task(self.read(dataclasses.replace(variant, part=None)), *variant.part)
        config = self.configs[variant.name]
        given: dict[str, Any] = {"split_rule": variant.split_rule, "caps": variant.split_caps}
        if self.mirror is not None:
            return read_mirror_task(config, mirror=self.mirror, **given)
        raw, revision = self._fetch(variant.name)
        return read_task(config, raw=raw, revision=revision, **given)

    def facts(self, name: str) -> TaskFacts:
        """What the training core has to know of a task."""
        config = self.configs[name]
        return TaskFacts(
            name=name,
            label_names=tuple(config.label_names),
            label_words=tuple(config.label_words or config.label_names),
            regression=config.is_regression,
        )

    def encoded_folder(
        self, variant: TaskVariant, checkpoint: Path, *, family: Family, max_length: int, fingerprint: dict[str, object]
    ) -> Path:
        """Where the encoded variant belongs; the name tells all that decides its content."""
        images = family is Family.IMAGE
        made_by: list[object] = [tokenizer_digest(checkpoint), family.value, max_length]
        if images:  # a length has no meaning there
            made_by = [processor_digest(checkpoint), family.value, PIXELS_VERSION]
        name = digest([FORMAT_VERSION, RULES_VERSION, *made_by, fingerprint])
        return self.cache / ("pixels" if images else "tokens") / f"{variant.name}-{name}"

    def encode(self, variant: TaskVariant, checkpoint: Path, *, folder: Path, family: Family, max_length: int) -> None:
        """Encode a variant into ``folder``, unless it is there: tokenised, or decoded and resized."""
        if (folder / "meta.json").exists():
            return
        from ray_app.training.models import load_reader
        from ray_app.training.tokens import encode_task

        data = self.read(variant)
        encode_task(
            folder,
            load_reader(checkpoint, family),
            data.splits,
            self.facts(variant.name),
            text_columns=data.text_columns,
            family=family,
            max_length=max_length,
        )


def check_inputs(tasks: Iterable[TaskConfig], arch: ArchConfig) -> None:
    """Refuse tasks of text for a model of images, and the other way round.

    Raises:
        ConfigError: naming all of them.
    """
    images = arch.family is Family.IMAGE
    reads, needs = ("images", "an architecture of text") if images else ("text", "an architecture of family image")
    wrong = [task.name for task in tasks if task.is_image != images]
    if wrong:
        raise ConfigError(
            f"{', '.join(wrong)}: {'tasks' if len(wrong) > 1 else 'a task'} of {'text' if images else 'images'}, and ARCH={arch.name} "
            f"reads {reads}; choose {needs}, or other tasks with SUITE= or TASKS="
        )


def tokenizer_digest(folder: Path) -> str:
    """16 hex digits over the tokenizer files of a checkpoint: candidates that share a tokenizer share tokenised data."""
    return _files_digest(folder, TOKENIZER_FILES)


def processor_digest(folder: Path) -> str:
    """16 hex digits over the image processor of a checkpoint (size, crop, resampling, mean, deviation)."""
    return _files_digest(folder, PROCESSOR_FILES)


def _files_digest(folder: Path, names: Collection[str]) -> str:
    whole = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.name in names:
            whole.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()[:16]


def require_all(
    refs: Sequence[ModelRef],
    variants: Iterable[TaskVariant],
    shelf: TaskShelf,
    *,
    model_types: Sequence[str],
    min_free_bytes: int,
    optional: Collection[str] = (),
) -> tuple[dict[str, Checkpoint], dict[str, str]]:
    """Find every checkpoint and every task, and name all that is missing at once.

    Args:
        refs: base models.
        variants: tasks.
        shelf: where tasks are.
        model_types: architectures that are compared.
        min_free_bytes: space that downloads must leave.
        optional: ids of base models that may be missing or unusable.

    Returns:
        Checkpoints by model id, and the optional ones that cannot be used, with the reason.

    Raises:
        StartlineError: the one thing that is missing, or an InputError that lists all of them.
    """
    found, errors = find_checkpoints(
        refs,
        mirror=shelf.mirror,
        cache_dir=shelf.cache,
        expected_model_types=model_types,
        offline=shelf.offline,
        min_free_bytes=min_free_bytes,
    )
    there = {checkpoint.model_id: checkpoint for checkpoint in found}
    missing = [ref.id for ref in refs if ref.id not in there]
    left_out = {name: error.message for name, error in zip(missing, errors, strict=True) if name in optional}
    errors = [error for name, error in zip(missing, errors, strict=True) if name not in optional]
    for name in dict.fromkeys(variant.name for variant in variants):
        try:
            shelf.revision(name)
        except StartlineError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        worst = max(errors, key=lambda error: error.exit_code)
        lines = "\n".join(f"  - {error.message}" for error in errors)
        raise (
            type(worst)(f"{len(errors)} things are missing or unusable:\n{lines}")
            if worst.exit_code != 2
            else InputError(
                f"{len(errors)} things are missing or unusable:\n{lines}", missing=[error.message for error in errors]
            )
        )
    return there, left_out
