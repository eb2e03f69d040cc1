"""Learning curves as power laws with a common exponent and a prior from recorded curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

EXPONENTS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""Candidates for c; a grid, for with a handful of stages it is known to no more than that."""


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """v(s) = a - b s^-c + e: c is common to all curves, (a, b) is normal over curves, e is normal noise."""

    exponent: float
    mean: FloatArray
    """(2,) of (a, b)."""
    covariance: FloatArray
    """(2, 2)."""
    noise_variance: float

    def extrapolate(self, curve: npt.ArrayLike, stage: int) -> float:
        """Expected value at a stage, given the values at stages 1, 2, ... of a curve.

        The posterior mean of (a, b): with X rows (1, -s^-c), m + S X' (X S X' + e^2 I)^-1 (v - X m).
        """
        values = np.asarray(curve, dtype=np.float64)
        design = _design(np.arange(1, values.size + 1), self.exponent)
        spread = self.covariance @ design.T
        gram = design @ spread + self.noise_variance * np.eye(values.size)
        parameters = self.mean + spread @ np.linalg.lstsq(gram, values - design @ self.mean, rcond=None)[0]
        return float((_design(np.array([stage]), self.exponent) @ parameters)[0])


def fit_power_law(curves: npt.ArrayLike) -> PowerLaw:
    """Fit exponent, prior and noise to whole curves.

    The exponent has the least squared error of all curves fitted one by one; the prior is the mean and covariance of their
    (a, b), the noise their pooled residual variance.

    Args:
        curves: (n_curves, n_stages), finite, at least one curve and two stages.

    Source: Domhan, Springenberg & Hutter, IJCAI 2015 (pow3). Differs: one exponent for all, so that a single stage of a new
    curve already tells something; a normal prior instead of sampling.
    """
    values = np.asarray(curves, dtype=np.float64)
    if values.ndim != 2 or len(values) < 1 or values.shape[1] < 2 or not np.isfinite(values).all():
        raise ValueError(
            f"got curves of shape {values.shape}; expected (n_curves, n_stages), finite, two stages at least"
        )
    stages = np.arange(1, values.shape[1] + 1)
    best = None
    for exponent in EXPONENTS:
        design = _design(stages, exponent)
        parameters = np.linalg.lstsq(design, values.T, rcond=None)[0]
        error = float(((values.T - design @ parameters) ** 2).sum())
        if best is None or error < best[0]:
            best = error, exponent, parameters.T
    assert best is not None
    error, exponent, pairs = best
    freedom = len(values) * (values.shape[1] - 2)
    covariance = np.cov(pairs.T) if len(pairs) > 1 else np.zeros((2, 2))
    return PowerLaw(
        exponent=exponent,
        mean=pairs.mean(axis=0),
        covariance=np.asarray(covariance, dtype=np.float64),
        noise_variance=error / freedom if freedom else 0.0,
    )


def _design(stages: npt.NDArray[np.int64], exponent: float) -> FloatArray:
    return np.column_stack([np.ones(stages.size), -(stages.astype(np.float64) ** -exponent)])
