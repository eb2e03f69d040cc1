"""What a selection spared: the same target by every policy, replayed on recorded cells of all its candidates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.selection.halving import brute_force_epochs, halving_epochs
from analysis.selection.knowledge import Knowledge, RoundRules
from analysis.selection.policies import POLICIES
from analysis.selection.rounds import run_rounds
from ray_app.selection.matrix import RecordedCell

PROXY_EPOCHS = 0.5
"""Cost of a transferability score, epochs: a pass over the target without gradients (section V.D)."""
BASELINES = ("brute_force", "successive_halving")


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """Another way to select, on the same curves."""

    method: str
    chosen: str
    test_score: float
    epochs: float
    difference: float
    """Test score of ours minus this one's, fraction."""
    difference_se: float
    """Standard error of that difference from the size of the test set alone, as of two independent shares."""


def baseline_epochs(n_models: int, n_stages: int, *, max_epochs: float) -> dict[str, float]:
    """Epochs of brute force and of successive halving over so many models."""
    each = max_epochs / n_stages
    return {
        "brute_force": brute_force_epochs(n_models, n_stages, epochs_per_stage=each),
        "successive_halving": halving_epochs(n_models, n_stages, epochs_per_stage=each),
    }


def compare(
    recorded: Mapping[str, RecordedCell],
    ours: RecordedCell,
    *,
    policies: Sequence[str] = BASELINES,
    known: Knowledge,
    rules: RoundRules,
    n_stages: int,
    max_epochs: float,
) -> list[Alternative]:
    """Every policy over all candidates, none of them recalled.

    Args:
        recorded: candidate -> its complete cell on the target, in order of recall; all candidates.
        ours: the cell of the model that was selected.
        policies: to replay.
        known: what policies may be told.
        rules: settings of policies.
        n_stages: stages of a full training.
        max_epochs: epochs of a full training.
    """
    curves = {name: cell.curve for name, cell in recorded.items()}
    finals = {name: cell.score for name, cell in recorded.items()}
    found = []
    for policy in policies:
        ended = run_rounds(
            POLICIES[policy](rules, known), curves, finals, epochs_per_stage=max_epochs / n_stages, n_stages=n_stages
        )
        if ended.chosen is None:
            continue
        other = recorded[ended.chosen]
        found.append(
            Alternative(
                method=policy,
                chosen=ended.chosen,
                test_score=other.score,
                epochs=ended.epochs_spent,
                difference=ours.score - other.score,
                difference_se=0.0 if ended.chosen and other is ours else share_se(ours, other),
            )
        )
    return found


def share_se(one: RecordedCell, other: RecordedCell) -> float:
    """Standard error of the difference of two shares of right answers, sqrt(p (1 - p) / n + q (1 - q) / m); NaN without counts."""
    if not (one.n_test and other.n_test):
        return math.nan
    return math.sqrt(sum(max(0.0, cell.score * (1 - cell.score)) / cell.n_test for cell in (one, other)))
