"""The start policy on recorded cells."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.start_replay import rank_without, replay_start
from analysis.start_rules import StartRules
from tests.study_factory import make_study

# model a is best by average, b on task2 alone
GAIN = np.array([[6.0, 7.0, 3.0, 5.0], [1.0, 0.0, 9.0, 1.0], [-3.0, -2.0, -1.0, -4.0]])


def test_the_ranking_comes_from_the_other_targets() -> None:
    study = make_study(GAIN)
    # without task0: a 5, b 10 / 3, c -7 / 3; without task2: a 6, b 2 / 3, c -3
    assert rank_without(study, 0) == rank_without(study, 2) == [0, 1, 2]
    # without task0 and its 6, b would lead if its gain on task2 were 20
    changed = GAIN.copy()
    changed[1, 2] = 20.0
    assert rank_without(make_study(changed), 0) == [1, 0, 2] and rank_without(make_study(changed), 2) == [0, 1, 2]


def test_a_model_that_lacks_another_target_is_not_ranked() -> None:
    gain = GAIN.copy()
    gain[0, 1] = np.nan
    assert rank_without(make_study(gain), 1) == [0, 1, 2] and rank_without(make_study(gain), 0) == [1, 2]


def test_runs_and_losses_by_hand() -> None:
    found = replay_start(make_study(GAIN), StartRules(budget=4), rng=np.random.default_rng(0), pretrained_seeds=2)
    # pretrained and the top-ranked model, two seeds each; everything would take 3 models x 2 seeds + 2
    assert list(found.runs) == [4, 4, 4, 4] and found.brute_force_runs == 8
    assert found.chosen_gain == pytest.approx([6, 7, 3, 5]) and found.best_gain == pytest.approx([6, 7, 9, 5])
    assert found.loss == pytest.approx([0, 0, 6, 0]) and found.loss_of_best_tried == pytest.approx([0, 0, 6, 0])
    found = replay_start(make_study(GAIN), StartRules(budget=6), rng=np.random.default_rng(0), pretrained_seeds=2)
    assert found.loss == pytest.approx([0, 0, 0, 0]) and found.runs[2] == 6


def test_where_nothing_gains_the_pretrained_model_is_kept() -> None:
    found = replay_start(make_study(-np.abs(GAIN) - 3), StartRules(), rng=np.random.default_rng(0))
    assert found.chosen_gain == pytest.approx(np.zeros(4)) and found.best_gain == pytest.approx(np.zeros(4))
    assert all(verdict is not None and verdict.sensitive is False for verdict in found.verdicts)


def test_a_target_that_cannot_be_replayed_is_missing() -> None:
    gain = np.array([[1.0, 2.0], [np.nan, np.nan]]).T
    found = replay_start(make_study(gain), StartRules(), rng=np.random.default_rng(0))
    assert found.verdicts == (None, None) and np.isnan(found.runs).all()


def test_one_target_is_refused() -> None:
    with pytest.raises(ValueError, match="1 targets; expected at least 2"):
        replay_start(make_study(GAIN[:, :1]), StartRules(), rng=np.random.default_rng(0))
