"""The cells of one architecture as every analysis takes them: a score matrix with what is known of its rows and columns."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from analysis.assessment import Assessment
from analysis.gain_matrix import average_gain
from analysis.noise import POINTS, cell_gains
from analysis.origins import Origin, family_of, gather_origins

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

GROUP_ORDER = ("general", "nli", "twitter", "other")
"""Order of Fig. 1; what is in none of the paper's groups comes last."""


@dataclass(frozen=True, kw_only=True)
class GainStudy:
    """Base models (rows) on target tasks (columns), all under one settings hash; NaN where a cell is missing."""

    arch: str
    pretrained: str
    settings: str
    bases: tuple[str, ...]
    tasks: tuple[str, ...]
    scores: FloatArray
    """(n_bases, n_tasks, n_seeds) fractions."""
    baseline: FloatArray
    """(n_tasks, n_seeds) fractions of the pretrained model."""
    probe: FloatArray
    """(n_bases,) linear-probe gain on MNLI, points."""
    probe_pretrained: float
    """Linear-probe score of the pretrained model on MNLI, fraction; NaN when it was not probed."""
    origins: tuple[Origin | None, ...]
    """(n_bases,) source finetune of each base model made here; None for the others."""
    target_groups: tuple[str, ...]
    """(n_tasks,) one of GROUP_ORDER each."""
    target_sizes: FloatArray
    """(n_tasks,) rows trained on; NaN when not logged."""
    source_groups: tuple[str, ...]
    """(n_bases,) group of the source task; empty where it is unknown."""
    notes: tuple[str, ...] = ()
    """What was left out before, a sentence each."""

    @property
    def gain(self) -> FloatArray:
        """(n_bases, n_tasks) gain, points."""
        return cell_gains(self.scores, self.baseline)

    @property
    def average(self) -> FloatArray:
        """(n_bases,) average gain, points; NaN for a base model that lacks a task."""
        return average_gain(self.gain)

    @property
    def complete(self) -> BoolArray:
        """(n_bases,) base models with a gain on every task."""
        return np.asarray(np.isfinite(self.gain).all(axis=1))

    @property
    def families(self) -> tuple[str, ...]:
        """(n_bases,) family of each name."""
        return tuple(family_of(name) for name in self.bases)

    @property
    def source_tasks(self) -> tuple[str, ...]:
        """(n_bases,) source task of each base model made here; empty for the others."""
        return tuple(origin.task if origin else "" for origin in self.origins)

    def judged(self) -> GainStudy:
        """The base models with a gain on every target, where these are three or more and at least half; else all of them.

        An average over other targets is another quantity, and a maximum over more base models another maximum, so a few
        gaps are not worth it; a study that is mostly gaps is taken with its gaps.
        """
        complete = self.complete
        if complete.all() or complete.sum() < max(3, 0.5 * len(complete)):
            return self
        return self.select(complete, np.ones(len(self.tasks), dtype=bool))

    def select(self, bases: npt.ArrayLike, tasks: npt.ArrayLike) -> GainStudy:
        """The part of the study under two boolean masks."""
        rows, columns = np.flatnonzero(np.asarray(bases)), np.flatnonzero(np.asarray(tasks))
        return dataclasses.replace(
            self,
            bases=_take(self.bases, rows),
            tasks=_take(self.tasks, columns),
            scores=self.scores[np.ix_(rows, columns)],
            baseline=self.baseline[columns],
            probe=self.probe[rows],
            origins=_take(self.origins, rows),
            source_groups=_take(self.source_groups, rows),
            target_groups=_take(self.target_groups, columns),
            target_sizes=self.target_sizes[columns],
        )


def _take(values: tuple, places: npt.NDArray[np.intp]) -> tuple:
    return tuple(values[place] for place in places)


def group_of(memberships: tuple[str, ...]) -> str:
    """The one group a task is counted in: what is in General and NLI counts as NLI (section 3.1), what is in none as 'other'."""
    return next((name for name in ("nli", "general", "twitter") if name in memberships), "other")


def study_of(arch: str, assessment: Assessment, cells: pa.Table, groups: Mapping[str, tuple[str, ...]]) -> GainStudy:
    """The assessed base models as a study.

    Args:
        arch: architecture.
        assessment: gated and gathered cells.
        cells: all scored cells of the architecture: source cells, probes, and the assessed ones.
        groups: task -> groups of the papers it belongs to.
    """
    origins = gather_origins(cells)
    made = tuple(origins.get(name) for name in assessment.bases)
    pretrained = probe_of_pretrained(cells, assessment.pretrained)
    return GainStudy(
        arch=arch,
        pretrained=assessment.pretrained,
        settings=assessment.settings,
        bases=assessment.bases,
        tasks=assessment.tasks,
        scores=assessment.scores,
        baseline=assessment.baseline,
        probe=POINTS * (assessment.probe - pretrained),
        probe_pretrained=pretrained,
        origins=made,
        source_groups=tuple(group_of(groups.get(origin.task, ())) if origin else "" for origin in made),
        target_groups=tuple(group_of(groups.get(task, ())) for task in assessment.tasks),
        target_sizes=_train_sizes(cells, assessment),
        notes=assessment.notes,
    )


def probe_of_pretrained(cells: pa.Table, pretrained: str) -> float:
    """Mean linear-probe score of the pretrained model on MNLI, fraction; NaN when it was not probed."""
    probed = cells.filter(
        pc.and_(
            pc.and_(pc.equal(cells["method"], "probe"), pc.equal(cells["task"], "mnli")),
            pc.or_(pc.fill_null(pc.equal(cells["baseline"], "true"), False), pc.equal(cells["base_model"], pretrained)),
        )
    )
    return float(pc.mean(probed["score"]).as_py()) if probed.num_rows else math.nan


def _train_sizes(cells: pa.Table, assessment: Assessment) -> FloatArray:
    used = cells.filter(pc.equal(cells["settings"], assessment.settings))
    logged = used.filter(pc.is_valid(used["n_train"]))
    size = dict(zip(logged["task"].to_pylist(), logged["n_train"].to_pylist(), strict=True))
    return np.array([size.get(task, math.nan) for task in assessment.tasks], dtype=np.float64)


def _in_house(study: GainStudy, groups: Mapping[str, tuple[str, ...]]) -> tuple[BoolArray, BoolArray]:
    return np.array([origin is not None for origin in study.origins], dtype=bool), np.ones(len(study.tasks), dtype=bool)


def _off_the_shelf(study: GainStudy, groups: Mapping[str, tuple[str, ...]]) -> tuple[BoolArray, BoolArray]:
    bases, tasks = _in_house(study, groups)
    return ~bases, tasks


def _targets(group: str) -> Callable[[GainStudy, Mapping[str, tuple[str, ...]]], tuple[BoolArray, BoolArray]]:
    def choose(study: GainStudy, groups: Mapping[str, tuple[str, ...]]) -> tuple[BoolArray, BoolArray]:
        chosen = np.array([group in groups.get(task, ()) for task in study.tasks], dtype=bool)
        return np.ones(len(study.bases), dtype=bool), chosen

    return choose


SETS = {
    "in_house": _in_house,
    "off_the_shelf": _off_the_shelf,
    "general": _targets("general"),
    "nli": _targets("nli"),
    "twitter": _targets("twitter"),
}
"""Parts of a study: base models made here or elsewhere, or targets of one group (a task in two groups is in both)."""


def part_of(study: GainStudy, name: str | None, groups: Mapping[str, tuple[str, ...]]) -> GainStudy:
    """The study, or the part of it that a set names.

    Raises:
        ValueError: the set holds no base model or no target.
    """
    if name is None:
        return study
    part = study.select(*SETS[name](study, groups))
    if not part.bases or not part.tasks:
        raise ValueError(
            f"set {name} holds {len(part.bases)} base models and {len(part.tasks)} targets of {study.arch}; expected at least one "
            "of each; choose another set, or none for all cells"
        )
    return part
