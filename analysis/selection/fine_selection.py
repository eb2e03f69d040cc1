"""Fine-selection (Algorithm 1): drop what validates worse and is predicted to end worse, then halve."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.selection.halving import keep_best, order_by_validation
from analysis.selection.knowledge import RoundRules
from analysis.selection.performance import PerformanceMatrix
from analysis.selection.rounds import Curves, Verdict
from analysis.selection.trends import match_trend, mine_trends


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What the matched trend says of a candidate (Eqs. 5 and 6)."""

    test_score: float
    n_tasks: int
    """Benchmark tasks in the trend."""


@dataclass(frozen=True, kw_only=True)
class FineSelection:
    """Section IV.C. A candidate without recorded curves has no prediction: it neither filters nor is filtered, only halved."""

    record: PerformanceMatrix
    rules: RoundRules
    name: str = "fine_selection"

    def decide(self, stage: int, n_stages: int, curves: Curves) -> Verdict:
        """Filter by trend, then halve; after the last stage the best by validation stays.

        At most floor(n / 2) of n go on, at least one. The best by validation is never filtered.

        Source: Algorithm 1, lines 3 to 11. The threshold is a difference of predicted scores, as in line 7 and in the
        reference code; the text calls it a proportion of the difference (docs/selection.md).
        """
        filtered = filter_by_trend(self.predict(stage, curves), curves, threshold=self.rules.threshold)
        left = {name: curve for name, curve in curves.items() if name not in filtered}
        halved = keep_best(left, min(len(left), 1 if stage == n_stages else len(curves) // 2))
        return Verdict(kept=halved.kept, dropped=filtered | halved.dropped)

    def predict(self, stage: int, curves: Curves) -> dict[str, Prediction]:
        """Predicted final test score of every candidate that has a trend at this stage."""
        found = {}
        for name, curve in curves.items():
            trends = mine_trends(self.record, name, stage, n_trends=self.rules.n_trends)
            if trends is not None:
                trend = match_trend(trends, curve[-1])
                found[name] = Prediction(test_score=float(trends.test[trend]), n_tasks=int(trends.n_tasks[trend]))
        return found


def filter_by_trend(predictions: dict[str, Prediction], curves: Curves, *, threshold: float) -> dict[str, str]:
    """Fine-filter: candidate -> why it goes, from the worst validation score up.

    A candidate goes if another one has both a better validation score and a predicted test score that is higher by more
    than ``threshold``.
    """
    filtered = {}
    ranked = [name for name in order_by_validation(curves) if name in predictions]
    for name in reversed(ranked):
        better = [other for other in ranked if curves[other][-1] > curves[name][-1]]
        if not better:
            continue
        rival = max(better, key=lambda other: predictions[other].test_score)
        own, best = predictions[name], predictions[rival]
        if best.test_score - own.test_score > threshold:
            filtered[name] = (
                f"its trend ({own.n_tasks} benchmark tasks) predicts a test score of {own.test_score:.4f}, below "
                f"{best.test_score:.4f} of {rival}, which also validates better ({curves[rival][-1]:.4f} against "
                f"{curves[name][-1]:.4f})"
            )
    return filtered
