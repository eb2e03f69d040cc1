"""From answers to a score: counts first, so that a score can be checked."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ray_app.training.learners import INVALID
from ray_app.training.tokens import TaskFacts


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Outcome of one pass over a split."""

    score: float
    """Accuracy, or Spearman's rho of a regression task; a fraction, higher is better."""
    loss: float
    """Mean loss (per row; per target token for text-to-text)."""
    n_eval: int
    """Rows."""
    n_correct: int | None
    """Right answers; None for regression."""
    n_invalid: int
    """Generated texts that are no label (or no number)."""
    class_counts: dict[str, tuple[int, int, int]]
    """Per class: (true, predicted, correct) rows; empty for regression."""
    predictions: np.ndarray
    """Class ids or numbers in the order of the split, shape (n_eval,)."""


def score_answers(answers: np.ndarray, labels: np.ndarray, facts: TaskFacts, *, mean_loss: float) -> Evaluation:
    """Score answers against labels.

    Accuracy is n_correct / n_eval; an invalid answer is wrong. Spearman's rho is that of the valid answers with the rest put
    at the lowest number; it is 0 where all answers are equal (rho is undefined; a constant predicts nothing).

    Args:
        answers: class ids or numbers, shape (n,).
        labels: likewise, shape (n,).
        facts: the task.
        mean_loss: loss to report.

    Raises:
        ValueError: there are no rows.
    """
    if not len(labels):
        raise ValueError(f"task {facts.name} has no rows to score, expected at least one")
    if facts.regression:
        rho, n_invalid = _rank_correlation(answers, labels)
        return Evaluation(
            score=rho,
            loss=mean_loss,
            n_eval=len(labels),
            n_correct=None,
            n_invalid=n_invalid,
            class_counts={},
            predictions=answers,
        )
    correct = answers == labels
    counts = {
        name: (int((labels == index).sum()), int((answers == index).sum()), int((correct & (labels == index)).sum()))
        for index, name in enumerate(facts.label_names)
    }
    return Evaluation(
        score=int(correct.sum()) / len(labels),
        loss=mean_loss,
        n_eval=len(labels),
        n_correct=int(correct.sum()),
        n_invalid=int((answers == INVALID).sum()),
        class_counts=counts,
        predictions=answers,
    )


def _rank_correlation(answers: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
    """Spearman's rho with invalid answers below all others, and their number.

    rho = sum (r - mean)(s - mean) / sqrt(sum (r - mean)^2 sum (s - mean)^2) over mean ranks r of answers and s of labels.
    """
    valid = np.isfinite(answers)
    ranks = _mean_ranks(np.where(valid, answers, -np.inf)), _mean_ranks(labels)
    left, right = (rank - rank.mean() for rank in ranks)
    norm = math.sqrt(float((left**2).sum()) * float((right**2).sum()))
    rho = float((left * right).sum()) / norm if norm > 0 else 0.0
    return min(1.0, max(-1.0, rho)), int((~valid).sum())


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties at the mean of theirs, shape (n,)."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((2 * last - counts + 1) / 2)[places]
