"""Agreement and regret against scipy, brute force and hand arithmetic; what must not leak from a target into its own ranking."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import kendalltau, pearsonr, weightedtau

from analysis.backtest import (
    METRICS,
    TOPS,
    average_of_other_tasks,
    chosen_on_other_tasks,
    ensemble_of,
    expected_regret,
    judge_predictors,
    measure_agreement,
)
from analysis.lost_gain import measure_lost_gain


def _study(n_bases: int = 30, n_tasks: int = 5, noise: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    gain = rng.normal(size=(n_bases, 1)) + rng.normal(size=(n_bases, n_tasks))
    return gain, gain + noise * rng.normal(size=gain.shape)


def _judge(gain: np.ndarray, predictors: dict[str, np.ndarray], n_draws: int = 40):
    return judge_predictors(gain, predictors, rng=np.random.default_rng(0), n_draws=n_draws)


def test_agreement_is_that_of_scipy() -> None:
    gain, score = _study(40)
    rounded = np.round(score[:, 0])  # with ties
    found = dict(zip(METRICS, measure_agreement(gain[:, 0], rounded), strict=True))
    assert found["kendall"] == pytest.approx(kendalltau(gain[:, 0], rounded).statistic)
    assert found["weighted_kendall"] == pytest.approx(weightedtau(gain[:, 0], rounded).statistic)
    assert found["pearson"] == pytest.approx(pearsonr(gain[:, 0], rounded).statistic)


def test_regret_by_hand() -> None:
    gain, score = np.array([4.0, 1.0, 3.0, 0.0]), np.array([1.0, 4.0, 3.0, 2.0])
    assert expected_regret(gain, score, 1) == 3.0  # picks the gain 1 where 4 was to be had
    assert expected_regret(gain, score, 2) == 1.0
    assert expected_regret(gain, score, 4) == 0.0
    assert expected_regret(gain, score, 9) == 0.0


@pytest.mark.parametrize("top", [1, 2, 3])
def test_regret_of_ties_is_the_mean_over_all_ways_to_break_them(top: int) -> None:
    gain = np.array([4.0, 1.0, 3.0, 0.0, 2.5])
    score = np.array([1.0, 2.0, 1.0, 1.0, 0.0])
    losses = []
    for order in itertools.permutations(range(5)):
        ranked = sorted(order, key=lambda i: -score[i])
        losses.append(gain.max() - gain[ranked[:top]].max())
    assert expected_regret(gain, score, top) == pytest.approx(np.mean(losses))


def test_regret_is_the_lost_gain_of_the_paper() -> None:
    gain, score = _study()
    record = _judge(gain, {"score": np.round(score)})[0]
    for place, top in enumerate(TOPS):
        assert record.values[:, 3 + place] == pytest.approx(measure_lost_gain(gain, np.round(score), top=top).loss)


def test_a_perfect_and_a_reversed_score() -> None:
    gain, _ = _study()
    perfect, reversed_ = _judge(gain, {"perfect": gain, "reversed": -gain})
    assert perfect.values == pytest.approx(np.tile([1, 1, 1, 0, 0, 0], (5, 1)))
    assert perfect.low == pytest.approx(perfect.values)
    assert reversed_.values[:, [0, 2]] == pytest.approx(-1.0)
    assert reversed_.values[:, 3] == pytest.approx(np.ptp(gain, axis=0))


def test_a_constant_score_agrees_with_nothing_and_loses_what_chance_loses() -> None:
    gain, _ = _study(6, 3)
    (record,) = _judge(gain, {"flat": np.zeros(6)})
    assert np.isnan(record.values[:, :3]).all()
    for task in range(3):
        by_chance = np.mean([gain[:, task].max() - gain[i, task] for i in range(6)])
        assert record.values[task, 3] == pytest.approx(by_chance)


def test_base_models_without_a_score_or_gain_are_left_out() -> None:
    gain, score = _study(12, 2)
    score[:3, 0], gain[3:5, 0] = np.nan, np.nan
    (record,) = _judge(gain, {"score": score})
    assert record.n_bases.tolist() == [7, 12]
    assert record.values[0] == pytest.approx(measure_agreement(gain[5:, 0], score[5:, 0]))


def test_too_few_base_models_are_not_judged() -> None:
    gain, score = _study(2, 3)
    (record,) = _judge(gain, {"score": score})
    assert np.isnan(record.values).all() and np.isnan(record.mean).all() and record.n_tasks == 0


def test_intervals_hold_the_value_and_shrink_with_more_base_models() -> None:
    widths = []
    for n_bases in (20, 120):
        gain, score = _study(n_bases, 3, seed=1)
        (record,) = _judge(gain, {"score": score}, n_draws=60)
        assert ((record.low <= record.values + 1e-9) & (record.values <= record.high + 1e-9))[:, :3].all()
        widths.append((record.high - record.low)[:, :3].mean())
    assert widths[1] < 0.6 * widths[0]


def test_the_interval_of_a_pearson_covers_the_truth_about_as_often_as_it_says() -> None:
    # correlation of gain and gain + noise is 1 / sqrt(2) when both have variance 1
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(25):
        gain = rng.normal(size=(40, 1))
        (record,) = judge_predictors(gain, {"score": gain + rng.normal(size=gain.shape)}, rng=rng, n_draws=40)
        hits += record.low[0, 2] <= np.sqrt(0.5) <= record.high[0, 2]
    assert 20 <= hits <= 25


def test_the_same_draws_for_every_predictor_and_the_same_seed_the_same_intervals() -> None:
    gain, score = _study()
    first, second = _judge(gain, {"a": score, "b": score})
    assert (first.low == second.low).all() and (first.mean_high == second.mean_high).all()
    assert (_judge(gain, {"a": score})[0].low == first.low).all()


def test_one_task_has_no_interval_over_tasks() -> None:
    gain, score = _study(10, 1)
    (record,) = _judge(gain, {"score": score})
    assert np.isfinite(record.mean).all() and np.isnan(record.mean_low).all()


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="got score of shape"):
        _judge(np.zeros((4, 2)), {"score": np.zeros(3)})
    with pytest.raises(ValueError, match="n_bases, n_tasks"):
        _judge(np.zeros(4), {})


def test_average_over_the_other_tasks_by_hand_and_with_holes() -> None:
    assert average_of_other_tasks([[1.0, 2.0, 6.0]]).tolist() == [[4.0, 3.5, 1.5]]
    found = average_of_other_tasks([[1.0, np.nan, 6.0], [np.nan, 2.0, np.nan]])
    assert found[0].tolist() == [6.0, 3.5, 1.0]
    assert np.isnan(found[1, 1]) and found[1, 0] == 2.0


@pytest.mark.parametrize("task", range(4))
def test_nothing_of_a_target_reaches_its_own_leave_one_out_ranking(task: int) -> None:
    gain, score = _study(20, 4)
    other = np.random.default_rng(5).normal(size=gain.shape)
    changed = gain.copy()
    changed[:, task] = -100 * gain[::-1, task]
    assert (average_of_other_tasks(changed)[:, task] == average_of_other_tasks(gain)[:, task]).all()
    before, names = chosen_on_other_tasks(gain, {"score": score, "other": other})
    after, names_after = chosen_on_other_tasks(changed, {"score": score, "other": other})
    assert names[task] == names_after[task] == "score"
    assert (before[:, task] == after[:, task]).all()


def test_what_can_be_judged_nowhere_else_is_not_chosen() -> None:
    gain, score = _study(10, 1)
    found, names = chosen_on_other_tasks(gain, {"score": score})
    assert names == ("",) and np.isnan(found).all()


def test_ensemble_places_task_by_task() -> None:
    first, second = np.array([[1.0, 9.0], [2.0, 5.0]]), np.array([[7.0, 1.0], [3.0, 2.0]])
    assert ensemble_of([first, second]) == pytest.approx(np.array([[0.5, 0.5], [0.5, 0.5]]))
