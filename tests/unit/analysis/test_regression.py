"""The gain model against brute-force optimisation, and its baselines against plain means."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize

from analysis.regression import compare_regressions, fit_closed_form, fit_gain_model, usable_cells

NAN = math.nan


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def brute_force_mse(gain: np.ndarray, *, ridge: float = 0.0, n_starts: int = 8) -> float:
    """Least penalised loss of (b_i + t_j) t'_j per cell over many starts of a general optimiser."""
    n, m = gain.shape
    seen = ~np.isnan(gain)

    def residuals(p: np.ndarray) -> np.ndarray:
        b, t, slope = p[:n], p[n : n + m], p[n + m :]
        # the penalty is on b about its mean: its level belongs to t
        penalty = math.sqrt(ridge) * np.concatenate([b - b.mean(), slope])
        return np.concatenate([(gain - (b[:, None] + t) * slope)[seen], penalty])

    start = np.random.default_rng(1)
    fits = (optimize.least_squares(residuals, start.normal(size=n + 2 * m), max_nfev=150) for _ in range(n_starts))
    return 2 * min(fit.cost for fit in fits) / seen.sum()


@pytest.mark.parametrize("seed", range(4))
def test_closed_form_is_the_global_optimum(seed: int) -> None:
    gain = np.random.default_rng(seed).normal(size=(5, 4)) * [1, 2, 0.5, 3] + [-1, 0, 2, 1]
    model = fit_gain_model(gain, rng=rng())
    assert model.method == "closed form" and model.converged
    assert model.mse == pytest.approx(brute_force_mse(gain), rel=1e-5)
    assert model.mse == pytest.approx(np.mean((gain - model.fitted) ** 2))


def test_closed_form_with_a_ridge_is_the_optimum_of_the_penalised_loss() -> None:
    gain = np.random.default_rng(7).normal(size=(5, 4)) * 2
    factors, _ = fit_closed_form(gain, ridge=1.5)
    loss = ((gain - factors.fitted()) ** 2).sum() + 1.5 * ((factors.base**2).sum() + (factors.slope**2).sum())
    assert loss / gain.size == pytest.approx(brute_force_mse(gain, ridge=1.5), rel=1e-5)
    sigma = np.linalg.svd(gain - gain.mean(axis=0), compute_uv=False)[0]
    model = fit_gain_model(gain, rng=rng(), ridge=sigma + 0.1)
    assert model.fitted == pytest.approx(np.broadcast_to(gain.mean(axis=0), gain.shape))


def test_coefficients_of_a_matrix_made_by_the_model_come_back() -> None:
    base, slope, shift = np.array([-2.0, 0.0, 1.0, 1.0]), np.array([0.5, 1.5, 1.0]), np.array([-1.0, 2.0, 0.5])
    model = fit_gain_model((base[:, None] + shift) * slope, rng=rng())
    # mean square of t' is (0.25 + 2.25 + 1) / 3; b is rescaled with it, the product stays
    scale = math.sqrt(3.5 / 3)
    assert model.mse == pytest.approx(0, abs=1e-20)
    assert model.target_slope == pytest.approx(slope / scale)
    assert model.base_effect == pytest.approx(base * scale)
    assert model.target_level == pytest.approx(shift * slope)
    assert model.target_shift == pytest.approx(shift * scale)
    assert model.n_parameters == 4 + 2 * 3 - 2


def test_a_constant_column_has_slope_zero_and_keeps_its_level() -> None:
    gain = np.column_stack([[1.0, 2.0, 4.0, 0.0], [3.0, 3.0, 3.0, 3.0], [0.0, 1.5, 2.5, -1.0]])
    model = fit_gain_model(gain, rng=rng())
    assert model.target_slope[1] == pytest.approx(0, abs=1e-12) and math.isnan(model.target_shift[1])
    assert model.fitted[:, 1] == pytest.approx([3, 3, 3, 3])


def test_equal_gains_fit_exactly_with_no_base_effect() -> None:
    model = fit_gain_model(np.full((4, 3), 2.0), rng=rng())
    assert model.mse == 0 and (model.base_effect == 0).all() and (model.target_level == 2).all()
    assert model.reason == "" and math.isnan(model.second_ratio)


@pytest.mark.parametrize("seed", range(3))
def test_with_missing_cells_the_fit_matches_brute_force(seed: int) -> None:
    source = np.random.default_rng(seed)
    gain = np.outer(source.normal(size=7), source.normal(1, 0.5, size=5)) * 2 + source.normal(size=(7, 5)) * 0.5
    gain[[0, 2, 5, 6], [1, 4, 0, 3]] = NAN
    model = fit_gain_model(gain, rng=rng(), n_starts=5)
    assert model.method == "alternating" and model.converged and len(model.start_losses) == 5
    assert model.mse == pytest.approx(brute_force_mse(gain, n_starts=6), rel=1e-4)
    assert not np.isnan(model.fitted).any()


def test_thin_rows_and_columns_are_left_out_to_the_end() -> None:
    gain = np.random.default_rng(1).normal(size=(6, 4))
    gain[5, 1:] = NAN
    gain[2:5, 3] = NAN
    used = usable_cells(gain)
    # the last row has one cell; then the last column has only two left; the rest is complete
    assert used.tolist() == (np.outer([1, 1, 1, 1, 1, 0], [1, 1, 1, 0]) == 1).tolist()
    model = fit_gain_model(gain, rng=rng())
    inner = fit_gain_model(gain[:5, :3], rng=rng())
    assert math.isnan(model.base_effect[5]) and math.isnan(model.target_slope[3])
    assert model.mse == pytest.approx(inner.mse) and model.base_effect[:5] == pytest.approx(inner.base_effect)
    assert np.isnan(model.fitted[5]).all() and np.isnan(model.fitted[:, 3]).all()


BLOCKS = np.full((8, 6), NAN)
BLOCKS[:4, :3] = BLOCKS[4:, 3:] = [[1.0, 2.0, 0.0], [3.0, 5.0, 1.0], [0.0, 4.0, 2.0], [2.0, 2.0, 7.0]]
# a ring: each base model on 2 of 4 targets, each target with 3 of 6 base models, so 12 gains for 6 + 8 - 2 parameters
RING = np.full((6, 4), NAN)
RING[np.repeat(np.arange(6), 2), [0, 1, 1, 2, 2, 3, 3, 0, 0, 2, 1, 3]] = np.arange(12.0)


@pytest.mark.parametrize(
    ("gain", "reason"),
    [
        (np.ones((2, 5)), "gains of 2 base models on 5 targets"),
        (np.arange(5.0)[:, None], "gains of 5 base models on 1 targets"),
        (np.full((4, 4), NAN), "gains of 0 base models"),
        (np.where(np.eye(3) == 1, NAN, 1.0), "are left: needs 3 and 2"),
        (BLOCKS, "2 blocks"),
        (RING, "12 gains for 12 parameters"),
    ],
)
def test_what_cannot_be_fitted_is_nan_with_the_reason(gain: np.ndarray, reason: str) -> None:
    model, compared = fit_gain_model(gain, rng=rng()), compare_regressions(gain, rng=rng())
    assert reason in model.reason and model.reason == compared.reason
    assert math.isnan(model.mse) and np.isnan(model.fitted).all() and np.isnan(model.base_effect).all()
    assert all(math.isnan(v) for v in (compared.full, compared.source, compared.target, compared.shuffled_full_mean))


def test_baselines_are_mean_squared_distances() -> None:
    gain = np.array([[1.0, 2.0, 4.0], [0.0, 5.0, 1.0], [3.0, 3.0, 2.0], [7.0, 0.0, 1.0]])
    found = compare_regressions(gain, rng=rng(), n_shuffles=20)
    assert found.source == pytest.approx(np.mean(np.var(gain, axis=1)))
    assert found.target == pytest.approx(np.mean(np.var(gain, axis=0)))
    assert found.constant == pytest.approx(np.var(gain))
    assert (found.n_cells, found.n_shuffles, found.n_not_converged) == (12, 20, 0)
    assert found.full < min(found.source, found.target)


def test_shuffled_source_and_target_have_the_expected_error_of_random_groups() -> None:
    gain = np.random.default_rng(8).normal(size=(12, 6))
    found = compare_regressions(gain, rng=rng(), n_shuffles=400)
    # gains dealt at random into rows of k: the variance within rows is N (k - 1) / (k (N - 1)) of the whole
    whole, n = np.var(gain), gain.size
    for mean, sd, k in (
        (found.shuffled_source_mean, found.shuffled_source_sd, 6),
        (found.shuffled_target_mean, found.shuffled_target_sd, 12),
    ):
        assert abs(mean - whole * n * (k - 1) / (k * (n - 1))) < 4 * sd / math.sqrt(400)


def test_missing_cells_stay_out_of_every_error() -> None:
    gain = np.random.default_rng(9).normal(size=(8, 5))
    gain[0, 0] = gain[3, 2] = NAN
    found = compare_regressions(gain, rng=rng(), n_shuffles=3)
    within = [gain[i][~np.isnan(gain[i])] for i in range(8)]
    assert found.n_cells == 38
    assert found.source == pytest.approx(sum(((row - row.mean()) ** 2).sum() for row in within) / 38)


def test_malformed_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="ridge"):
        fit_gain_model(np.ones((4, 4)), rng=rng(), ridge=-1)
    with pytest.raises(ValueError, match="shuffles"):
        compare_regressions(np.ones((4, 4)), rng=rng(), n_shuffles=1)
