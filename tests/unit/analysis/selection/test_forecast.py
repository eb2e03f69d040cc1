"""Power laws and forecasts: exact where the curve is one, better than nothing where it is noisy, plain where nothing is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.selection.forecast import FORECASTERS, choose_forecaster, fit_of, forecast_error
from analysis.selection.performance import PerformanceMatrix
from analysis.selection.power_law import fit_power_law
from tests.selection_matrices import converging_matrix, make_matrix

STAGES = np.arange(1, 6)
NAN = math.nan


def _laws(exponent: float) -> np.ndarray:
    rng = np.random.default_rng(3)
    a, b = rng.uniform(0.6, 0.9, 12), rng.uniform(0.05, 0.3, 12)
    return a[:, None] - b[:, None] * STAGES**-exponent


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_a_power_law_is_found_and_carried_on(exponent: float) -> None:
    curves = _laws(exponent)
    law = fit_power_law(curves)
    assert law.exponent == exponent
    assert law.noise_variance == pytest.approx(0, abs=1e-20)
    new = 0.8 - 0.4 * STAGES**-exponent
    assert law.extrapolate(new[:2], 5) == pytest.approx(new[4], abs=1e-6)


def test_one_stage_is_answered_by_regression_on_the_record() -> None:
    # with one observation the posterior mean is the regression of the last on the first value over the record
    curves = _laws(1.0)
    law = fit_power_law(curves)
    slope, intercept = np.polyfit(curves[:, 0], curves[:, 4], 1)
    assert law.extrapolate([0.55], 5) == pytest.approx(intercept + slope * 0.55, abs=1e-6)


def test_a_single_recorded_curve_is_what_is_expected() -> None:
    law = fit_power_law([[0.5, 0.6, 0.7]])
    assert law.extrapolate([0.9], 3) == pytest.approx(law.extrapolate([0.1], 3))


@pytest.mark.parametrize("curves", [[[0.5]], [[0.5, NAN]], np.empty((0, 3))])
def test_curves_that_cannot_be_fitted(curves: object) -> None:
    with pytest.raises(ValueError, match="two stages at least"):
        fit_power_law(curves)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def record() -> PerformanceMatrix:
    return converging_matrix(n_bases=9, n_tasks=6, n_stages=4, noise=0.004)


@pytest.mark.parametrize("name", list(FORECASTERS))
@pytest.mark.parametrize("stage", [1, 3])
def test_every_forecaster_answers_for_known_and_new_models(record: PerformanceMatrix, name: str, stage: int) -> None:
    predict = fit_of(name)(record, stage)
    found = predict({"m0": (0.5, 0.6, 0.7)[:stage], "new": (0.4, 0.5, 0.6)[:stage]})
    assert set(found) == {"m0", "new"}
    assert all(0 < score < 1.2 for score in found.values())
    assert predict({}) == {}


@pytest.mark.parametrize("name", ["power_law", "gaussian_process"])
def test_extrapolation_beats_the_score_so_far(record: PerformanceMatrix, name: str) -> None:
    plain = forecast_error(record, 2, FORECASTERS["validation"])
    assert forecast_error(record, 2, FORECASTERS[name]).sd < plain.sd


def test_errors_by_hand() -> None:
    # both models gain 0.1 from stage 1 to the test on every task but the last, where m0 gains 0.1 and m1 0.3
    validation = np.full((2, 3, 1), 0.4)
    record = make_matrix([[0.5, 0.5, 0.5], [0.5, 0.5, 0.7]], validation)
    found = forecast_error(record, 1, FORECASTERS["validation"])
    # errors about the mean of their task: 0, 0 on t0 and t1; -0.1 and 0.1 on t2; 6 errors less 3 means
    assert found.sd == pytest.approx(math.sqrt(0.02 / 3))
    assert found.df == 3
    # relative: offsets learned from the other tasks are 0.15, 0.15, 0.1; forecasts 0.55, 0.55, 0.5
    assert found.relative == pytest.approx((4 * 0.05 / 0.5 + 0 + 0.2 / 0.7) / 6)


@pytest.mark.parametrize(
    "matrix",
    [make_matrix([[0.5], [0.6]], np.full((2, 1, 2), 0.5)), make_matrix([[NAN, NAN]], np.full((1, 2, 2), NAN))],
    ids=["one task", "no scores"],
)
def test_nothing_to_measure_errors_on(matrix: PerformanceMatrix) -> None:
    assert math.isnan(forecast_error(matrix, 1, FORECASTERS["validation"]).sd)
    assert choose_forecaster(matrix, 1) == "validation"


@pytest.mark.parametrize("name", list(FORECASTERS))
def test_gaps_in_the_record(name: str) -> None:
    whole = converging_matrix(n_bases=6, n_tasks=5, n_stages=3)
    test, validation = whole.test.copy(), whole.validation.copy()
    test[0, 0], validation[1, 1], validation[2, 2, 2], test[:, 4] = NAN, NAN, NAN, NAN
    record = make_matrix(test, validation)
    assert math.isfinite(fit_of(name)(record, 2)({"m0": (0.5, 0.6)})["m0"])
    assert math.isfinite(forecast_error(record, 2, fit_of(name)).sd)


def test_chosen_is_the_forecaster_with_the_least_error(record: PerformanceMatrix) -> None:
    errors = {name: forecast_error(record, 2, fit_of(name)).sd for name in FORECASTERS}
    assert choose_forecaster(record, 2) == min(errors, key=lambda name: errors[name])
