"""The probe against scikit-learn on the same features; what it refuses; what its settings mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from ray_app.probing.probe import ProbeResult, fit_probe
from ray_app.probing.settings import Pooling, ProbeConfig
from ray_app.training.tokens import TaskFacts

FACTS = TaskFacts(name="t", label_names=("a", "b", "c"), label_words=("a", "b", "c"), regression=False)
NUMBER = TaskFacts(name="n", label_names=(), label_words=(), regression=True)


@dataclass
class _Split:
    """Features as the cache gives them, from memory."""

    vectors: np.ndarray
    labels: np.ndarray

    def pooled(self, pooling: Pooling) -> np.ndarray:
        return self.vectors


def _splits(seed: int = 0, n: int = 150, d: int = 8, *, numbers: bool = False) -> list[_Split]:
    rng = np.random.default_rng(seed)
    means, slope = rng.normal(size=(3, d)), rng.normal(size=d)
    found = []
    for _ in range(3):
        labels = rng.integers(0, 3, n)
        vectors = (rng.normal(size=(n, d)) + 0.7 * means[labels]).astype(np.float32)
        found.append(_Split(vectors, vectors @ slope + 2 * rng.normal(size=n) if numbers else labels))
    return found


def _fit(splits: list[_Split], facts: TaskFacts = FACTS, config: ProbeConfig | None = None) -> ProbeResult:
    train, validation, test = splits
    return fit_probe(train, validation, test, facts, config or ProbeConfig())  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_classification_is_the_best_of_another_solvers_path(seed: int) -> None:
    train, validation, test = splits = _splits(seed)
    result = _fit(splits)
    scaler = StandardScaler().fit(train.vectors)
    outcomes = {}
    for l2 in ProbeConfig().l2:
        head = LogisticRegression(C=1 / (l2 * len(train.labels)), tol=1e-9, max_iter=10000)
        head.fit(scaler.transform(train.vectors), train.labels)
        outcomes[l2] = [head.score(scaler.transform(part.vectors), part.labels) for part in (validation, test)]
    assert result.validation_score == pytest.approx(max(value for value, _ in outcomes.values()), abs=1.01 / 150)
    assert result.test.score == pytest.approx(outcomes[result.l2][1], abs=1.01 / 150)
    assert result.test.n_correct == round(result.test.score * 150) and result.test.n_eval == 150
    assert result.n_train == 150


def test_of_equally_good_penalties_the_strongest_is_kept() -> None:
    splits = _splits()
    for part in splits:
        part.labels = np.arange(150) % 3
        part.vectors = np.eye(3, dtype=np.float32)[part.labels]  # any penalty gets all right
    assert _fit(splits).l2 == max(ProbeConfig().l2)


def test_regression_is_ridge_scored_by_rank() -> None:
    train, validation, test = splits = _splits(numbers=True)
    result = _fit(splits, NUMBER)
    scaler = StandardScaler().fit(train.vectors)
    best = None
    for l2 in sorted(ProbeConfig().l2, reverse=True):
        head = Ridge(alpha=l2 * 150).fit(scaler.transform(train.vectors), train.labels)
        rho = spearmanr(head.predict(scaler.transform(validation.vectors)), validation.labels).statistic
        if best is None or rho > best[0] + 1e-9:
            best = (rho, spearmanr(head.predict(scaler.transform(test.vectors)), test.labels).statistic)
    assert best is not None
    assert result.validation_score == pytest.approx(best[0], abs=1e-6)
    assert result.test.score == pytest.approx(best[1], abs=1e-6)
    assert result.test.n_correct is None


def test_the_same_features_give_the_same_result() -> None:
    first, second = _fit(_splits()), _fit(_splits())
    assert first.test.loss == second.test.loss
    assert (first.test.predictions == second.test.predictions).all()


def test_a_class_that_training_lacks_is_never_answered() -> None:
    splits = _splits()
    keep = splits[0].labels != 1
    splits[0] = _Split(splits[0].vectors[keep], splits[0].labels[keep])
    result = _fit(splits)
    assert result.test.class_counts["b"][1] == 0 and result.test.class_counts["b"][0] > 0


@pytest.mark.parametrize("place", [0, 1, 2])
def test_features_that_are_not_numbers_are_refused(place: int) -> None:
    splits = _splits()
    splits[place].vectors[3, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        _fit(splits)


def test_training_rows_of_one_class_are_refused() -> None:
    splits = _splits()
    splits[0].labels[:] = 2
    with pytest.raises(ValueError, match="one class only"):
        _fit(splits)


def test_settings_say_what_is_wrong_with_them() -> None:
    assert ProbeConfig().faults() == []
    wrong = ProbeConfig(l2=[0.1, 0.1, -1.0], tolerance=0, max_length=0, max_iterations=0)
    found = " ".join(wrong.faults())
    for text in ("-1.0", "repeats a penalty", "tolerance: 0", "max_length: 0", "max_iterations: 0"):
        assert text in found
    assert ProbeConfig(l2=[]).faults() == ["l2: empty; name at least one penalty"]


def test_everything_that_may_change_the_number_is_a_hyperparameter() -> None:
    assert ProbeConfig(pooling=Pooling.FIRST).hyperparameters() == {
        "pooling": "first",
        "l2": [10.0, 1.0, 0.1, 0.01, 0.001, 0.0001],
        "max_iterations": 300,
        "tolerance": 0.0001,
        "max_length": None,
        "precision": "auto",
    }
