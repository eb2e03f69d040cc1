"""Every analysis of "Where to start?" on one study: sections 4 to 6 and appendix F and G, each with a stated outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from analysis.factor_studies import (
    ConditionStudy,
    SeedStudy,
    SizeLine,
    compare_studies,
    condition_studies,
    named_contrast,
    seed_studies,
    source_size_lines,
    target_size_lines,
)
from analysis.factors import (
    ArchitecturePair,
    SizeCorrelation,
    SmallestTargets,
    compare_smallest_targets,
    correlate_size,
)
from analysis.gain_bootstrap import GainIntervals, bootstrap_gain_model
from analysis.gain_matrix import ShareBetter, Significance, Spread, mark_significant, share_better
from analysis.groups import GroupTable, self_pairs, tabulate_groups
from analysis.lost_gain import LostGain, NoiseFloor, average_order, measure_lost_gain, simulate_noise_floor
from analysis.noise import measure_seed_noise
from analysis.probe_gain import FamilyInfluence, ProbeFit, fit_probe_gain, leave_family_out
from analysis.regression import RegressionComparison, compare_regressions
from analysis.sensitivity import Sensitivity, measure_sensitivity
from analysis.shrinkage import RidgeChoice, choose_ridge
from analysis.size_curves import UShape
from analysis.study import GainStudy
from analysis.symmetry import Symmetry, SymmetryTest, compare_symmetry

FloatArray = npt.NDArray[np.float64]

TOPS = (1, 3)
"""How many of the first-ranked base models are tried (Tables 1 and 6)."""
N_STD = 2.0
"""Standard deviations, or errors, beyond which a cell counts as significant (Fig. 1)."""


@dataclass(frozen=True, kw_only=True)
class LostGains:
    """Tables 1 and 6, by how many are tried, beside what best-of-n picks up by chance."""

    by_probe: Mapping[int, LostGain]
    by_average: Mapping[int, LostGain]
    by_average_of_others: Mapping[int, LostGain]
    """Ranked for each target without its own gains, as a new target has to be."""
    floor: Mapping[int, NoiseFloor]


@dataclass(frozen=True, kw_only=True)
class Interaction:
    """Section 5: does it matter which source meets which target?"""

    groups: GroupTable | None
    groups_reason: str
    symmetry: SymmetryTest
    symmetry_tasks: tuple[str, ...]
    """Tasks that are both source and target."""
    regression: RegressionComparison
    intervals: GainIntervals
    ridge: RidgeChoice
    """Errors on held-out cells."""


@dataclass(frozen=True, kw_only=True)
class Factors:
    """Section 6: what makes a base model good and a target sensitive."""

    source_size: SizeCorrelation
    target_size: SizeCorrelation
    smallest: SmallestTargets
    source_lines: tuple[SizeLine, ...]
    source_lines_reason: str
    target_lines: tuple[SizeLine, ...]
    u_shapes: tuple[tuple[str, UShape], ...]
    target_lines_reason: str
    seeds: tuple[SeedStudy, ...]
    seeds_reason: str
    conditions: tuple[ConditionStudy, ...]
    conditions_reason: str
    architectures: tuple[ArchitecturePair, ...]


@dataclass(frozen=True, kw_only=True)
class Analyses:
    """All of it."""

    study: GainStudy
    """The base models that were analysed."""
    left_out: tuple[str, ...]
    """Base models that lack a target, so that only the others were analysed."""
    share: ShareBetter
    beyond_noise: Significance
    """Cells beyond N_STD standard errors, seeds pooled by target; ``std`` holds the standard errors."""
    paper_rule: Significance
    """Cells beyond N_STD standard deviations of their own seeds, as in Fig. 1; ``std`` is Fig. 5."""
    sensitivity: Sensitivity
    sensitivity_without_strong: Sensitivity
    probe: ProbeFit
    influence: FamilyInfluence
    lost: LostGains
    interaction: Interaction
    factors: Factors


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What some analyses need beyond the study."""

    by_target_size: Mapping[int, GainStudy] = field(default_factory=dict)
    """Rows of target training sets -> study of the cells with so many."""
    others: Mapping[str, GainStudy] = field(default_factory=dict)
    """Other architectures to compare with."""
    contrast: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Two named lists of base models to compare; empty for none."""


def analyse(
    study: GainStudy,
    *,
    rng: np.random.Generator,
    extras: Extras | None = None,
    n_shuffles: int = 100,
    n_draws: int = 200,
) -> Analyses:
    """Run every analysis; what cannot be computed names the requirement that failed.

    Args:
        study: base models on targets; those that lack one are left out as ``GainStudy.judged`` says.
        rng: source of chance for shuffles, folds, bootstraps and the noise floor.
        extras: what section 6 needs beyond one study.
        n_shuffles: shuffles of the gains that the regression is held against (the paper: 100).
        n_draws: bootstrap draws of its intervals; five times as many simulate the noise floor and the symmetry of chance.

    Raises:
        ValueError: no base model or no target at all, or a contrast that names what is not there.

    Cost: about 10 s for 318 x 36, most of it cross-validation of the regression.
    """
    if not study.bases or not study.tasks:
        raise ValueError(
            f"got {len(study.bases)} base models on {len(study.tasks)} targets besides the pretrained model; expected at least "
            "one of each; run more cells, or choose another set"
        )
    named = study.bases
    study = study.judged()
    gain, average = study.gain, study.average
    strong = _strong_row(study)
    return Analyses(
        study=study,
        left_out=tuple(name for name in named if name not in set(study.bases)),
        share=share_better(gain),
        beyond_noise=mark_beyond_noise(study),
        paper_rule=mark_significant(gain, study.scores, spread=Spread.CELL, n_std=N_STD),
        sensitivity=measure_sensitivity(gain, strong=strong),
        sensitivity_without_strong=measure_sensitivity(gain, strong=strong, exclude_strong=True),
        probe=fit_probe_gain(study.probe, average),
        influence=leave_family_out(study.probe, average, study.families),
        lost=_lost_gains(study, rng, n_draws=5 * n_draws),
        interaction=_interaction(study, rng, n_shuffles=n_shuffles, n_draws=n_draws),
        factors=_factors(study, extras or Extras()),
    )


def _strong_row(study: GainStudy) -> int | None:
    """The plain MNLI model made here, the paper's strong model; None: the best by average."""
    for row, origin in enumerate(study.origins):
        if origin is not None and origin.task == "mnli" and not origin.label and origin.seed is None:
            return row
    return None


def mark_beyond_noise(study: GainStudy) -> Significance:
    """Cells whose gain exceeds N_STD standard errors: se = sd_t sqrt(1/S + 1/R), sd_t pooled over all cells of the target.

    With a seed or two a cell, its own standard deviation is hardly known; pooled by target, the pretrained model's
    repetitions included, it is. Appendix D asks for the error of an average where averages are compared.
    """
    gain = study.gain
    noise = measure_seed_noise(study.scores, study.baseline)
    seeds = np.isfinite(study.scores).sum(axis=2)
    repeats = np.isfinite(study.baseline).sum(axis=1)
    error = noise.sd * np.sqrt(1 / np.maximum(seeds, 1) + 1 / np.maximum(repeats, 1))
    error = np.where(np.isfinite(gain), error, np.nan)
    usable = error > 0
    with np.errstate(invalid="ignore"):
        return Significance(
            better=usable & (gain > N_STD * error),
            worse=usable & (gain < -N_STD * error),
            undecided=np.isfinite(gain) & ~usable,
            std=error,
            reason="" if usable.any() else noise.reason or "no cell has a positive standard error",
        )


def _lost_gains(study: GainStudy, rng: np.random.Generator, *, n_draws: int) -> LostGains:
    gain = study.gain
    noise = measure_seed_noise(study.scores, study.baseline)
    seeds = np.isfinite(study.scores).sum(axis=2)
    own = np.where(seeds > 0, noise.sd / np.sqrt(np.maximum(seeds, 1)), np.nan)
    orders = {
        "probe": study.probe,
        "average": average_order(gain),
        "others": average_order(gain, leave_target_out=True),
    }
    lost = {name: {top: measure_lost_gain(gain, order, top=top) for top in TOPS} for name, order in orders.items()}
    return LostGains(
        by_probe=lost["probe"],
        by_average=lost["average"],
        by_average_of_others=lost["others"],
        floor={top: simulate_noise_floor(own, top=top, rng=rng, n_draws=n_draws) for top in TOPS},
    )


def _interaction(study: GainStudy, rng: np.random.Generator, *, n_shuffles: int, n_draws: int) -> Interaction:
    gain = study.gain
    regression = compare_regressions(gain, rng=rng, n_shuffles=n_shuffles)
    groups, groups_reason = _group_table(study)
    tasks, matrix = _square(study)
    return Interaction(
        groups=groups,
        groups_reason=groups_reason,
        symmetry=compare_symmetry(matrix, rng=rng, n_shuffles=5 * n_draws) if tasks else _no_symmetry(study),
        symmetry_tasks=tasks,
        regression=regression,
        intervals=bootstrap_gain_model(gain, rng=rng, n_draws=n_draws),
        ridge=choose_ridge(gain, rng=rng),
    )


def _group_table(study: GainStudy) -> tuple[GroupTable | None, str]:
    known = np.array([bool(group) for group in study.source_groups])
    if not known.any():
        return None, "no base model's source task is known: only base models finetuned here have one"
    part = study.select(known, np.ones(len(study.tasks), dtype=bool))
    exclude = self_pairs(part.source_tasks, part.tasks)
    table = tabulate_groups(part.gain, part.source_groups, part.target_groups, exclude=exclude)
    return table, table.reason


def _square(study: GainStudy) -> tuple[tuple[str, ...], FloatArray]:
    """Tasks that are source (of one plain base model) and target, and the gains among them."""
    plain = {
        origin.task: row
        for row, origin in enumerate(study.origins)
        if origin is not None and not origin.label and origin.seed is None
    }
    tasks = tuple(task for task in study.tasks if task in plain)
    columns = [study.tasks.index(task) for task in tasks]
    return tasks, study.gain[np.ix_([plain[task] for task in tasks], columns)] if tasks else np.zeros((0, 0))


def _no_symmetry(study: GainStudy) -> SymmetryTest:
    reason = f"none of the {len(study.tasks)} targets is the source of a base model made here: symmetry needs tasks that are both"
    return SymmetryTest(observed=Symmetry(n_pairs=0, n_dropped=0, reason=reason), reason=reason)


def _factors(study: GainStudy, extras: Extras) -> Factors:
    sizes = np.array([origin.train_size if origin else np.nan for origin in study.origins])
    gain = study.gain
    known = np.isfinite(gain)
    target_average = np.where(known, gain, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    target_average = np.where(known.any(axis=0), target_average, np.nan)
    spread = measure_sensitivity(gain).gain_range
    source_lines, no_source_lines = source_size_lines(study)
    target_lines, shapes, no_target_lines = target_size_lines(extras.by_target_size)
    seeds, no_seeds = seed_studies(study)
    conditions, no_conditions = condition_studies(study)
    if extras.contrast:
        conditions, no_conditions = (*conditions, named_contrast(study, extras.contrast)), ""
    studies = {**{name: other.judged() for name, other in extras.others.items()}, study.arch: study}
    return Factors(
        source_size=_size_correlation(sizes, study.average, "source"),
        target_size=_size_correlation(study.target_sizes, target_average, "target"),
        smallest=compare_smallest_targets(study.target_sizes, spread),
        source_lines=source_lines,
        source_lines_reason=no_source_lines,
        target_lines=target_lines,
        u_shapes=shapes,
        target_lines_reason=no_target_lines,
        seeds=seeds,
        seeds_reason=no_seeds,
        conditions=conditions,
        conditions_reason=no_conditions,
        architectures=compare_studies(studies) if extras.others else (),
    )


def _size_correlation(sizes: FloatArray, average: FloatArray, kind: str) -> SizeCorrelation:
    found = correlate_size(sizes, average)
    if np.isfinite(sizes).any():
        return found
    reason = f"no number of training rows of a {kind} is logged (published results tell none)"
    return replace(found, reason=reason, raw=replace(found.raw, reason=reason), log=replace(found.log, reason=reason))
