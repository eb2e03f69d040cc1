"""Mean places by hand."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.proxies import average_places


def test_places_by_hand() -> None:
    scores = np.array([[1.0, 30.0], [2.0, 20.0], [2.0, 10.0], [4.0, 40.0]])
    # first score: places 0.5, 2, 2, 3.5 of 4 (ranks 1, 2.5, 2.5, 4); second: ranks 3, 2, 1, 4
    assert average_places(scores) == pytest.approx([(0.5 + 2.5) / 8, (2 + 1.5) / 8, (2 + 0.5) / 8, (3.5 + 3.5) / 8])


def test_a_refused_score_does_not_count() -> None:
    scores = np.array([[1.0, np.nan], [2.0, 5.0], [3.0, 4.0], [np.nan, np.nan]])
    places = average_places(scores)
    assert places[:3] == pytest.approx([(0.5 / 3), (1.5 / 3 + 1.5 / 2) / 2, (2.5 / 3 + 0.5 / 2) / 2])
    assert np.isnan(places[3])


def test_any_rising_change_of_a_score_gives_the_same_places() -> None:
    scores = np.random.default_rng(0).normal(size=(9, 4))
    changed = np.exp(scores) * [1, 5, 100, 0.1]
    assert average_places(changed) == pytest.approx(average_places(scores))


def test_shape_is_checked() -> None:
    with pytest.raises(ValueError, match="n_candidates, n_scores"):
        average_places(np.zeros(3))
