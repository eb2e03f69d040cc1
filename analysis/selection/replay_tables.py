"""Tables IV to VII of the paper on recorded curves, and all policies side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.selection.cluster_tables import Cell, Table, number
from analysis.selection.forecast import FORECASTERS, fit_of, forecast_error
from analysis.selection.halving import brute_force_epochs, halving_epochs
from analysis.selection.knowledge import RoundRules
from analysis.selection.performance import PerformanceMatrix
from analysis.selection.policies import POLICIES
from analysis.selection.replay import TargetRecord, make_policies, replay
from analysis.selection.rounds import Selection

THRESHOLDS = (0.0, 0.01, 0.05, 0.10)
"""Of Table IV."""


@dataclass(frozen=True, kw_only=True)
class ReplayedTarget:
    """Every policy on one target."""

    target: TargetRecord
    first: dict[str, Selection]
    """Policy -> selection among the first K recalled."""
    all: dict[str, Selection]
    """Policy -> selection among all base models."""
    k: int

    @property
    def best(self) -> float:
        """Largest recorded test score of all base models."""
        return max(self.target.finals[name] for name in self.target.recalled)


def replay_targets(
    targets: Sequence[TargetRecord], rules: RoundRules, *, k: int, names: Sequence[str] = tuple(POLICIES)
) -> list[ReplayedTarget]:
    """Every policy on every target, among the first ``k`` and among all."""
    found = []
    for target in targets:
        policies = make_policies(names, target, rules)
        first, every = (
            {
                name: replay(target, policy, k=size, epochs_per_stage=rules.epochs_per_stage)
                for name, policy in policies.items()
            }
            for size in (k, None)
        )
        found.append(ReplayedTarget(target=target, first=first, all=every, k=k))
    return found


def table_thresholds(replayed: Sequence[ReplayedTarget], rules: RoundRules) -> Table:
    """Table IV: test score and epochs of fine-selection by its threshold."""
    rows: list[tuple[Cell, ...]] = []
    for one in replayed:
        for threshold in THRESHOLDS:
            policy = make_policies(["fine_selection"], one.target, replace(rules, threshold=threshold))
            if "fine_selection" in policy:
                selection = replay(
                    one.target, policy["fine_selection"], k=one.k, epochs_per_stage=rules.epochs_per_stage
                )
                rows.append((one.target.task, threshold, number(selection.test_score), selection.epochs_spent))
    return Table(
        name="table_4_thresholds",
        title=f"Table IV: filtering threshold of fine-selection, first {_k(replayed)} recalled",
        columns=("target", "threshold", "test_score", "epochs"),
        rows=tuple(rows),
    )


def table_epochs(replayed: Sequence[ReplayedTarget]) -> Table:
    """Table V: epochs of every policy among the first K and among all, and how many times fewer than brute force."""
    rows: list[tuple[Cell, ...]] = []
    for one in replayed:
        for name in one.first:
            row: list[Cell] = [one.target.task, name]
            for found in (one.first, one.all):
                epochs = found[name].epochs_spent
                row += [epochs, found["brute_force"].epochs_spent / epochs]
            rows.append(tuple(row))
    return Table(
        name="table_5_epochs",
        title=f"Table V: epochs without recall, first {_k(replayed)} recalled and all",
        columns=("target", "policy", "epochs_first", "speedup_first", "epochs_all", "speedup_all"),
        rows=tuple(rows),
    )


def table_epochs_by_count(n_models: int, n_stages: int, *, k: int, epochs_per_stage: float = 1.0) -> Table:
    """Table V as far as it follows from counts alone: brute force and successive halving."""
    rows = []
    for name, count in (("brute_force", brute_force_epochs), ("successive_halving", halving_epochs)):
        first = count(min(k, n_models), n_stages, epochs_per_stage=epochs_per_stage)
        every = count(n_models, n_stages, epochs_per_stage=epochs_per_stage)
        rows.append((name, first, every))
    return Table(
        name="table_5_counts",
        title=f"Table V: epochs of {n_stages} stages that need no curves",
        columns=("policy", f"epochs_{min(k, n_models)}_models", f"epochs_{n_models}_models"),
        rows=tuple(rows),
    )


def table_end_to_end(replayed: Sequence[ReplayedTarget], policy: str) -> Table:
    """Table VI: recall and a policy against brute force and successive halving over all base models, epochs of recall counted."""
    rows: list[tuple[Cell, ...]] = []
    for one in replayed:
        if policy not in one.first:
            continue
        brute, halved = one.all["brute_force"], one.all["successive_halving"]
        epochs = one.first[policy].epochs_spent + one.target.recall_epochs
        scores = (one.best, brute.test_score, halved.test_score, one.first[policy].test_score)
        rows.append(
            (
                one.target.task,
                epochs,
                brute.epochs_spent / epochs,
                halved.epochs_spent / epochs,
                *(number(score) for score in scores),
            )
        )
    return Table(
        name=f"table_6_{policy}",
        title=f"Table VI: recall and {policy} end to end, half an epoch a proxy score",
        columns=(
            "target",
            "epochs",
            "speedup_brute_force",
            "speedup_successive_halving",
            "best_test_score",
            "brute_force",
            "successive_halving",
            "two_phase",
        ),
        rows=tuple(rows),
        note="" if all(one.target.with_proxies for one in replayed) else _no_proxies(replayed),
    )


def table_cases(replayed: Sequence[ReplayedTarget], policy: str) -> Table:
    """Table VII: the model chosen, its place in recall (from 1; the paper counts from 0) and the average of those recalled."""
    rows: list[tuple[Cell, ...]] = []
    for one in replayed:
        chosen = one.first[policy].chosen if policy in one.first else None
        if chosen is not None:
            recalled = one.target.recalled[: one.k]
            mean = float(np.mean([one.target.finals[name] for name in recalled]))
            rows.append(
                (one.target.task, chosen, one.target.finals[chosen], one.target.recalled.index(chosen) + 1, mean)
            )
    return Table(
        name=f"table_7_{policy}",
        title=f"Table VII: model chosen by recall and {policy}",
        columns=("target", "chosen", "test_score", "rank_in_recall", "average_of_recalled"),
        rows=tuple(rows),
    )


def table_policies(replayed: Sequence[ReplayedTarget]) -> Table:
    """Every policy over all targets: what it loses against the best recorded model, and its epochs (without recall)."""
    rows: list[tuple[Cell, ...]] = []
    for among in ("first", "all"):
        for name in replayed[0].first if replayed else ():
            selections = [getattr(one, among)[name] for one in replayed]
            pairs = [(one, found) for one, found in zip(replayed, selections, strict=True) if found.chosen is not None]
            lost = np.array([one.best - found.test_score for one, found in pairs])
            epochs = [found.epochs_spent for found in selections]
            spread = float(lost.std(ddof=1) / np.sqrt(lost.size)) if lost.size > 1 else float("nan")
            mean = float(lost.mean()) if lost.size else float("nan")
            exact = int((lost <= 0).sum())
            rows.append((among, name, len(pairs), number(mean), number(spread), exact, float(np.mean(epochs))))
    return Table(
        name="policies",
        title=f"All policies, first {_k(replayed)} recalled and all: test score lost against the best model, epochs",
        columns=("among", "policy", "n_targets", "mean_lost", "standard_error", "n_best_found", "mean_epochs"),
        rows=tuple(rows),
    )


def table_forecasts(matrix: PerformanceMatrix, rules: RoundRules) -> Table:
    """How far off every forecaster is at every stage, each task in turn taken out of the matrix."""
    rows: list[tuple[Cell, ...]] = []
    for stage in range(1, matrix.n_stages + 1):
        for name in FORECASTERS:
            error = forecast_error(matrix, stage, fit_of(name, n_trends=rules.n_trends))
            rows.append((stage, name, number(error.sd), error.df, number(error.relative)))
    return Table(
        name="forecasts",
        title="Forecasts of the test score: error among models of a task (sd), and relative error as in Fig. 6",
        columns=("stage", "forecaster", "sd_within_task", "df", "relative_error"),
        rows=tuple(rows),
    )


def _k(replayed: Sequence[ReplayedTarget]) -> int:
    return replayed[0].k if replayed else 0


def _no_proxies(replayed: Sequence[ReplayedTarget]) -> str:
    without = [one.target.task for one in replayed if not one.target.with_proxies]
    return f"no proxy scores for {', '.join(without)}: recall went by average alone and cost nothing"
