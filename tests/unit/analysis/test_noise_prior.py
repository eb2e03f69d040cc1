"""The prior of a new target's noise: against the closed moments of the model it assumes, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from analysis.noise_prior import NO_PRIOR, NoisePrior, fit_noise_prior


def test_it_recovers_the_parameters_that_made_the_variances() -> None:
    # s^2 = v0 * F(d, d0): draws from the model with v0 = 4, d0 = 6
    rng = np.random.default_rng(0)
    draws = 4.0 * stats.f.rvs(8, 6, size=20_000, random_state=rng)
    found = fit_noise_prior(draws, np.full(draws.size, 8.0))
    assert found.variance == pytest.approx(4.0, rel=0.05) and found.df == pytest.approx(6.0, rel=0.1)


def test_it_solves_the_moment_equations() -> None:
    variance, df = np.array([0.2, 1.0, 9.0, 0.05]), np.array([4.0, 19.0, 4.0, 9.0])
    found = fit_noise_prior(variance, df)
    e = np.log(variance) - special.digamma(df / 2) + np.log(df / 2)
    assert special.polygamma(1, found.df / 2) == pytest.approx(e.var(ddof=1) - special.polygamma(1, df / 2).mean())
    assert math.log(found.variance) == pytest.approx(e.mean() + special.digamma(found.df / 2) - math.log(found.df / 2))


def test_equal_variances_make_an_infinite_prior() -> None:
    found = fit_noise_prior([2.0, 2.0, 2.0], [5.0, 5.0, 5.0])
    assert math.isinf(found.df)
    # log v0 = mean log s^2 - psi(d / 2) + log(d / 2)
    assert found.variance == pytest.approx(2.0 * math.exp(math.log(2.5) - special.digamma(2.5)))
    assert found.moderated(100.0, 3.0) == (found.variance, math.inf)


def test_moderation_by_hand() -> None:
    prior = NoisePrior(variance=1.0, df=4.0, n_targets=5)
    # (4 * 1 + 2 * 7) / (4 + 2) = 3
    assert prior.moderated(7.0, 2.0) == (3.0, 6.0)
    assert prior.moderated(math.nan, 0.0) == (1.0, 4.0)


def test_without_a_prior_the_seeds_speak_alone() -> None:
    assert NO_PRIOR.moderated(7.0, 2.0) == (7.0, 2.0)
    assert math.isnan(NO_PRIOR.moderated(math.nan, 0.0)[0]) and NO_PRIOR.moderated(math.nan, 0.0)[1] == 0


@pytest.mark.parametrize(
    ("variance", "df"),
    [
        ([], []),
        ([1.0], [3.0]),
        ([0.0, 0.0, 1.0], [3.0, 3.0, 3.0]),
        ([1.0, np.nan], [3.0, 3.0]),
        ([1.0, 2.0], [3.0, 0.0]),
    ],
)
def test_too_little_states_its_reason(variance: list[float], df: list[float]) -> None:
    found = fit_noise_prior(variance, df)
    assert math.isnan(found.variance) and found.df == 0 and "at least 2" in found.reason


def test_malformed_input_is_refused() -> None:
    with pytest.raises(ValueError, match="not negative"):
        fit_noise_prior([-1.0, 2.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="shape"):
        fit_noise_prior([1.0, 2.0], [1.0])
