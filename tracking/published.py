"""Published results in the format of the model-recycling site, read and checked.

A folder holds ``models_tested.csv`` (one line per model: metadata, MNLI linear-probe score, one score per task) and per
architecture ``models_results_<architecture>_pretrain.csv`` (tab-separated: repeated finetunes of the pretrained model).
What is wrong with a file as a whole raises; what is wrong with one row is stated as a fault and the row is kept.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tracking.delimited import MISSING, DelimitedFile, read_delimited, spreadsheet_safe
from tracking.errors import TableError
from tracking.published_format import (
    ARCH_COLUMN,
    MODEL_COLUMN,
    MODELS_FILE,
    PROBE_COLUMN,
    SPEARMAN_TASKS,
    TASKS,
    FaultKind,
    PublishedFault,
    check_fraction,
    check_tasks,
    pretrained_file_name,
)
from tracking.published_pretrained import Repetitions, read_pretrained

__all__ = ["TASKS", "FaultKind", "PublishedArchitecture", "PublishedFault", "PublishedResults", "read_published"]

_ARCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")


@dataclass(frozen=True, kw_only=True, eq=False)
class PublishedArchitecture:
    """Everything published for one architecture; scores are fractions, NaN where there is none."""

    name: str
    """Pretrained model, for example 'google/t5-v1_1-base'."""
    models: tuple[str, ...]
    """Names of the n models, in the order of the file; a repeated name stands repeatedly."""
    metadata: tuple[Mapping[str, str], ...]
    """Per model the other columns before the probe score, as text; '' where there is none."""
    probe: NDArray[np.float64]
    """Linear-probe score on MNLI, (n,)."""
    scores: NDArray[np.float64]
    """(n, 36), columns as ``TASKS``."""
    source_rows: tuple[int, ...]
    """Line of each model in ``models_tested.csv``; the header is line 1."""
    pretrained: NDArray[np.float64]
    """Repeated finetunes of the pretrained model, (n_repetitions, 36)."""
    pretrained_stages: tuple[int, ...]
    """Stage number of each repetition: its seed."""
    pretrained_rows: tuple[int, ...]
    """Line of each repetition's first score in ``pretrained_file``."""
    pretrained_file: str

    def in_range(self) -> NDArray[np.bool_]:
        """(n,) whether every score a model has lies in its range ([0, 1], for Spearman [-1, 1])."""
        low = np.array([-1.0 if task in SPEARMAN_TASKS else 0.0 for task in TASKS])
        outside = (self.scores > 1) | (self.scores < low)
        return ~(outside.any(axis=1) | (self.probe > 1) | (self.probe < 0))


@dataclass(frozen=True, kw_only=True, eq=False)
class PublishedResults:
    """A whole folder of published results."""

    folder: Path
    tasks: tuple[str, ...]
    architectures: tuple[PublishedArchitecture, ...]
    """In the order in which the file first names them."""
    sha256: Mapping[str, str]
    """Hex digest of the bytes of each file read, by its name."""
    faults: tuple[PublishedFault, ...]

    def architecture(self, name: str) -> PublishedArchitecture:
        """One architecture by its name.

        Raises:
            TableError: unknown; the known ones are named.
        """
        for arch in self.architectures:
            if arch.name == name:
                return arch
        known = ", ".join(arch.name for arch in self.architectures)
        raise TableError(f"no published architecture {name!r}; the folder holds {known}", arch=name)

    def source_bytes(self, file: str) -> bytes:
        """Bytes of a file that was read, as they were then.

        Raises:
            TableError: it is gone or has changed since.
        """
        try:
            data = (self.folder / file).read_bytes()
        except OSError as error:
            raise TableError(f"{file} cannot be read any more ({error.strerror or error})", path=file) from error
        if hashlib.sha256(data).hexdigest() != self.sha256[file]:
            raise TableError(f"{file} changed while it was in use; start again", path=file)
        return data


def read_published(folder: Path) -> PublishedResults:
    """Read a folder of published results.

    Args:
        folder: holds ``models_tested.csv`` and the pretrained files of its architectures.

    Returns:
        The results, with a stated fault for: a row without name, a name that is no plain text, a repeated name (both rows
        are kept), a row with some but not all tasks, a score out of range, an architecture with no or a single pretrained
        repetition, a repetition that lacks scores, a pretrained file of no architecture.

    Raises:
        TableError: a file is absent, not UTF-8, empty, wrongly delimited or lacks columns; its tasks are not the 36; a
            column is in percent; a cell is no number; a pretrained score is out of range or given twice; there is no model.
    """
    if not folder.is_dir():
        raise TableError(
            f"{folder} is no folder; FROM=<folder> names the one that holds {MODELS_FILE}", path=str(folder)
        )
    faults: list[PublishedFault] = []
    file = read_delimited(folder / MODELS_FILE, delimiter=",", required=(MODEL_COLUMN, ARCH_COLUMN, PROBE_COLUMN))
    numbers = _model_numbers(file)
    groups = _group_by_architecture(file, faults)
    sha256 = {MODELS_FILE: file.sha256}
    architectures = []
    for name, places in groups.items():
        repetitions = read_pretrained(folder, name, sha256, faults)
        architectures.append(_architecture(file, numbers, name=name, places=places, repetitions=repetitions))
        faults.extend(_row_faults(architectures[-1]))
    for path in sorted(folder.glob("models_results_*_pretrain.csv")):
        if path.name not in sha256:
            message = f"{path.name} belongs to no architecture of {MODELS_FILE}; it is not used"
            faults.append(PublishedFault(kind=FaultKind.UNUSED_FILE, file=path.name, message=message))
    return PublishedResults(
        folder=folder, tasks=TASKS, architectures=tuple(architectures), sha256=sha256, faults=tuple(faults)
    )


def _model_numbers(file: DelimitedFile) -> NDArray[np.float64]:
    """(rows, 37): probe score, then the tasks in our order, by name."""
    given = file.header[file.header.index(PROBE_COLUMN) + 1 :]
    check_tasks(file, given, "task column")
    columns = {name: np.array(file.numbers(name)) for name in (PROBE_COLUMN, *TASKS)}
    for name, values in columns.items():
        check_fraction(file, name, values)
    return np.column_stack(list(columns.values()))


def _group_by_architecture(file: DelimitedFile, faults: list[PublishedFault]) -> dict[str, list[int]]:
    """Places of the rows of each architecture; rows that cannot be placed become faults."""
    groups: dict[str, list[int]] = {}
    names = zip(file.column(MODEL_COLUMN), file.column(ARCH_COLUMN), file.lines, strict=True)
    for place, (model, arch, line) in enumerate(names):
        if not model.strip():
            kind, message = FaultKind.NO_NAME, "has no model_name; it is left out"
        elif not _ARCH.fullmatch(arch):
            kind, message = FaultKind.BAD_ARCHITECTURE, f"has base_model {arch[:80]!r}, no hub id; it is left out"
        else:
            groups.setdefault(arch, []).append(place)
            continue
        text = f"{MODELS_FILE} line {line} {message}"
        faults.append(PublishedFault(kind=kind, file=MODELS_FILE, line=line, model=model, message=text))
    if not groups:
        raise TableError(f"{file.path} holds no model; expected a row per tested model", path=str(file.path))
    shared = [name for name, count in Counter(map(pretrained_file_name, groups)).items() if count > 1]
    if shared:
        both = [arch for arch in groups if pretrained_file_name(arch) == shared[0]]
        raise TableError(
            f"{MODELS_FILE}: the architectures {' and '.join(both)} share the file name {shared[0]}; rename one",
            path=str(file.path),
        )
    return groups


def _architecture(
    file: DelimitedFile,
    numbers: NDArray[np.float64],
    *,
    name: str,
    places: Sequence[int],
    repetitions: Repetitions,
) -> PublishedArchitecture:
    described = file.header[: file.header.index(PROBE_COLUMN)]
    columns = [(place, column) for place, column in enumerate(described) if column not in (MODEL_COLUMN, ARCH_COLUMN)]
    models = file.column(MODEL_COLUMN)
    return PublishedArchitecture(
        name=name,
        models=tuple(models[place] for place in places),
        metadata=tuple({column: _text(file.rows[place][at]) for at, column in columns} for place in places),
        probe=numbers[places, 0],
        scores=numbers[places, 1:],
        source_rows=tuple(file.lines[place] for place in places),
        pretrained=repetitions.scores,
        pretrained_stages=repetitions.stages,
        pretrained_rows=repetitions.lines,
        pretrained_file=pretrained_file_name(name),
    )


def _text(cell: str) -> str:
    return "" if cell in MISSING else cell


def _row_faults(arch: PublishedArchitecture) -> Iterator[PublishedFault]:
    """Faults of single rows of one architecture."""
    counts = Counter(arch.models)
    n_scores = np.isfinite(arch.scores).sum(axis=1)
    in_range = arch.in_range()
    for place, (model, line) in enumerate(zip(arch.models, arch.source_rows, strict=True)):
        found: list[tuple[FaultKind, str]] = []
        if counts[model] > 1:
            found.append((FaultKind.REPEATED_NAME, f"is one of {counts[model]} rows of that name; all are kept"))
        if 0 < n_scores[place] < len(TASKS):
            found.append((FaultKind.PARTIAL_ROW, f"has {n_scores[place]} of 36 task scores; kept, but in no ranking"))
        if model == arch.name:
            found.append((FaultKind.PRETRAINED_AS_MODEL, "is the pretrained model itself; kept as one more model"))
        if not in_range[place]:
            found.append((FaultKind.OUT_OF_RANGE, "has a score outside its range; kept, but in no ranking"))
        if model != spreadsheet_safe(model) or any(sign in "<>" or not sign.isprintable() for sign in model):
            found.append((FaultKind.UNSAFE_NAME, "has a name that a spreadsheet or a browser may run; always escaped"))
        for kind, verdict in found:
            message = f"{MODELS_FILE} line {line}: {model[:80]!r} {verdict}"
            yield PublishedFault(kind=kind, file=MODELS_FILE, line=line, arch=arch.name, model=model, message=message)
