"""Beyond the paper: drop only what is surely worse, by forecasts whose error is known; keep what is tied within noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from scipy import stats

from analysis.selection.forecast import (
    ForecastError,
    Predict,
    choose_forecaster,
    fit_of,
    forecast_error,
)
from analysis.selection.knowledge import RoundRules
from analysis.selection.performance import PerformanceMatrix
from analysis.selection.rounds import Curves, Verdict

BY_BACKTEST = "backtest"
"""Name of the choice among forecasters by their error on the record."""


@dataclass(frozen=True, kw_only=True)
class _Learned:
    """What the record says for one stage."""

    forecaster: str
    predict: Predict
    error: ForecastError


@dataclass(frozen=True, kw_only=True)
class TiedSelection:
    """Keep every candidate that may still be the best, but never more than successive halving does.

    A candidate goes where the best forecast is ahead of its own by more than z s sqrt(2): s is the error of forecasts among
    candidates of one task, measured on the record by leaving tasks out, and at least the sampling error of the target's
    validation set; z is the normal quantile of ``tie_level``. Those left are cut to floor(n / 2) by forecast, so that it costs at
    most the epochs of successive halving.

    A stage or a candidate without a record is judged by its validation score alone; where no error can be measured nothing is
    surely worse, and candidates are only halved.
    """

    record: PerformanceMatrix
    rules: RoundRules
    n_validation: int | None = None
    forecaster: str = BY_BACKTEST
    name: str = "tied"
    _learned: dict[int, _Learned] = field(default_factory=dict, repr=False, compare=False)

    def decide(self, stage: int, n_stages: int, curves: Curves) -> Verdict:
        """Verdict by forecast; after the last stage the best forecast stays."""
        if len(curves) < 2:
            return Verdict(kept=tuple(curves), dropped={})
        learned = self.learned(stage)
        forecast = learned.predict(curves)
        ranked = sorted(curves, key=lambda name: -forecast[name])
        best = ranked[0]
        margin = self.margin(learned, curves[best][-1])
        dropped = {}
        for name in ranked[1:]:
            if forecast[best] - forecast[name] > margin:
                dropped[name] = (
                    f"its forecast ({learned.forecaster}) of {forecast[name]:.4f} is below {forecast[best]:.4f} of {best} by more "
                    f"than the error of {margin:.4f} at level {self.rules.tie_level:g}"
                )
        left = [name for name in ranked if name not in dropped]
        most = 1 if stage == n_stages else max(1, len(curves) // 2)
        for name in left[most:]:
            dropped[name] = (
                f"its forecast ({learned.forecaster}) of {forecast[name]:.4f} is number {left.index(name) + 1} of {len(left)} still "
                f"tied, {most} go{'es' if most == 1 else ''} on"
            )
        return Verdict(kept=tuple(name for name in curves if name not in dropped), dropped=dropped)

    def learned(self, stage: int) -> _Learned:
        """Forecaster, its fit and its error at a stage; learned once."""
        if stage not in self._learned:
            if stage > self.record.n_stages:
                found = _Learned(
                    forecaster="validation",
                    predict=lambda curves: {name: curve[-1] for name, curve in curves.items()},
                    error=ForecastError(sd=math.nan, df=0, relative=math.nan),
                )
            else:
                found = self._learn(stage)
            self._learned[stage] = found
        return self._learned[stage]

    def _learn(self, stage: int) -> _Learned:
        n_trends = self.rules.n_trends
        name = self.forecaster
        if name == BY_BACKTEST:
            name = choose_forecaster(self.record, stage, n_trends=n_trends)
        fit = fit_of(name, n_trends=n_trends)
        return _Learned(forecaster=name, predict=fit(self.record, stage), error=forecast_error(self.record, stage, fit))

    def margin(self, learned: _Learned, score: float) -> float:
        """How far behind the best forecast is still tied; infinite where no error is known."""
        variance = learned.error.sd**2
        if self.n_validation is not None:
            share = min(max(score, 0.0), 1.0)
            sampling = share * (1 - share) / self.n_validation
            variance = sampling if math.isnan(variance) else max(variance, sampling)
        if math.isnan(variance):
            return math.inf
        return float(stats.norm.ppf(self.rules.tie_level)) * math.sqrt(2 * variance)
