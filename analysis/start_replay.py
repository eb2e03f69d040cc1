"""`make start` on recorded cells: what the policy would have spent and lost on every target of a study."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.lost_gain import average_order
from analysis.noise import measure_seed_noise
from analysis.noise_prior import fit_noise_prior
from analysis.start_policy import Measured, StartVerdict, search_start
from analysis.start_rules import StartRules
from analysis.study import GainStudy

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Replay:
    """The policy on each target; arrays are (n_targets,) in points, NaN where nothing could be replayed."""

    verdicts: tuple[StartVerdict | None, ...]
    runs: FloatArray
    """Finetunes spent."""
    brute_force_runs: int
    """Finetunes that trying everything takes."""
    chosen_gain: FloatArray
    """Recorded gain of the chosen model; 0 for the pretrained one."""
    best_tried_gain: FloatArray
    """Largest recorded gain among the models tried, noise or not; 0 where all lose."""
    best_gain: FloatArray
    """Largest recorded gain of all (brute force), 0 where all lose."""

    @property
    def loss(self) -> FloatArray:
        """Gain lost by the verdict against brute force."""
        return self.best_gain - self.chosen_gain

    @property
    def loss_of_best_tried(self) -> FloatArray:
        """Gain lost when the best of those tried is taken without asking whether it is beyond noise."""
        return self.best_gain - self.best_tried_gain


def rank_without(study: GainStudy, target: int) -> list[int]:
    """Rows of the base models by average gain on the other targets, best first; those that lack one come not at all."""
    order = average_order(study.gain, leave_target_out=True)[:, target]
    known = np.flatnonzero(np.isfinite(order))
    return [int(row) for row in known[np.lexsort((np.array(study.bases, dtype=str)[known], -order[known]))]]


def replay_start(study: GainStudy, rules: StartRules, *, rng: np.random.Generator, pretrained_seeds: int = 3) -> Replay:
    """Search on every target as if it were new: ranking and noise come from the others, scores from the record.

    A base model costs as many finetunes as it has recorded seeds on the target, the pretrained model ``pretrained_seeds``.

    Args:
        study: at least two targets.
        rules: as for a live search.
        rng: draws the pretrained model's seeds from its recorded ones.
        pretrained_seeds: most seeds of the pretrained model to use.

    Raises:
        ValueError: a budget below the first comparison, or a study of one target.
    """
    if len(study.tasks) < 2:
        raise ValueError(f"got {len(study.tasks)} targets; expected at least 2, for the ranking comes from the others")
    n = len(study.tasks)
    runs, chosen, tried, best = (np.full(n, math.nan) for _ in range(4))
    verdicts: list[StartVerdict | None] = []
    gain = study.gain
    for target in range(n):
        found = _replay_target(study, target, rules, rng, pretrained_seeds)
        verdicts.append(found)
        if found is None:
            continue
        column = dict(zip(study.bases, gain[:, target], strict=True))
        runs[target] = found.runs
        chosen[target] = column.get(found.chosen, 0.0)
        tried[target] = max([0.0, *(column[each.name] for each in found.tried)])
        best[target] = max(0.0, float(np.nanmax(gain[:, target])))
    seeds = np.isfinite(study.scores).sum(axis=2).max(axis=1)
    return Replay(
        verdicts=tuple(verdicts),
        runs=runs,
        brute_force_runs=int(seeds.sum()) + pretrained_seeds,
        chosen_gain=chosen,
        best_tried_gain=tried,
        best_gain=best,
    )


def _replay_target(
    study: GainStudy, target: int, rules: StartRules, rng: np.random.Generator, pretrained_seeds: int
) -> StartVerdict | None:
    rows = [row for row in rank_without(study, target) if np.isfinite(study.scores[row, target]).any()]
    recorded = study.baseline[target][np.isfinite(study.baseline[target])]
    if not rows or not recorded.size:
        return None
    drawn = rng.permutation(recorded)[:pretrained_seeds]
    scores = {study.bases[row]: study.scores[row, target][np.isfinite(study.scores[row, target])] for row in rows}
    # a base model may carry the pretrained model's own name (the site lists it as one of the models)
    reference = "\0pretrained"
    scores[reference] = drawn

    def measure(names: tuple[str, ...], allowance: int) -> Measured:
        cost = sum(scores[name].size for name in names)
        if cost > allowance:
            return Measured(refused=f"the budget is spent: {cost} finetunes more, {allowance} left", over_budget=True)
        return Measured(scores={name: scores[name].tolist() for name in names}, runs=cost)

    noise = measure_seed_noise(study.scores, study.baseline)
    others = np.arange(len(study.tasks)) != target
    prior = fit_noise_prior(noise.sd[others] ** 2, noise.df[others])
    ranking = [study.bases[row] for row in rows]
    return search_start(ranking, pretrained=reference, measure=measure, rules=rules, prior=prior)
