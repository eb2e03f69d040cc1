"""What the noise of other targets says about the noise of a new one, where few seeds have been run."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special


@dataclass(frozen=True, kw_only=True)
class NoisePrior:
    """Variance of a score under another seed before any is run: worth ``df`` degrees of freedom."""

    variance: float
    """Points squared; NaN exactly when ``reason`` names the failed requirement."""
    df: float
    """0: it says nothing; infinite: all targets have the same variance."""
    n_targets: int
    reason: str = ""

    def moderated(self, variance: float, df: float) -> tuple[float, float]:
        """Variance of a target from its own seeds and the prior, and its degrees of freedom: (d0 v0 + d v) / (d0 + d).

        Args:
            variance: of the target's own seeds, points squared; anything when df is 0.
            df: its degrees of freedom.
        """
        if self.reason or self.df == 0:
            return (variance, df) if df > 0 else (math.nan, 0.0)
        if math.isinf(self.df):
            return self.variance, math.inf
        own = df * variance if df > 0 else 0.0
        return (self.df * self.variance + own) / (self.df + df), self.df + df


NO_PRIOR = NoisePrior(variance=math.nan, df=0.0, n_targets=0, reason="no other target was given")


def fit_noise_prior(variance: npt.ArrayLike, df: npt.ArrayLike) -> NoisePrior:
    """Prior of a variance from the variances of other targets (empirical Bayes).

    s_t^2 ~ v0 F(d_t, d0). With e_t = log s_t^2 - psi(d_t / 2) + log(d_t / 2): d0 solves
    psi'(d0 / 2) = var(e) - mean psi'(d_t / 2), and v0 = exp(mean e + psi(d0 / 2) - log(d0 / 2)). Where the variances differ
    by no more than chance, d0 is infinite.

    Args:
        variance: (n_targets,) points squared, NaN = unknown; zeros (a target on which all seeds agree) are left out.
        df: (n_targets,) degrees of freedom.

    Returns:
        NoisePrior; fewer than 2 usable targets give the reason.

    Raises:
        ValueError: lengths differ or a variance is negative.

    Source: Smyth, Statistical Applications in Genetics and Molecular Biology 3 (2004) article 3, section 6.2.
    """
    values, freedom = np.asarray(variance, dtype=np.float64), np.asarray(df, dtype=np.float64)
    if values.shape != freedom.shape or values.ndim != 1 or (values < 0).any():
        raise ValueError(
            f"got variances of shape {values.shape} and df of {freedom.shape}; expected (n_targets,), not negative"
        )
    usable = (values > 0) & (freedom > 0)
    v, d = values[usable], freedom[usable]
    if v.size < 2:
        reason = f"{v.size} other targets have a known noise: needs at least 2"
        return NoisePrior(variance=math.nan, df=0.0, n_targets=int(v.size), reason=reason)
    e = np.log(v) - special.digamma(d / 2) + np.log(d / 2)
    excess = float(e.var(ddof=1) - special.polygamma(1, d / 2).mean())
    if excess <= 0:
        return NoisePrior(variance=float(np.exp(e.mean())), df=math.inf, n_targets=int(v.size))
    half = _inverse_trigamma(excess)
    return NoisePrior(
        variance=float(np.exp(e.mean() + special.digamma(half) - np.log(half))), df=2 * half, n_targets=int(v.size)
    )


def _inverse_trigamma(value: float) -> float:
    """x with psi'(x) = value; psi' falls from infinity to 0, and 1/x < psi'(x) < 1/x + 1/x^2."""
    high = 1 / value + 1 / math.sqrt(value) + 1
    low = min(1 / value, 1 / math.sqrt(value)) / 2
    return float(optimize.brentq(lambda x: float(special.polygamma(1, x)) - value, low, high))
