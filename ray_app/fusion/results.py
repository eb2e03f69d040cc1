"""The tables of an experiment: every base model against the pretrained one and against the plain loop, with noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from analysis.collaboration import RepeatedGain, repeated_gain
from ray_app.fusion.evaluation import Evaluation, How
from ray_app.fusion.products import Product

PRETRAINED, BEST_SINGLE, SINGLE = "pretrained", "best_single", "single."
TARGETS = ("all", "seen", "unseen")


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One base model, tried in one way on one set of targets; points."""

    candidate: str
    """Variant or baseline; of a single intermediate model its task."""
    iteration: int | None
    """None where it is no iteration of a loop."""
    how: str
    targets: str
    """all, seen or unseen."""
    score: float
    gain: float
    """Against the pretrained model, paired by task and seed."""
    se: float | None
    """Standard error of the gain, from seeds; None with one seed."""
    low: float
    high: float
    """Gain of the worst and of the best seed."""
    n_tasks: int
    n_seeds: int
    minus_plain: float | None
    """Against the last iteration of the first variant, paired by task and seed."""
    minus_plain_se: float | None
    contributions: int | None
    """Finetunes that went into it, mean over seeds."""
    examples_seen: int | None
    """Training examples of these."""
    last: bool
    """Nothing of its loop comes after it."""


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """A base model of every seed."""

    label: str
    number: int
    score: Callable[[How, str, int], float | None]
    contributions: int | None = None
    examples_seen: int | None = None
    last: bool = True


def result_rows(evaluation: Evaluation) -> list[ResultRow]:
    """A row for every base model, way and set of targets with a score for every task of some seed."""
    experiment = evaluation.experiment
    split, seeds = experiment.split, experiment.config.seeds
    targets = experiment.config.suite.tasks
    groups = {
        "all": targets,
        "seen": [task for task in targets if task in split.seen],
        "unseen": [task for task in targets if task in split.unseen],
    }
    candidates = _candidates(evaluation)
    plain = _last_of(candidates, experiment.first)
    pretrained = next(one for one in candidates if one.label == PRETRAINED)
    rows = []
    for how in How:
        for candidate in candidates:
            for name, tasks in groups.items():
                row = _row(candidate, how, name, tasks=tasks, seeds=seeds, pretrained=pretrained, plain=plain)
                if row is not None:
                    rows.append(row)
    return rows + _best_single(rows)


def _candidates(evaluation: Evaluation) -> list[_Candidate]:
    """The pretrained model, single intermediate models, then what came of loops and baselines, each over all its seeds."""
    config = evaluation.experiment.config

    def named(name: str) -> Callable[[How, str, int], float | None]:
        return lambda how, task, seed: evaluation.score(how, name, task=task, seed=seed)

    found = [
        _Candidate(label=PRETRAINED, number=0, score=named(config.arch.pretrained.id), contributions=0, examples_seen=0)
    ]
    found += [
        _Candidate(label=SINGLE + task, number=0, score=named(evaluation.single_name(task)), contributions=1)
        for task in evaluation.singles
    ]
    grouped: dict[tuple[str, int], dict[int, Product]] = {}
    for product in evaluation.products:
        grouped.setdefault((product.label, product.number), {})[product.seed] = product
    return found + [
        _of_products(evaluation, label, number=number, by_seed=by_seed) for (label, number), by_seed in grouped.items()
    ]


def _of_products(evaluation: Evaluation, label: str, *, number: int, by_seed: dict[int, Product]) -> _Candidate:
    def score(how: How, task: str, seed: int) -> float | None:
        return evaluation.score_of(how, by_seed[seed], task) if seed in by_seed else None

    return _Candidate(
        label=label,
        number=number,
        score=score,
        contributions=round(float(np.mean([one.n_contributions for one in by_seed.values()]))),
        examples_seen=round(float(np.mean([one.examples_seen for one in by_seed.values()]))),
        last=all(one.last for one in by_seed.values()),
    )


def _last_of(candidates: Iterable[_Candidate], label: str) -> _Candidate | None:
    return max((one for one in candidates if one.label == label), key=lambda one: one.number, default=None)


def _row(
    candidate: _Candidate,
    how: How,
    group: str,
    *,
    tasks: Sequence[str],
    seeds: Sequence[int],
    pretrained: _Candidate,
    plain: _Candidate | None,
) -> ResultRow | None:
    """The row, over the seeds for which every task has a score; None without any."""
    score = _matrix(candidate, how, tasks=tasks, seeds=seeds)
    gained = _difference(score, _matrix(pretrained, how, tasks=tasks, seeds=seeds))
    if gained is None:
        return None
    against = None if plain is None else _difference(score, _matrix(plain, how, tasks=tasks, seeds=seeds))
    complete = np.isfinite(score).all(axis=0)
    return ResultRow(
        candidate=candidate.label,
        iteration=candidate.number or None,
        how=how.value,
        targets=group,
        score=float(100 * score[:, complete].mean()),
        gain=gained.mean,
        se=_finite(gained.se),
        low=gained.low,
        high=gained.high,
        n_tasks=gained.n_tasks,
        n_seeds=gained.n_seeds,
        minus_plain=None if against is None else against.mean,
        minus_plain_se=None if against is None else _finite(against.se),
        contributions=candidate.contributions,
        examples_seen=candidate.examples_seen,
        last=candidate.last,
    )


def _matrix(candidate: _Candidate, how: How, *, tasks: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
    """Scores, fractions, (n_tasks, n_seeds); NaN where there is none."""
    values = [[candidate.score(how, task, seed) for seed in seeds] for task in tasks]
    return np.array(values, dtype=float).reshape(len(tasks), len(seeds))


def _difference(scores: np.ndarray, reference: np.ndarray) -> RepeatedGain | None:
    """Mean difference in points over the seeds that both have whole."""
    apart = 100 * (scores - reference)
    apart = apart[:, np.isfinite(apart).all(axis=0)]
    return repeated_gain(apart) if apart.size else None


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def best_single_task(rows: Sequence[ResultRow]) -> str | None:
    """Task of the single intermediate model with the highest gain over all finetuned targets; None without any.

    It is told by the very scores it is judged by, which flatters it: as the best of several it gains something by chance.
    """
    singles = [
        row for row in rows if row.candidate.startswith(SINGLE) and row.how == How.FINETUNED and row.targets == "all"
    ]
    return max(singles, key=lambda row: row.gain).candidate.removeprefix(SINGLE) if singles else None


def _best_single(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """The rows of the best single intermediate model once more, under a name of their own."""
    best = best_single_task(rows)
    if best is None:
        return []
    return [ResultRow(**{**asdict(row), "candidate": BEST_SINGLE}) for row in rows if row.candidate == SINGLE + best]
