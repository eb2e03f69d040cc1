"""Linear heads on frozen features, fitted to their optimum along a path of L2 penalties: softmax regression and ridge regression.

Both standardise the features, so that one penalty means the same for every model, and both work in the eigenbasis of the features'
covariance: ridge is closed there, and softmax regression, preconditioned by the curvature of its first step, takes L-BFGS a few tens
of iterations where raw features take hundreds. The optimum is that of the plain problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class LinearHead:
    """An affine map of features to one logit a class, or to one number."""

    weights: npt.NDArray[np.float64]
    """(n_features, n_outputs), for features as they come."""
    intercept: npt.NDArray[np.float64]
    """(n_outputs,)."""
    classes: npt.NDArray[np.int64] | None
    """(n_outputs,) labels of the outputs; None for regression."""
    l2: float
    """Penalty it was fitted under."""
    n_iterations: int
    """L-BFGS iterations; 0 for the closed form."""

    def outputs(self, features: FloatArray) -> npt.NDArray[np.float64]:
        """(n_rows, n_outputs) logits or numbers."""
        return np.asarray(features @ self.weights.astype(features.dtype) + self.intercept, dtype=np.float64)

    def predict(self, features: FloatArray) -> npt.NDArray[np.int64] | npt.NDArray[np.float64]:
        """(n_rows,) labels (the first of equals), or numbers."""
        values = self.outputs(features)
        return values[:, 0] if self.classes is None else self.classes[values.argmax(axis=1)]

    def mean_loss(self, features: FloatArray, targets: npt.NDArray[np.int64] | npt.NDArray[np.float64]) -> float:
        """Mean cross-entropy in nats, or mean squared error; a class that training lacked counts as infinitely unlikely."""
        values = self.outputs(features)
        if self.classes is None:
            return float(np.mean((values[:, 0] - targets) ** 2))
        log_p = values - logsumexp(values, axis=1, keepdims=True)
        place = np.searchsorted(self.classes, targets)
        known = (place < len(self.classes)) & (self.classes[np.minimum(place, len(self.classes) - 1)] == targets)
        if not known.all():
            return float("inf")
        return float(-log_p[np.arange(len(targets)), place].mean())


@dataclass(frozen=True)
class _Design:
    """Standardised features in the eigenbasis of their covariance: r = ((x - mean) / scale) @ basis."""

    rotated: FloatArray
    """(n_rows, n_features), of the features' own dtype."""
    variances: npt.NDArray[np.float64]
    """(n_features,) mean squares of its columns."""
    mean: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]
    basis: npt.NDArray[np.float64]

    def head(
        self,
        rotated_weights: npt.NDArray[np.float64],
        intercept: npt.NDArray[np.float64],
        *,
        classes: npt.NDArray[np.int64] | None,
        l2: float,
        n_iterations: int,
    ) -> LinearHead:
        """The same map for features as they come."""
        weights = (self.basis @ rotated_weights) / self.scale[:, None]
        return LinearHead(
            weights=weights,
            intercept=intercept - self.mean @ weights,
            classes=classes,
            l2=l2,
            n_iterations=n_iterations,
        )


def fit_softmax_path(
    features: FloatArray,
    labels: npt.ArrayLike,
    l2s: Sequence[float],
    *,
    max_iterations: int = 300,
    tolerance: float = 1e-4,
) -> list[LinearHead]:
    """Softmax (multinomial logistic) regression under each penalty.

    Minimises (1/n) sum_i [logsumexp_k(z_i W_k + b_k) - (z_i W_{y_i} + b_{y_i})] + (l2 / 2) ||W||^2 over W and b, z the
    standardised features (a constant column counts as zero). In the terms of scikit-learn's LogisticRegression, C = 1 / (n l2).
    Fits run from the strongest penalty to the weakest, each started from the one before. Matrix products are computed in the
    dtype of ``features``, everything else in float64.

    Args:
        features: (n_rows, n_features), float32 or float64, finite.
        labels: (n_rows,) whole numbers; the classes are those that occur.
        l2s: penalties above 0.
        max_iterations: most iterations of a fit.
        tolerance: largest entry of the preconditioned gradient at the end of a fit.

    Returns:
        A head per penalty, in the order of ``l2s``.

    Raises:
        ValueError: no rows, rows and labels that do not match, values that are not finite, or fewer than two classes.
    Cost: O(n d^2 + d^3) once, and O(n d k) an iteration.
    """
    checked = _checked(features, labels)
    classes, codes = np.unique(np.asarray(labels), return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"got rows of one class only ({classes[0]}); expected two or more to tell apart")
    design = _make_design(checked)
    shares = np.bincount(codes) / len(codes)
    theta = np.zeros((checked.shape[1] + 1, len(classes)))
    theta[-1] = np.log(shares) - np.log(shares).mean()
    heads: dict[float, LinearHead] = {}
    for l2 in sorted(set(l2s), reverse=True):
        theta, n_iterations = _descend(design, codes, theta, l2, max_iterations=max_iterations, tolerance=tolerance)
        heads[l2] = design.head(
            theta[:-1], theta[-1], classes=classes.astype(np.int64), l2=l2, n_iterations=n_iterations
        )
    return [heads[l2] for l2 in l2s]


def _descend(
    design: _Design,
    codes: IntArray,
    start: npt.NDArray[np.float64],
    l2: float,
    *,
    max_iterations: int,
    tolerance: float,
) -> tuple[npt.NDArray[np.float64], int]:
    """L-BFGS from ``start``; returns weights (rotated, the intercept as last row) and iterations.

    Parameters are scaled by p_j = (v_j / k + l2)^(-1/2), the curvature of column j at equal class probabilities.
    """
    rotated, (n_rows, n_features), n_classes = design.rotated, design.rotated.shape, start.shape[1]
    scale = np.append(1 / np.sqrt(design.variances / n_classes + l2), np.sqrt(n_classes))[:, None]
    every = np.arange(n_rows)

    def objective(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        theta = flat.reshape(n_features + 1, n_classes) * scale
        weights = theta[:-1]
        logits = (rotated @ weights.astype(rotated.dtype)).astype(np.float64) + theta[-1]
        loss = float(np.mean(logsumexp(logits, axis=1) - logits[every, codes]))
        error = softmax(logits, axis=1)
        error[every, codes] -= 1.0
        error /= n_rows
        slope = np.empty_like(theta)
        slope[:-1] = rotated.T @ error.astype(rotated.dtype) + l2 * weights
        slope[-1] = error.sum(axis=0)
        return loss + l2 / 2 * float(np.sum(weights**2)), (slope * scale).ravel()

    found = minimize(
        objective,
        (start / scale).ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": max_iterations, "gtol": tolerance, "ftol": 0.0, "maxcor": 20},
    )
    return np.asarray(found.x).reshape(n_features + 1, n_classes) * scale, int(found.nit)


def fit_ridge_path(features: FloatArray, targets: npt.ArrayLike, l2s: Sequence[float]) -> list[LinearHead]:
    """Ridge regression under each penalty.

    Minimises (1/n) ||y - z w - b||^2 + l2 ||w||^2 over w and b, z the standardised features: w = (Z'Z/n + l2 I)^(-1) Z'(y - ȳ)/n,
    b = ȳ. In the terms of scikit-learn's Ridge, alpha = n l2.

    Args:
        features: (n_rows, n_features), float32 or float64, finite.
        targets: (n_rows,) finite numbers.
        l2s: penalties above 0.

    Returns:
        A head per penalty, in the order of ``l2s``.

    Raises:
        ValueError: no rows, rows and targets that do not match, values that are not finite, or constant targets.
    Cost: O(n d^2 + d^3).
    """
    checked = _checked(features, targets)
    numbers = np.asarray(targets, dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError(f"got {int((~np.isfinite(numbers)).sum())} targets that are not finite; expected numbers only")
    if np.ptp(numbers) == 0:
        raise ValueError(f"got {len(numbers)} equal targets ({numbers[0]:g}); expected numbers that differ")
    design = _make_design(checked)
    centre = numbers.mean()
    slope = np.asarray(design.rotated.T @ (numbers - centre).astype(checked.dtype), dtype=np.float64) / len(numbers)
    return [
        design.head((slope / (design.variances + l2))[:, None], np.array([centre]), classes=None, l2=l2, n_iterations=0)
        for l2 in l2s
    ]


def _checked(features: FloatArray, targets: npt.ArrayLike) -> FloatArray:
    """Features as a float matrix that fits its targets."""
    matrix = np.asarray(features)
    n_targets = np.asarray(targets).shape
    if matrix.ndim != 2 or not matrix.size or n_targets != matrix.shape[:1]:
        raise ValueError(
            f"got features of shape {matrix.shape} and targets of shape {n_targets}; expected (n_rows, n_features) and (n_rows,), "
            "not empty"
        )
    if matrix.dtype not in (np.float32, np.float64):
        matrix = matrix.astype(np.float64)
    if not np.isfinite(matrix).all():
        bad = int((~np.isfinite(matrix)).any(axis=1).sum())
        raise ValueError(f"{bad} of {len(matrix)} rows of features hold values that are not finite")
    return matrix


def _make_design(features: FloatArray) -> _Design:
    """Standardise, then rotate."""
    n_rows = len(features)
    mean = features.mean(axis=0, dtype=np.float64)
    centred = features - mean.astype(features.dtype)
    spread = np.sqrt(np.einsum("ij,ij->j", centred, centred, dtype=np.float64) / n_rows)
    rounding = max(8 * np.finfo(features.dtype).eps, n_rows * np.finfo(np.float64).eps)
    noise = rounding * np.abs(mean)
    scale = np.where(spread > noise, spread, np.inf)  # a constant column counts as zero
    standard = centred / scale.astype(features.dtype)
    variances, basis = np.linalg.eigh(np.asarray(standard.T @ standard, dtype=np.float64) / n_rows)
    return _Design(
        rotated=standard @ basis.astype(features.dtype),
        variances=np.maximum(variances, 0.0),
        mean=mean,
        scale=scale,
        basis=basis,
    )
