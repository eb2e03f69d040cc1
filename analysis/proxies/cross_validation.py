"""Cross-validated linear probe: what a head scores on training rows that it was not fitted on."""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from analysis.linear_probe import fit_ridge_path, fit_softmax_path
from analysis.proxies.rows import FloatArray, IntArray, LabelledRows, RefusalError

FOLDS = 5
PENALTIES = (1.0, 0.1, 0.01, 0.001)


def score_probe_cv(rows: LabelledRows) -> float:
    """Accuracy of a softmax-regression head over five folds, fraction, under the best of four penalties; for numbers, Spearman's rho.

    Rows are dealt to folds class by class in their own order. The penalty is chosen on the very rows that are scored, the same way for
    every candidate, so the score is for comparing candidates and lies a little above what a test would give.

    Raises:
        RefusalError: a fold leaves one class (or one number) only to be fitted on.
    """
    folds = _deal(rows)
    answers = np.zeros((len(PENALTIES), len(rows.features)))
    for fold in range(int(folds.max()) + 1):
        held = folds == fold
        answers[:, held] = _answers(rows, held)
    if rows.regression:
        return max(_rho(answer, rows.targets) for answer in answers)
    return float((answers == rows.codes).mean(axis=1).max())


def _deal(rows: LabelledRows) -> IntArray:
    """(n_rows,) fold of each row: the j-th row of a class goes to fold j modulo the number of folds."""
    n_folds = min(FOLDS, len(rows.features))
    if rows.regression:
        return np.arange(len(rows.targets)) % n_folds
    folds = np.empty(len(rows.codes), np.int64)
    dealt = 0
    for code in range(rows.n_classes):
        members = np.flatnonzero(rows.codes == code)
        folds[members] = (dealt + np.arange(len(members))) % n_folds
        dealt += len(members)
    return folds


def _answers(rows: LabelledRows, held: np.ndarray) -> FloatArray:
    """(n_penalties, n_held) answers to the rows held out."""
    inside, outside = rows.features[~held], rows.features[held]
    try:
        if rows.regression:
            heads = fit_ridge_path(inside, rows.targets[~held], PENALTIES)
        else:
            heads = fit_softmax_path(inside, rows.codes[~held], PENALTIES)
    except ValueError as error:
        raise RefusalError(f"a fold cannot be fitted: {error}") from error
    return np.array([head.predict(outside) for head in heads], dtype=np.float64)


def _rho(answer: FloatArray, targets: FloatArray) -> float:
    return float(spearmanr(answer, targets).statistic) if np.ptp(answer) > 0 else 0.0
