"""The performance matrix: shapes, parts, gaps."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.selection.performance import PerformanceMatrix
from tests.selection_matrices import make_matrix

NAN = np.nan
MATRIX = make_matrix([[0.5, NAN], [0.6, 0.8]], [[[0.4, 0.5], [NAN, NAN]], [[0.3, NAN], [0.1, 0.2]]])


def test_average_is_over_what_is_there() -> None:
    np.testing.assert_allclose(MATRIX.average, [0.5, 0.7])
    assert np.isnan(make_matrix([[NAN]]).average).all()


def test_curves_end_with_the_last_stage_there_is() -> None:
    assert MATRIX.curves("t0") == {"m0": (0.4, 0.5), "m1": (0.3,)}
    assert MATRIX.curves("t1") == {"m1": (0.1, 0.2)}
    assert MATRIX.finals("t1") == {"m1": 0.8}


def test_a_gap_within_a_curve_stays_a_gap() -> None:
    curve = make_matrix([[0.5]], [[[0.1, NAN, 0.3]]]).curves("t0")["m0"]
    assert np.isnan(curve[1])


def test_parts_in_the_order_asked_for() -> None:
    part = MATRIX.select(base_models=["m1", "m0"], tasks=["t1"])
    np.testing.assert_array_equal(part.test, [[0.8], [NAN]])
    assert MATRIX.without_task("t0").tasks == ("t1",)
    assert MATRIX.without_task("t0").validation.shape == (2, 1, 2)


@pytest.mark.parametrize("wanted", [{"tasks": ["x"]}, {"base_models": ["x"]}])
def test_unknown_names_are_refused(wanted: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match="expected"):
        MATRIX.select(**wanted)


def test_shapes_and_names_are_checked() -> None:
    with pytest.raises(ValueError, match="2 base models"):
        PerformanceMatrix(base_models=("a", "b"), tasks=("t",), test=np.ones((1, 1)), validation=np.ones((2, 1, 0)))
    with pytest.raises(ValueError, match="more than once"):
        PerformanceMatrix(base_models=("a", "a"), tasks=("t",), test=np.ones((2, 1)), validation=np.ones((2, 1, 0)))
