"""What section 6 asks of the cells there are: sizes of sources and targets, seeds of one source, conditions of training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.association import Association, associate
from analysis.factors import ArchitecturePair, Contrast, SeedSpread, compare_conditions, compare_seeds
from analysis.noise import estimate_gains
from analysis.origins import Origin
from analysis.sensitivity import measure_sensitivity
from analysis.size_curves import SizeTrend, UShape, average_curves, find_u_shape, fit_trend
from analysis.study import GainStudy

FloatArray = npt.NDArray[np.float64]

MIN_SIZES, MIN_SEEDS = 3, 3
NO_ORIGINS = "no base model here was finetuned by Startline, so nothing is known of how it was made"


@dataclass(frozen=True, kw_only=True)
class SizeLine:
    """Average gain by number of training rows: one line of Fig. 3 or 4."""

    name: str
    """Source task (Fig. 3) or target task (Fig. 4)."""
    sizes: tuple[int, ...]
    mean: FloatArray
    """(n_sizes,) points."""
    se: FloatArray
    """(n_sizes,) standard error over what was averaged."""
    trend: SizeTrend
    """Points per doubling."""


@dataclass(frozen=True, kw_only=True)
class SeedStudy:
    """Base models of one source task that differ in their seed: Fig. 11."""

    task: str
    seeds: tuple[int, ...]
    source_score: FloatArray
    """(n_seeds,) fraction."""
    target_average: FloatArray
    """(n_seeds,) fraction."""
    spread: SeedSpread


@dataclass(frozen=True, kw_only=True)
class ConditionStudy:
    """Two ways to make base models, compared by the gains of what they made."""

    source: str
    """Source task; empty when sources are averaged, or for lists of base models."""
    a: str
    b: str
    contrast: Contrast


def source_size_lines(study: GainStudy) -> tuple[tuple[SizeLine, ...], str]:
    """Lines of Fig. 3 (a source task each, sizes ascending), or the requirement that failed.

    A line is made of base models of one source task that were finetuned alike but on different numbers of rows; several of one
    size (seeds of their own) are averaged.

    Source: "Where to start?", section 6.1, Fig. 3.
    """
    lines = []
    for (task, _), members in _grouped(study, lambda origin: (origin.task, origin.series)).items():
        by_size: dict[int, list[int]] = {}
        for row, origin in members:
            if origin.train_size > 0:
                by_size.setdefault(round(origin.train_size), []).append(row)
        sizes = sorted(by_size)
        if len(sizes) >= MIN_SIZES:
            lines.append(_line(task, sizes, np.stack([study.gain[by_size[size]].mean(axis=0) for size in sizes])))
    if lines:
        return tuple(lines), ""
    if not any(study.origins):
        return (), NO_ORIGINS
    return (), f"no source task was tried with at least {MIN_SIZES} numbers of training rows (EXPERIMENT=source_size)"


def target_size_lines(
    by_size: Mapping[int, GainStudy],
) -> tuple[tuple[SizeLine, ...], tuple[tuple[str, UShape], ...], str]:
    """Lines of Fig. 4 and the U-shape test of each target (Figs. 8 to 10), or the requirement that failed.

    Args:
        by_size: training rows of the targets -> study of the cells with so many.

    Source: "Where to start?", section 6.1, Fig. 4 and appendix H.
    """
    sizes = sorted(by_size)
    if len(sizes) < MIN_SIZES:
        return (
            (),
            (),
            f"targets were tried with {len(sizes)} numbers of training rows: needs {MIN_SIZES} (EXPERIMENT=target_size)",
        )
    tasks = [task for task in by_size[sizes[0]].tasks if all(task in by_size[size].tasks for size in sizes)]
    bases = [base for base in by_size[sizes[0]].bases if all(base in by_size[size].bases for size in sizes)]
    if not tasks or not bases:
        return (
            (),
            (),
            f"{len(bases)} base models and {len(tasks)} targets were tried at every size: needs at least one of each",
        )
    lines, shapes = [], []
    for task in tasks:
        gain = np.stack([_column(by_size[size], task, bases) for size in sizes], axis=1)
        measured = gain[np.isfinite(gain).all(axis=1)]
        if measured.size:
            lines.append(_line(task, sizes, measured.T))
        shapes.append((task, find_u_shape(sizes, gain)))
    return tuple(lines), tuple(shapes), "" if lines else "no base model was measured on any target at every size"


def target_size_gains(by_size: Mapping[int, GainStudy], task: str) -> tuple[tuple[str, ...], FloatArray]:
    """Base models measured on a target at every size, and their gains (n_bases, n_sizes), points: lines of Figs. 8 to 10."""
    sizes = sorted(by_size)
    bases = [base for base in by_size[sizes[0]].bases if all(base in by_size[size].bases for size in sizes)]
    gain = np.stack([_column(by_size[size], task, bases) for size in sizes], axis=1)
    there = np.flatnonzero(np.isfinite(gain).all(axis=1))
    return tuple(bases[row] for row in there), gain[there]


def seed_studies(study: GainStudy) -> tuple[tuple[SeedStudy, ...], str]:
    """Fig. 11 for every source task with enough seeds of its own, or the requirement that failed.

    Source: "Where to start?", section 6.2 and appendix I.
    """
    found = []
    estimate = estimate_gains(study.scores, study.baseline)
    score = _task_means(study.scores)
    for (task, _, _), members in _grouped(
        study, lambda origin: (origin.task, origin.series, origin.train_size)
    ).items():
        seeded = sorted((origin.seed, row, origin.score) for row, origin in members if origin.seed is not None)
        if len(seeded) < MIN_SEEDS:
            continue
        rows = [row for _, row, _ in seeded]
        source = np.array([value for *_, value in seeded])
        noise = float(np.mean(estimate.se_own[rows]))
        known = noise if math.isfinite(noise) and noise > 0 else None
        found.append(
            SeedStudy(
                task=task,
                seeds=tuple(seed for seed, *_ in seeded),
                source_score=source,
                target_average=score[rows],
                spread=compare_seeds(source, score[rows], noise_sd=known),
            )
        )
    if found:
        return tuple(found), ""
    if not any(study.origins):
        return (), NO_ORIGINS
    return (), f"no source task has {MIN_SEEDS} base models that differ in their seed alone (EXPERIMENT=source_seeds)"


def condition_studies(study: GainStudy) -> tuple[tuple[ConditionStudy, ...], str]:
    """Base models of one source task made in two ways (weight decay or not, ...), compared over the targets.

    Each source task is compared over its targets, in pairs; with two or more source tasks, their average gains as well.

    Source: "Where to start?", appendix I.1.
    """
    found: list[ConditionStudy] = []
    averages: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for (task, _), members in _grouped(study, lambda origin: (origin.task, origin.train_size)).items():
        unseeded = sorted((origin.label, row) for row, origin in members if origin.seed is None)
        for (a, row_a), (b, row_b) in itertools.combinations(unseeded, 2):
            if study.origins[row_a].series == study.origins[row_b].series:  # type: ignore[union-attr]
                continue
            gains = study.gain[row_a], study.gain[row_b]
            names = a or "plain", b or "plain"
            found.append(
                ConditionStudy(source=task, a=names[0], b=names[1], contrast=compare_conditions(*gains, pair=True))
            )
            averages.setdefault(names, []).append((float(study.average[row_a]), float(study.average[row_b])))
    for (a, b), pairs in averages.items():
        if len(pairs) > 1:
            x, y = np.array(pairs).T
            found.append(ConditionStudy(source="", a=a, b=b, contrast=compare_conditions(x, y, pair=True)))
    if found:
        return tuple(found), ""
    if not any(study.origins):
        return (), NO_ORIGINS
    return (
        (),
        "no source task was finetuned in two ways on as many rows (EXPERIMENT=weight_decay or distance_regularised)",
    )


def named_contrast(study: GainStudy, lists: Mapping[str, Sequence[str]]) -> ConditionStudy:
    """Average gains of two lists of base models, for instance of good and bad basins (section 6.2).

    Raises:
        ValueError: not two lists, or a name that is no base model of the study.
    """
    unknown = sorted({name for names in lists.values() for name in names} - set(study.bases))
    if len(lists) != 2 or unknown:
        missing = f"; not among the base models: {', '.join(unknown)}" if unknown else ""
        raise ValueError(
            f"got {len(lists)} lists of base models; expected 2{missing}; name base models that have results"
        )
    (a, first), (b, second) = lists.items()
    rows = [[study.bases.index(name) for name in names] for names in (first, second)]
    contrast = compare_conditions(study.average[rows[0]], study.average[rows[1]], pair=False)
    return ConditionStudy(source="", a=a, b=b, contrast=contrast)


def compare_studies(studies: Mapping[str, GainStudy]) -> tuple[ArchitecturePair, ...]:
    """What carries over between architectures, over the targets, and the source tasks, that both have.

    Differs from ``analysis.factors.compare_architectures``: base models from the hub differ between architectures, so targets
    are compared whatever the base models were, and sources by their task, where both were made here.

    Source: "Where to start?", section 6.3.
    """
    return tuple(_compare_pair(studies[a], studies[b]) for a, b in itertools.combinations(sorted(studies), 2))


def _compare_pair(first: GainStudy, second: GainStudy) -> ArchitecturePair:
    tasks = [task for task in first.tasks if task in second.tasks]
    columns = [[study.tasks.index(task) for task in tasks] for study in (first, second)]
    gains = [study.gain[:, chosen] for study, chosen in zip((first, second), columns, strict=True)]
    best = [measure_sensitivity(gain).max_gain for gain in gains] if tasks else [np.zeros(0)] * 2
    targets = [np.array([_mean(column) for column in gain.T]) for gain in gains]
    sources = [_by_source(study) for study in (first, second)]
    shared = sorted(set(sources[0]) & set(sources[1]))
    return ArchitecturePair(
        first=first.arch,
        second=second.arch,
        sensitivity=associate(*best),
        source_average=_associate_sources(sources, shared),
        target_average=associate(*targets),
    )


def _associate_sources(sources: list[dict[str, float]], shared: list[str]) -> Association:
    if not shared:
        return Association(n=0, n_dropped=0, reason="no source task was made into a base model in both architectures")
    return associate([sources[0][task] for task in shared], [sources[1][task] for task in shared])


def _by_source(study: GainStudy) -> dict[str, float]:
    """Average gain by source task, of the plain base models."""
    rows = zip(study.origins, study.average, strict=True)
    return {
        origin.task: float(average) for origin, average in rows if origin and not origin.label and origin.seed is None
    }


def _mean(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan


def _task_means(scores: FloatArray) -> FloatArray:
    """(n_bases,) average score over targets, fraction; NaN where a target is missing."""
    n = np.isfinite(scores).sum(axis=2)
    total = np.where(np.isfinite(scores), scores, 0.0).sum(axis=2)
    return np.asarray(np.where(n > 0, total / np.maximum(n, 1), math.nan).mean(axis=1))


def _grouped(study: GainStudy, key: Callable[[Origin], tuple]) -> dict[tuple, list[tuple[int, Origin]]]:
    groups: dict[tuple, list[tuple[int, Origin]]] = {}
    for row, origin in enumerate(study.origins):
        if origin is not None:
            groups.setdefault(key(origin), []).append((row, origin))
    return groups


def _line(name: str, sizes: Sequence[int], gain: FloatArray) -> SizeLine:
    """A line from gains (n_sizes, n_averaged)."""
    curve = average_curves(gain[None])
    return SizeLine(
        name=name, sizes=tuple(sizes), mean=curve.mean[0], se=curve.se[0], trend=fit_trend(sizes, curve.mean[0])
    )


def _column(study: GainStudy, task: str, bases: Sequence[str]) -> FloatArray:
    gain = study.gain[:, study.tasks.index(task)]
    return np.array([gain[study.bases.index(base)] for base in bases])
