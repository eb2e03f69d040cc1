"""LogME: the evidence of a Bayesian linear model from features to labels."""

from __future__ import annotations

import numpy as np

from analysis.proxies.rows import FloatArray, LabelledRows

_GRID = 121
_REFINEMENTS = 40
_GOLDEN = (np.sqrt(5.0) - 1) / 2


def score_logme(rows: LabelledRows) -> float:
    """Log of the maximum evidence a row, nats, mean over one-hot columns (or of the number to be predicted); higher is better.

    With y = F w + noise, w ~ N(0, I / alpha), noise ~ N(0, 1 / beta), the evidence is N(y; 0, F F' / alpha + I / beta). In terms of
    t = alpha / beta, the squared singular values s_j of F, x_j^2 = (u_j' y)^2 and r = |y|^2 - sum_j x_j^2 it is largest at
    1 / beta = (sum_j x_j^2 t / (t + s_j) + r) / n, where log p = -(n/2) (log(2 pi / beta) + 1) - (1/2) sum_j log(1 + s_j / t). That is
    maximised over t, column by column, each on its own.

    Source: You et al., "LogME: Practical Assessment of Pre-trained Models for Transfer Learning", ICML 2021, equation 2 and
        algorithm 2. Differs: the official code takes at most 11 fixed-point steps from alpha = beta = 1, which falls short of the
        maximum for features of another scale; we take the maximum. Classes are those that occur.
    Cost: O(n d min(n, d)).
    """
    wanted = rows.targets[:, None] if rows.regression else rows.one_hot()
    n_rows, n_features = rows.features.shape
    if n_rows >= n_features:
        squared, basis = np.linalg.eigh(rows.features.T @ rows.features)
        projected = basis.T @ (rows.features.T @ wanted)
    else:
        squared, basis = np.linalg.eigh(rows.features @ rows.features.T)
        projected = np.sqrt(np.maximum(squared, 0.0))[:, None] * (basis.T @ wanted)
    kept = squared > 1e-12 * squared[-1]
    s = squared[kept]
    x2 = projected[kept] ** 2 / s[:, None]
    rest = np.maximum((wanted**2).sum(axis=0) - x2.sum(axis=0), 0.0) if len(s) < n_rows else np.zeros(wanted.shape[1])
    return float(np.mean(_largest_evidence(s, x2, rest, n_rows)))


def _evidence(log_t: FloatArray, s: FloatArray, x2: FloatArray, rest: FloatArray, n_rows: int) -> FloatArray:
    """(n_columns,) log evidence a row at the best beta for t; one t a column."""
    t = np.exp(log_t)
    spread = (x2 * (t / (t + s[:, None]))).sum(axis=0) + rest
    fit = np.log(2 * np.pi * np.maximum(spread, np.finfo(np.float64).tiny) / n_rows) + 1
    return np.asarray(-0.5 * (fit + np.log1p(s[:, None] / t).sum(axis=0) / n_rows))


def _largest_evidence(s: FloatArray, x2: FloatArray, rest: FloatArray, n_rows: int) -> FloatArray:
    """Maximum over t: the best of a grid over 26 powers of ten, then a golden-section search around it."""
    centre = np.log(s[-1])
    grid = centre + np.linspace(-40.0, 20.0, _GRID)
    n_columns = x2.shape[1]
    values = np.array([_evidence(np.full(n_columns, point), s, x2, rest, n_rows) for point in grid])
    best = values.argmax(axis=0)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, _GRID - 1)]
    for _ in range(_REFINEMENTS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        rises = _evidence(left, s, x2, rest, n_rows) < _evidence(right, s, x2, rest, n_rows)
        low, high = np.where(rises, left, low), np.where(rises, high, right)
    return np.maximum(_evidence((low + high) / 2, s, x2, rest, n_rows), values.max(axis=0))
