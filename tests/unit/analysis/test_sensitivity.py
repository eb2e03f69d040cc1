"""Max-gain against one strong model, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.sensitivity import measure_sensitivity

NAN = math.nan
GAIN = np.array([[1.0, 4.0, 2.0, 8.0], [3.0, 1.0, 0.0, 5.0], [-2.0, 0.0, 1.0, 6.0]])


def test_best_by_average_is_the_strong_model() -> None:
    found = measure_sensitivity(GAIN)
    assert found.strong == 0 and found.reason == ""
    assert found.max_gain.tolist() == [3, 4, 2, 8]
    assert found.gain_range.tolist() == [5, 4, 2, 3]
    assert found.n_models.tolist() == [3, 3, 3, 3]
    # strong (1, 4, 2, 8) against max (3, 4, 2, 8): sums of products about the means 3.75 and 4.25
    assert found.association.pearson == pytest.approx(23.25 / math.sqrt(28.75 * 20.75))
    assert found.association.spearman == pytest.approx(0.8)


def test_the_strong_model_can_be_left_out_of_the_maximum() -> None:
    found = measure_sensitivity(GAIN, exclude_strong=True)
    assert found.max_gain.tolist() == [3, 1, 1, 6]
    assert found.n_models.tolist() == [2, 2, 2, 2]
    assert found.gain_range.tolist() == [5, 4, 2, 3]


def test_a_named_model_is_taken() -> None:
    found = measure_sensitivity(GAIN, strong=2)
    assert found.strong_gain.tolist() == [-2, 0, 1, 6]


def test_missing_cells_lower_the_count_and_never_win() -> None:
    gain = GAIN.copy()
    gain[1, 0], gain[:, 2] = NAN, NAN
    found = measure_sensitivity(gain, strong=0)
    assert found.max_gain == pytest.approx([1, 4, NAN, 8], nan_ok=True)
    assert found.n_models.tolist() == [2, 3, 0, 3]
    assert found.association.n == 3 and found.association.n_dropped == 1


@pytest.mark.parametrize(
    ("gain", "reason"),
    [
        (GAIN[:2], "only 2 base models"),
        (GAIN[:, :1], "only 1 pairs"),
        (np.full((3, 4), NAN), "name the strong model"),
        (np.where(np.eye(3, 4) == 1, NAN, GAIN), "name the strong model"),
        (np.ones((3, 4)), "constant"),
    ],
)
def test_what_cannot_be_computed_is_nan_with_the_reason(gain: np.ndarray, reason: str) -> None:
    found = measure_sensitivity(gain)
    assert reason in found.reason
    assert math.isnan(found.association.pearson) and math.isnan(found.association.spearman)


def test_a_strong_model_outside_the_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match="0 to 2"):
        measure_sensitivity(GAIN, strong=3)
