"""Selection on recorded curves: each task in turn is the target, the others are the benchmark, nothing is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.selection.clustered import ClusteredMatrix, cluster_matrix, recall_from
from analysis.selection.knowledge import Knowledge, RoundRules
from analysis.selection.performance import PerformanceMatrix
from analysis.selection.policies import POLICIES
from analysis.selection.recall import Recall
from analysis.selection.recall_rules import RecallRules
from analysis.selection.rounds import Curves, RoundPolicy, Selection, run_rounds

BASELINES = ("brute_force", "successive_halving")
"""Policies that need no recorded curves of the benchmark."""
PROXY_EPOCHS = 0.5
"""Cost of a proxy score: inference on the target needs no backward pass (section V.D)."""


@dataclass(frozen=True, kw_only=True)
class TargetRecord:
    """One task as a new target."""

    task: str
    benchmark: ClusteredMatrix
    """All other tasks."""
    recall: Recall
    recalled: tuple[str, ...]
    """Base models with a curve on the target, by recall score."""
    with_proxies: bool
    """False: there were no proxy scores, and recall went by average alone."""
    curves: Curves
    """Validation scores of those recalled, in that order."""
    finals: dict[str, float]
    missing: tuple[str, ...]
    """Base models of the matrix without a curve or a test score on the target."""

    @property
    def recall_epochs(self) -> float:
        """What recall cost: half an epoch for each proxy score read."""
        return PROXY_EPOCHS * self.recall.proxies_read.size if self.with_proxies else 0.0

    def first(self, k: int | None) -> Curves:
        """Curves of the first ``k`` recalled; of all for None."""
        return {name: self.curves[name] for name in self.recalled[:k]}


def target_record(
    matrix: PerformanceMatrix,
    task: str,
    rules: RecallRules,
    *,
    scores: Mapping[str, Mapping[str, float]] | None = None,
) -> TargetRecord:
    """Take a task out of a matrix and recall base models for it from the others.

    Args:
        matrix: at least two tasks.
        task: one of them.
        rules: clusters and recall.
        scores: proxy -> base model -> score on the task; without, recall goes by average alone (Eq. 2 with the same proxy
            score for all).

    Raises:
        ValueError: another task than the matrix has, a single task, or no base model that could be recalled.
    """
    if task not in matrix.tasks or len(matrix.tasks) < 2:
        raise ValueError(
            f"got the target {task} in a matrix of {', '.join(matrix.tasks)}; expected one of its tasks, and another one to learn "
            "from"
        )
    benchmark = cluster_matrix(matrix.without_task(task), rules)
    found = recall_from(benchmark, scores, rules) if scores else _by_average(benchmark)
    curves, finals = matrix.curves(task), matrix.finals(task)
    order = [matrix.base_models[row] for row in found.order if math.isfinite(found.scores[row])]
    recalled = tuple(name for name in order if name in finals and (name in curves or not matrix.n_stages))
    return TargetRecord(
        task=task,
        benchmark=benchmark,
        recall=found,
        recalled=recalled,
        with_proxies=bool(scores),
        curves={name: curves.get(name, ()) for name in recalled},
        finals=finals,
        missing=tuple(name for name in matrix.base_models if name not in recalled),
    )


def make_policies(names: Sequence[str], target: TargetRecord, rules: RoundRules) -> dict[str, RoundPolicy]:
    """Policies by name, told what the benchmark says; those that need recorded curves are left out where there are none."""
    known = Knowledge(record=target.benchmark.matrix)
    needs_none = set(BASELINES)
    able = [name for name in names if name in needs_none or target.benchmark.matrix.n_stages]
    return {name: POLICIES[name](rules, known) for name in able}


def replay(target: TargetRecord, policy: RoundPolicy, *, k: int | None, epochs_per_stage: float = 1.0) -> Selection:
    """What a policy would have chosen among the first ``k`` recalled (all for None), and at which cost without recall."""
    return run_rounds(policy, target.first(k), target.finals, epochs_per_stage=epochs_per_stage)


def _by_average(benchmark: ClusteredMatrix) -> Recall:
    average = benchmark.matrix.average
    order = np.argsort(-np.where(np.isfinite(average), average, -math.inf), kind="stable")
    return Recall(scores=average, order=order.astype(np.int64), proxies_read=np.array([], dtype=np.int64))
