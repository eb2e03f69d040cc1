"""Heads against scikit-learn's solvers: the same problem must have the same optimum."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from analysis.linear_probe import fit_ridge_path, fit_softmax_path


def _task(n: int = 120, d: int = 6, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    features = (rng.normal(size=(n, d)) + 0.7 * rng.normal(size=(k, d))[labels]) @ rng.normal(size=(d, d)) + 5
    return features, labels


@pytest.mark.parametrize("l2", [1.0, 0.01, 0.001])
def test_softmax_regression_has_the_optimum_of_scikit_learn(l2: float) -> None:
    features, labels = _task()
    scaler = StandardScaler().fit(features)
    other = LogisticRegression(C=1 / (l2 * len(labels)), tol=1e-10, max_iter=10000).fit(
        scaler.transform(features), labels
    )
    (head,) = fit_softmax_path(features, labels, [l2], tolerance=1e-8, max_iterations=5000)
    standardised = head.weights * scaler.scale_[:, None]
    centred = standardised - standardised.mean(axis=1, keepdims=True)
    assert centred == pytest.approx(other.coef_.T, abs=2e-5)
    expected = other.predict_proba(scaler.transform(features))
    logits = head.outputs(features)
    given = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert given == pytest.approx(expected, abs=1e-5)
    assert head.mean_loss(features, labels) == pytest.approx(log_loss(labels, expected), abs=1e-6)
    assert (head.predict(features) == other.predict(scaler.transform(features))).all()


def test_two_classes_are_a_softmax_too() -> None:
    # scikit-learn penalises one vector w = W_1 - W_0 where we penalise both: |W|^2 = |w|^2 / 2 at the optimum
    features, labels = _task(k=2)
    scaler = StandardScaler().fit(features)
    l2 = 0.05
    other = LogisticRegression(C=2 / (l2 * len(labels)), tol=1e-10, max_iter=10000).fit(
        scaler.transform(features), labels
    )
    (head,) = fit_softmax_path(features, labels, [l2], tolerance=1e-8, max_iterations=5000)
    difference = (head.weights[:, 1] - head.weights[:, 0]) * scaler.scale_
    assert difference == pytest.approx(other.coef_[0], abs=2e-5)


def test_default_tolerance_gives_the_same_answers_in_both_precisions() -> None:
    features, labels = _task(n=300, d=40)
    penalties = [1.0, 0.1, 0.01]
    exact = fit_softmax_path(features, labels, penalties, tolerance=1e-8, max_iterations=5000)
    for given in (features, features.astype(np.float32)):
        for head, best in zip(fit_softmax_path(given, labels, penalties), exact, strict=True):
            assert np.mean(head.predict(given) == best.predict(features)) > 0.99
            assert head.mean_loss(given, labels) == pytest.approx(best.mean_loss(features, labels), abs=2e-3)


def test_heads_come_in_the_order_of_the_penalties() -> None:
    features, labels = _task()
    assert [head.l2 for head in fit_softmax_path(features, labels, [0.1, 1.0, 0.01])] == [0.1, 1.0, 0.01]


def test_labels_may_be_any_whole_numbers() -> None:
    features, labels = _task()
    names = np.array([-3, 7, 100])
    (head,) = fit_softmax_path(features, names[labels], [0.1])
    (plain,) = fit_softmax_path(features, labels, [0.1])
    assert (head.predict(features) == names[plain.predict(features)]).all()


@pytest.mark.parametrize("l2", [1.0, 0.01])
@pytest.mark.parametrize("shape", [(80, 5), (12, 30)])
def test_ridge_is_that_of_scikit_learn(l2: float, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    features, targets = rng.normal(3, 2, size=shape), rng.normal(size=shape[0])
    scaler = StandardScaler().fit(features)
    other = Ridge(alpha=l2 * shape[0]).fit(scaler.transform(features), targets)
    (head,) = fit_ridge_path(features, targets, [l2])
    assert head.weights[:, 0] * scaler.scale_ == pytest.approx(other.coef_, abs=1e-9)
    assert head.predict(features) == pytest.approx(other.predict(scaler.transform(features)), abs=1e-9)
    assert head.mean_loss(features, targets) == pytest.approx(np.mean((head.predict(features) - targets) ** 2))


def test_a_column_without_spread_counts_as_zero() -> None:
    features, labels = _task()
    wider = np.column_stack([features, np.full(len(labels), 0.1)])
    (head,) = fit_softmax_path(wider, labels, [0.1])
    (plain,) = fit_softmax_path(features, labels, [0.1])
    assert head.weights[-1] == pytest.approx(0.0)
    assert head.outputs(wider) == pytest.approx(plain.outputs(features), abs=1e-3)


def test_a_class_that_training_lacked_has_infinite_loss() -> None:
    features, labels = _task()
    (head,) = fit_softmax_path(features, labels, [0.1])
    assert head.mean_loss(features[:1], np.array([9])) == np.inf


@pytest.mark.parametrize(
    ("features", "labels", "reason"),
    [
        (np.ones((4, 2)), np.zeros(4, int), "one class only"),
        (np.array([[np.nan], [1.0]]), np.array([0, 1]), "1 of 2 rows"),
        (np.zeros((0, 3)), np.zeros(0, int), "not empty"),
        (np.ones((3, 2)), np.zeros(4, int), "expected"),
    ],
)
def test_what_cannot_be_fitted(features: np.ndarray, labels: np.ndarray, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        fit_softmax_path(features, labels, [0.1])


@pytest.mark.parametrize(
    ("targets", "reason"), [(np.ones(5), "equal targets"), (np.array([1, 2, np.nan, 4, 5]), "1 targets")]
)
def test_numbers_that_cannot_be_fitted(targets: np.ndarray, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        fit_ridge_path(np.random.default_rng(0).normal(size=(5, 2)), targets, [0.1])
