"""The cross-validated probe against scikit-learn's solver on the same folds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis.proxies import RefusalError, prepare_rows
from analysis.proxies.cross_validation import PENALTIES, _deal, score_probe_cv


def test_accuracy_is_that_of_another_solver() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 120)
    features = rng.normal(size=(120, 6)) + 0.8 * rng.normal(size=(3, 6))[labels]
    rows = prepare_rows(features, labels)
    folds = _deal(rows)
    accuracies = []
    for penalty in PENALTIES:
        right = 0
        for fold in range(5):
            inside = folds != fold
            strength = 1 / (penalty * inside.sum())
            model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000, tol=1e-8))
            model.fit(rows.features[inside], rows.codes[inside])
            right += (model.predict(rows.features[~inside]) == rows.codes[~inside]).sum()
        accuracies.append(right / 120)
    assert score_probe_cv(rows) == pytest.approx(max(accuracies), abs=1 / 120 + 1e-12)


def test_folds_hold_every_class_evenly() -> None:
    rows = prepare_rows(np.random.default_rng(0).normal(size=(53, 3)), np.repeat([0, 1, 2], [30, 20, 3]))
    folds = _deal(rows)
    assert sorted(np.bincount(folds)) == [10, 10, 11, 11, 11]
    for code in range(3):
        per_fold = np.bincount(folds[rows.codes == code], minlength=5)
        assert per_fold.max() - per_fold.min() <= 1


def test_a_fold_without_a_second_class_is_refused() -> None:
    rows = prepare_rows(np.random.default_rng(0).normal(size=(10, 2)), np.repeat([0, 1], [9, 1]))
    with pytest.raises(RefusalError, match="a fold cannot be fitted"):
        score_probe_cv(rows)
