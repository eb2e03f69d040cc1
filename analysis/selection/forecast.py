"""Forecasts of a candidate's final test score from its first stages, and how far off they are among candidates of one target."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from analysis.selection.performance import PerformanceMatrix
from analysis.selection.power_law import fit_power_law
from analysis.selection.rounds import Curves
from analysis.selection.trends import mine_trends, predict_final

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

Predict = Callable[[Curves], dict[str, float]]
"""Curves up to the stage -> forecast final test scores, fractions; all candidates have one."""
Fit = Callable[[PerformanceMatrix, int], Predict]
"""(record, stage) -> Predict; learns from the record's curves up to the stage and its test scores."""

_MOST_ROWS = 80
"""Cells by which the kernel of the Gaussian process is fitted; its cost grows with their cube."""
_MOST_CONDITIONED = 400
"""Cells on which it is then conditioned."""


def forecast_by_validation(record: PerformanceMatrix, stage: int) -> Predict:
    """The latest validation score, shifted by what the record gains from there: what successive halving goes by."""
    offset = _offset(record, stage)
    return lambda curves: {name: curve[-1] + offset for name, curve in curves.items()}


def forecast_by_trends(record: PerformanceMatrix, stage: int, *, n_trends: int = 4) -> Predict:
    """The matched convergence trend (Eqs. 5 and 6); ``forecast_by_validation`` for a candidate without a record."""
    plain = forecast_by_validation(record, stage)
    mined = {name: mine_trends(record, name, stage, n_trends=n_trends) for name in record.base_models}

    def predict(curves: Curves) -> dict[str, float]:
        found = plain(curves)
        for name, curve in curves.items():
            trends = mined.get(name)
            if trends is not None:
                found[name] = predict_final(trends, curve[-1])
        return found

    return predict


def forecast_by_power_law(record: PerformanceMatrix, stage: int) -> Predict:
    """The curve extrapolated to the last stage, with a prior from the record, and shifted from validation to test."""
    flat = record.validation.reshape(-1, record.n_stages)
    whole = flat[np.isfinite(flat).all(axis=1)]
    if len(whole) < 2 or record.n_stages < 2:
        return forecast_by_validation(record, stage)
    law = fit_power_law(whole)
    offset = _offset(record, record.n_stages)
    return lambda curves: {name: law.extrapolate(curve, record.n_stages) + offset for name, curve in curves.items()}


def forecast_by_gaussian_process(record: PerformanceMatrix, stage: int) -> Predict:
    """Gaussian-process regression of what is still to come, test score minus latest validation score, over recorded cells.

    Features: the validation scores so far, and the model's average test score on the other benchmark tasks against that of all
    models (what Eq. 2 calls its prior capacity; 0 for a model without a record).
    """
    features, targets = _cells(record, stage)
    if len(features) < 3:
        return forecast_by_validation(record, stage)
    model = _fit_process(features, targets)
    capacity = dict(zip(record.base_models, _capacity(record).tolist(), strict=True))

    def predict(curves: Curves) -> dict[str, float]:
        rows = np.array([[*curve[-stage:], capacity.get(name, 0.0)] for name, curve in curves.items()])
        rise = model.predict(rows) if len(rows) else ()
        return {name: curve[-1] + float(more) for (name, curve), more in zip(curves.items(), rise, strict=True)}

    return predict


FORECASTERS: dict[str, Fit] = {
    "validation": forecast_by_validation,
    "trends": forecast_by_trends,
    "power_law": forecast_by_power_law,
    "gaussian_process": forecast_by_gaussian_process,
}
"""Name -> how the final score is forecast."""


@dataclass(frozen=True, kw_only=True)
class ForecastError:
    """How far off forecasts are, each benchmark task in turn taken as the target; fractions."""

    sd: float
    """Standard deviation of a candidate's error about the mean error of the candidates of its task: what a comparison of two
    candidates is subject to (twice its square). NaN with fewer than two tasks or models."""
    df: int
    relative: float
    """Mean of |forecast - test| / test, as in Fig. 6; NaN where no test score is positive."""


def forecast_error(record: PerformanceMatrix, stage: int, fit: Fit) -> ForecastError:
    """Leave one task out, learn from the others, forecast its models, compare."""
    squares, df, shares = 0.0, 0, []
    for task in record.tasks if len(record.tasks) > 1 else ():
        curves = {name: curve[:stage] for name, curve in record.curves(task).items() if len(curve) >= stage}
        curves = {name: curve for name, curve in curves.items() if np.isfinite(curve).all()}
        finals = record.finals(task)
        curves = {name: curve for name, curve in curves.items() if name in finals}
        if not curves:
            continue
        forecast = fit(record.without_task(task), stage)(curves)
        error = np.array([finals[name] - forecast[name] for name in curves])
        shares += [abs(miss) / finals[name] for miss, name in zip(error, curves, strict=True) if finals[name] > 0]
        squares += float(((error - error.mean()) ** 2).sum())
        df += error.size - 1
    return ForecastError(
        sd=math.sqrt(squares / df) if df else math.nan,
        df=df,
        relative=float(np.mean(shares)) if shares else math.nan,
    )


def choose_forecaster(record: PerformanceMatrix, stage: int, *, n_trends: int = 4) -> str:
    """The forecaster with the least error among candidates of one task; ``validation`` where none can be measured."""
    found = {name: forecast_error(record, stage, fit_of(name, n_trends=n_trends)).sd for name in FORECASTERS}
    known = {name: sd for name, sd in found.items() if math.isfinite(sd)}
    return min(known, key=lambda name: known[name]) if known else "validation"


def fit_of(name: str, *, n_trends: int = 4) -> Fit:
    """A forecaster by name, the number of trends set."""
    return partial(forecast_by_trends, n_trends=n_trends) if name == "trends" else FORECASTERS[name]


def _offset(record: PerformanceMatrix, stage: int) -> float:
    """Mean of test minus validation score at a stage; 0 where none is recorded."""
    rise = record.test - record.validation[:, :, stage - 1]
    return float(np.nanmean(rise)) if np.isfinite(rise).any() else 0.0


def _capacity(record: PerformanceMatrix) -> FloatArray:
    """(n_bases,) average test score against the average of all base models, 0 where unknown; by task, so that gaps do no harm."""
    return _mean_or_zero(_excess(record), axis=1)


def _excess(record: PerformanceMatrix) -> FloatArray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a task without any score
        return np.asarray(record.test - np.nanmean(record.test, axis=0, keepdims=True))


def _mean_or_zero(values: FloatArray, *, axis: int) -> FloatArray:
    known = np.isfinite(values)
    counts = known.sum(axis=axis)
    return np.where(known, values, 0.0).sum(axis=axis) / np.maximum(counts, 1)


def _cells(record: PerformanceMatrix, stage: int) -> tuple[FloatArray, FloatArray]:
    """Features (n_cells, stage + 1) and targets (n_cells,) of the Gaussian process; a cell's capacity leaves its task out."""
    excess = _excess(record)
    features, targets = [], []
    for column in range(len(record.tasks)):
        others = np.delete(excess, column, axis=1)
        capacity = _mean_or_zero(others, axis=1)
        seen = record.validation[:, column, :stage]
        rise = record.test[:, column] - seen[:, -1]
        for row in np.flatnonzero(np.isfinite(rise) & np.isfinite(seen).all(axis=1)):
            features.append([*seen[row], capacity[row]])
            targets.append(rise[row])
    return np.array(features), np.array(targets)


def _fit_process(features: FloatArray, targets: FloatArray) -> GaussianProcessRegressor:
    """Kernel by marginal likelihood on evenly picked cells, then conditioned on more of them."""
    spread = np.maximum(features.std(axis=0), 1e-3)
    kernel = ConstantKernel(1.0, (1e-2, 1e2)) * RBF(3 * spread, (1e-2, 1e2)) + WhiteKernel(0.3, (1e-3, 1e1))
    few, more = _evenly(len(features), _MOST_ROWS), _evenly(len(features), _MOST_CONDITIONED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound: the feature does not matter
        first = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0).fit(features[few], targets[few])
        fixed = GaussianProcessRegressor(first.kernel_, optimizer=None, normalize_y=True)
        return fixed.fit(features[more], targets[more])


def _evenly(n: int, most: int) -> IntArray:
    """At most so many places of 0..n - 1, evenly spaced."""
    return np.unique(np.linspace(0, n - 1, min(most, n)).astype(np.int64))
