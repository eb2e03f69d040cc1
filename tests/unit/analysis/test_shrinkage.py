"""Ridge chosen on held-out cells."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.shrinkage import FRACTIONS, choose_ridge

NAN = math.nan


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_leave_one_out_errors_of_the_means_by_loop() -> None:
    gain = np.random.default_rng(3).normal(size=(5, 4))
    found = choose_ridge(gain, rng=rng(), grid=[0.0], n_folds=None)
    by_source, by_target = [], []
    for i in range(5):
        for j in range(4):
            by_source.append(gain[i, j] - np.delete(gain[i], j).mean())
            by_target.append(gain[i, j] - np.delete(gain[:, j], i).mean())
    assert found.n_scored == 20 and found.n_unscored == 0 and found.n_folds == 20
    assert found.source_error == pytest.approx(np.mean(np.square(by_source)))
    assert found.target_error == pytest.approx(np.mean(np.square(by_target)))


def test_a_ridge_beyond_all_signal_predicts_as_target_means() -> None:
    gain = np.random.default_rng(3).normal(size=(6, 5))
    found = choose_ridge(gain, rng=rng(), grid=[1000.0])
    assert found.held_out_error[0] == pytest.approx(found.target_error) and found.ridge == 1000.0


def test_clear_signal_is_hardly_shrunk_and_noise_much() -> None:
    source = np.random.default_rng(5)
    clear = np.outer(source.normal(size=20), source.uniform(0.5, 2, size=10)) * 5 + source.normal(size=(20, 10)) * 0.1
    noise = source.normal(size=(20, 10))
    kept, shrunk = choose_ridge(clear, rng=rng()), choose_ridge(noise, rng=rng())
    sigma = [np.linalg.norm(each - each.mean(axis=0), ord=2) for each in (clear, noise)]
    assert kept.grid == pytest.approx(np.array(FRACTIONS) * sigma[0])
    assert kept.ridge <= 0.05 * sigma[0] and shrunk.ridge >= 0.5 * sigma[1]
    assert kept.held_out_error.min() < 0.1 * min(kept.source_error, kept.target_error)
    assert shrunk.held_out_error[0] > shrunk.target_error


def test_cells_left_alone_by_their_fold_are_counted_not_scored() -> None:
    gain = np.random.default_rng(1).normal(size=(6, 5))
    gain[0, 2:] = NAN
    found = choose_ridge(gain, rng=rng(), grid=[0.1], n_folds=None)
    # each of the two cells of row 0, held out, leaves the row with one cell: too few to place the base model
    assert found.n_unscored == 2 and found.n_scored == 25


@pytest.mark.parametrize("grid", [None, [0.0, 1.0]])
def test_what_cannot_be_fitted_is_nan_with_the_reason(grid: list[float] | None) -> None:
    found = choose_ridge(np.ones((2, 6)), rng=rng(), grid=grid)
    assert "needs 3 and 2" in found.reason and math.isnan(found.ridge) and np.isnan(found.held_out_error).all()


def test_malformed_requests_are_refused() -> None:
    gain = np.random.default_rng(1).normal(size=(6, 5))
    with pytest.raises(ValueError, match="ridges"):
        choose_ridge(gain, rng=rng(), grid=[-1.0])
    with pytest.raises(ValueError, match="ridges"):
        choose_ridge(gain, rng=rng(), grid=[])
    for n_folds in (1, 31):
        with pytest.raises(ValueError, match="folds"):
            choose_ridge(gain, rng=rng(), n_folds=n_folds)
