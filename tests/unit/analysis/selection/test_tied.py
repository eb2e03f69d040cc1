"""The policy that keeps what is tied: margins by hand, and where nothing is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.selection.knowledge import RoundRules
from analysis.selection.tied import TiedSelection
from tests.selection_matrices import make_matrix

# validation at the only stage, test 0.1 above it; on t2 m1 ends 0.2 higher than m0 does
RECORD = make_matrix([[0.5, 0.5, 0.5], [0.5, 0.5, 0.7]], np.full((2, 3, 1), 0.4))
SD = math.sqrt(0.02 / 3)
"""See test_forecast.test_errors_by_hand."""
Z = float(stats.norm.ppf(0.9))


def _policy(*, n_validation: int | None = None, tie_level: float = 0.9) -> TiedSelection:
    return TiedSelection(
        record=RECORD, rules=RoundRules(tie_level=tie_level), n_validation=n_validation, forecaster="validation"
    )


def test_what_is_behind_by_more_than_the_error_goes() -> None:
    margin = Z * SD * math.sqrt(2)
    curves = {"a": (0.8,), "b": (0.8 - margin + 0.001,), "c": (0.8 - margin - 0.001,), "d": (0.3,)}
    verdict = _policy().decide(1, 5, curves)
    assert verdict.kept == ("a", "b")
    assert f"{margin:.4f}" in verdict.dropped["c"]


def test_never_more_than_successive_halving_keeps() -> None:
    curves = {name: (0.8 - place / 1000,) for place, name in enumerate("abcde")}
    verdict = _policy().decide(1, 5, curves)
    assert verdict.kept == ("a", "b")
    assert "number 3 of 5 still tied" in verdict.dropped["c"]


def test_a_tiny_validation_set_widens_the_margin() -> None:
    curves = {"a": (0.8,), "b": (0.5,), "c": (0.1,), "d": (0.1,)}
    assert _policy().decide(1, 5, curves).kept == ("a",)
    # 10 rows: sampling error sqrt(0.8 * 0.2 / 10) = 0.126, margin 1.28 * 0.126 * 1.41 = 0.23; 4 rows: 0.36
    assert _policy(n_validation=10).decide(1, 5, curves).kept == ("a",)
    assert _policy(n_validation=4).decide(1, 5, curves).kept == ("a", "b")


def test_a_large_validation_set_does_not_narrow_it() -> None:
    policy = _policy(n_validation=10**9)
    assert policy.margin(policy.learned(1), 0.8) == pytest.approx(Z * SD * math.sqrt(2))


def test_level_one_half_keeps_the_best_forecast_only() -> None:
    assert _policy(tie_level=0.5).decide(1, 5, {"a": (0.8,), "b": (0.799,), "c": (0.1,), "d": (0.1,)}).kept == ("a",)


def test_a_stage_without_a_record_is_halving_by_validation() -> None:
    curves = {"a": (0.5, 0.1), "b": (0.5, 0.9), "c": (0.5, 0.8), "d": (0.5, 0.2)}
    verdict = _policy().decide(2, 5, curves)
    assert verdict.kept == ("b", "c")


def test_after_the_last_stage_one_stays() -> None:
    assert _policy().decide(1, 1, {"a": (0.8,), "b": (0.8,)}).kept == ("a",)
    assert _policy().decide(1, 1, {}).kept == ()
