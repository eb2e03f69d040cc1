"""The linear probe: a head fitted on the features of a frozen model, penalty chosen on validation, tested once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.linear_probe import LinearHead, fit_ridge_path, fit_softmax_path
from ray_app.probing.features import SplitFeatures
from ray_app.probing.settings import ProbeConfig
from ray_app.training.scoring import Evaluation, score_answers
from ray_app.training.tokens import TaskFacts


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """What a probe is worth."""

    test: Evaluation
    validation_score: float
    """Validation score of the head that was tested."""
    l2: float
    """Its penalty."""
    n_train: int
    """Rows it was fitted on."""


def fit_probe(
    train: SplitFeatures, validation: SplitFeatures, test: SplitFeatures, facts: TaskFacts, config: ProbeConfig
) -> ProbeResult:
    """Fit a head under every penalty, keep the one that scores best on validation (of equals the strongest), test it.

    Classification: softmax regression; regression: ridge regression. Nothing is drawn: the same features give the same result.

    Raises:
        ValueError: features that are not finite, or training rows of one class only.
    """
    features = {name: split.pooled(config.pooling) for name, split in (("train", train), ("validation", validation))}
    heads = _fit(features["train"], np.asarray(train.labels), facts, config)
    scores = [_score(head, features["validation"], np.asarray(validation.labels), facts).score for head in heads]
    best = max(range(len(heads)), key=lambda index: (scores[index], heads[index].l2))
    return ProbeResult(
        test=_score(heads[best], test.pooled(config.pooling), np.asarray(test.labels), facts),
        validation_score=scores[best],
        l2=heads[best].l2,
        n_train=len(train.labels),
    )


def _fit(features: np.ndarray, labels: np.ndarray, facts: TaskFacts, config: ProbeConfig) -> list[LinearHead]:
    if facts.regression:
        return fit_ridge_path(features, labels, config.l2)
    return fit_softmax_path(
        features, labels, config.l2, max_iterations=config.max_iterations, tolerance=config.tolerance
    )


def _score(head: LinearHead, features: np.ndarray, labels: np.ndarray, facts: TaskFacts) -> Evaluation:
    if not np.isfinite(features).all():
        raise ValueError("features hold values that are not finite")
    return score_answers(head.predict(features), labels, facts, mean_loss=head.mean_loss(features, labels))
