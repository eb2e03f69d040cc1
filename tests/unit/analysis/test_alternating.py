"""The alternating solver: never uphill, the closed form where there is one, several starts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize

from analysis.alternating import Factors, alternating_step, fit_alternating, penalised_loss
from analysis.regression import fit_closed_form


def matrix(seed: int, shape: tuple[int, int] = (9, 6)) -> np.ndarray:
    source = np.random.default_rng(seed)
    return np.outer(source.normal(size=shape[0]), source.normal(1, 1, size=shape[1])) + source.normal(size=shape)


@pytest.mark.parametrize("ridge", [0.0, 0.7])
@pytest.mark.parametrize("seed", range(5))
def test_no_step_goes_uphill(seed: int, ridge: float) -> None:
    source = np.random.default_rng(seed)
    gain = matrix(seed)
    gain[source.random(gain.shape) < 0.3] = math.nan
    gain[0], gain[:, 0] = matrix(seed)[0], matrix(seed)[:, 0]
    seen = ~np.isnan(gain)
    factors = Factors(base=source.normal(size=9), slope=source.normal(size=6), level=source.normal(size=6))
    losses = []
    for _ in range(40):
        factors = alternating_step(gain, seen, factors, ridge=ridge)
        losses.append(penalised_loss(gain, seen, factors, ridge=ridge))
    assert (np.diff(losses) <= 1e-9).all()
    assert factors.base.mean() == pytest.approx(0, abs=1e-12)
    assert np.linalg.norm(factors.base) == pytest.approx(np.linalg.norm(factors.slope))


@pytest.mark.parametrize("ridge", [0.0, 0.5, 2.0])
def test_random_starts_reach_the_closed_form_of_a_complete_matrix(ridge: float) -> None:
    gain = matrix(11)
    fit = fit_alternating(gain, rng=np.random.default_rng(0), ridge=ridge, n_starts=5)
    closed, _ = fit_closed_form(gain, ridge=ridge)
    expected = penalised_loss(gain, np.ones_like(gain, dtype=bool), closed, ridge=ridge)
    assert fit.start_losses == pytest.approx([expected] * 5, rel=1e-6) and fit.converged
    assert fit.factors.fitted() == pytest.approx(closed.fitted(), abs=1e-3)


def test_the_best_of_several_starts_is_given() -> None:
    source = np.random.default_rng(0)
    spread = []
    for _ in range(12):
        gain = source.normal(size=(8, 6))
        gain[1:, 1:][source.random((7, 5)) < 0.4] = math.nan
        fit = fit_alternating(gain, rng=np.random.default_rng(1), n_starts=4, ridge=0.2)
        seen = ~np.isnan(gain)
        assert fit.loss == min(fit.start_losses) == penalised_loss(gain, seen, fit.factors, ridge=0.2)
        spread.append(max(fit.start_losses) - fit.loss)
    # missing cells do make local minima: without several starts some of these fits would be worse
    assert max(spread) > 0.01


def test_a_ridge_above_the_first_singular_value_leaves_levels_only() -> None:
    gain = matrix(3)
    fit = fit_alternating(gain, rng=np.random.default_rng(0), ridge=1000.0, n_starts=2)
    assert fit.converged and fit.factors.fitted() == pytest.approx(np.broadcast_to(gain.mean(axis=0), gain.shape))


def test_the_fixed_point_of_the_ridge_loss_is_a_minimum() -> None:
    gain = matrix(5, (6, 4))
    gain[[0, 3, 5], [1, 2, 0]] = math.nan
    seen = ~np.isnan(gain)
    fit = fit_alternating(gain, rng=np.random.default_rng(0), ridge=0.4, n_starts=5, tolerance=1e-14)

    def loss(p: np.ndarray) -> float:
        return penalised_loss(gain, seen, Factors(base=p[:6], slope=p[6:10], level=p[10:]), ridge=0.4)

    source = np.random.default_rng(2)
    best = min(optimize.minimize(loss, source.normal(size=14), method="BFGS").fun for _ in range(12))
    assert fit.loss == pytest.approx(best, rel=1e-5)


def test_running_out_of_steps_is_reported() -> None:
    gain = matrix(1)
    gain[0, 0] = math.nan
    fit = fit_alternating(gain, rng=np.random.default_rng(0), max_steps=1, tolerance=0.0, n_starts=1)
    assert not fit.converged and fit.n_steps == 1


def test_constant_gains_fit_exactly() -> None:
    gain = np.full((4, 3), 2.0)
    gain[0, 0] = math.nan
    fit = fit_alternating(gain, rng=np.random.default_rng(0))
    assert fit.loss == pytest.approx(0, abs=1e-20) and fit.factors.level == pytest.approx([2, 2, 2])


def test_unusable_input_is_refused() -> None:
    source = np.random.default_rng(0)
    empty_row = np.ones((4, 3))
    empty_row[1] = math.nan
    with pytest.raises(ValueError, match="leave it out"):
        fit_alternating(empty_row, rng=source)
    with pytest.raises(ValueError, match="ridge"):
        fit_alternating(np.ones((4, 3)), rng=source, ridge=-0.1)
    with pytest.raises(ValueError, match="1 start"):
        fit_alternating(np.ones((4, 3)), rng=source, n_starts=0)
