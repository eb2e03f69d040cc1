"""Convergence trends and Eqs. 5 and 6, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.selection.trends import match_trend, mine_trends, predict_final
from tests.selection_matrices import make_matrix

# one model, five tasks, one stage: validation 0.30, 0.32 | 0.60, 0.62, 0.64
RECORD = make_matrix([[0.40, 0.50, 0.70, 0.80, 0.90]], [[[0.30], [0.32], [0.60], [0.62], [0.64]]])


def test_two_trends_by_hand() -> None:
    trends = mine_trends(RECORD, "m0", 1, n_trends=2)
    assert trends is not None
    np.testing.assert_allclose(trends.validation, [0.31, 0.62])
    np.testing.assert_allclose(trends.test, [0.45, 0.80])
    assert trends.n_tasks.tolist() == [2, 3]
    assert trends.labels.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize(("score", "expected"), [(0.0, 0.45), (0.46, 0.45), (0.47, 0.80), (1.0, 0.80)])
def test_the_nearest_trend_predicts(score: float, expected: float) -> None:
    trends = mine_trends(RECORD, "m0", 1, n_trends=2)
    assert trends is not None
    assert predict_final(trends, score) == pytest.approx(expected)


def test_half_way_counts_as_the_lower_trend() -> None:
    trends = mine_trends(make_matrix([[0.1, 0.9]], [[[0.25], [0.75]]]), "m0", 1, n_trends=2)
    assert trends is not None
    assert match_trend(trends, 0.5) == 0


def test_more_trends_than_tasks() -> None:
    trends = mine_trends(RECORD, "m0", 1, n_trends=9)
    assert trends is not None
    assert trends.n_tasks.tolist() == [1, 1, 1, 1, 1]


def test_missing_cells_are_left_out() -> None:
    record = make_matrix([[0.4, np.nan, 0.8]], [[[0.3], [0.3], [np.nan]]])
    trends = mine_trends(record, "m0", 1, n_trends=2)
    assert trends is not None
    assert trends.labels.tolist() == [0, -1, -1]
    assert trends.test.tolist() == [0.4]


@pytest.mark.parametrize(("model", "stage"), [("other", 1), ("m0", 2), ("m0", 0)])
def test_no_record_no_trend(model: str, stage: int) -> None:
    assert mine_trends(RECORD, model, stage, n_trends=2) is None


def test_no_task_with_both_scores() -> None:
    assert mine_trends(make_matrix([[np.nan]], [[[0.5]]]), "m0", 1, n_trends=2) is None
