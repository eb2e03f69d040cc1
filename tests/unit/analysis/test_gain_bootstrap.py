"""Bootstrap intervals: no width without noise, near nominal coverage with it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.gain_bootstrap import bootstrap_gain_model


def truth(n_bases: int, n_tasks: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    source = np.random.default_rng(seed)
    base = source.normal(0, 2, size=n_bases)
    slope = source.uniform(0.5, 1.5, size=n_tasks)
    return base - base.mean(), slope / np.sqrt((slope**2).mean()), source.normal(size=n_tasks)


def test_exact_gains_have_intervals_without_width() -> None:
    base, slope, level = truth(8, 5, 0)
    found = bootstrap_gain_model(np.outer(base, slope) + level, rng=np.random.default_rng(0), n_draws=20)
    for low, high, value in (
        (found.base_low, found.base_high, base),
        (found.slope_low, found.slope_high, slope),
        (found.level_low, found.level_high, level),
    ):
        assert low == pytest.approx(value, abs=1e-9) and high == pytest.approx(value, abs=1e-9)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    base, slope, level = truth(80, 20, 1)
    source = np.random.default_rng(2)
    gain = np.outer(base, slope) + level + source.normal(size=(80, 20)) * source.uniform(0.3, 1.5, size=20)
    found = bootstrap_gain_model(gain, rng=np.random.default_rng(3), n_draws=100, level=0.9)
    assert found.n_draws == 100 and (found.base_low < found.base_high).all()
    assert 0.8 <= np.mean((found.base_low <= base) & (base <= found.base_high)) <= 0.98
    assert np.mean((found.slope_low <= slope) & (slope <= found.slope_high)) >= 0.7
    assert np.mean((found.level_low <= level) & (level <= found.level_high)) >= 0.7


def test_more_noise_widens_the_intervals() -> None:
    base, slope, level = truth(15, 8, 4)
    noise = np.random.default_rng(5).normal(size=(15, 8))
    widths = []
    for scale in (0.1, 1.0):
        gain = np.outer(base, slope) + level + scale * noise
        found = bootstrap_gain_model(gain, rng=np.random.default_rng(6), n_draws=40)
        widths.append(np.median(found.base_high - found.base_low))
    assert 5 < widths[1] / widths[0] < 20


def test_left_out_base_models_and_missing_cells() -> None:
    base, slope, level = truth(9, 5, 7)
    gain = np.outer(base, slope) + level + np.random.default_rng(8).normal(size=(9, 5)) * 0.2
    gain[0, 1:] = math.nan
    gain[4, 2] = math.nan
    found = bootstrap_gain_model(gain, rng=np.random.default_rng(9), n_draws=20)
    assert math.isnan(found.base_low[0]) and not np.isnan(found.base_low[1:]).any()
    assert not np.isnan(found.slope_high).any()


def test_what_cannot_be_fitted_is_nan_with_the_reason() -> None:
    found = bootstrap_gain_model(np.ones((2, 6)), rng=np.random.default_rng(0))
    assert "needs 3 and 2" in found.reason and np.isnan(found.base_low).all() and found.n_draws == 0
    with pytest.raises(ValueError, match="draws"):
        bootstrap_gain_model(np.ones((4, 4)), rng=np.random.default_rng(0), n_draws=5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        bootstrap_gain_model(np.ones((4, 4)), rng=np.random.default_rng(0), level=90)
