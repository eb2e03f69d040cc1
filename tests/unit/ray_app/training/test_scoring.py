"""Scores by hand, and Spearman's rho against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from ray_app.training.learners import INVALID
from ray_app.training.scoring import Evaluation, score_answers
from ray_app.training.tokens import TaskFacts

COLOURS = TaskFacts(
    name="colours", label_names=("red", "green", "blue"), label_words=("red", "green", "blue"), regression=False
)
NUMBER = TaskFacts(name="likeness", label_names=(), label_words=(), regression=True)


def rho(answers: list[float], labels: list[float]) -> Evaluation:
    return score_answers(np.array(answers), np.array(labels), NUMBER, mean_loss=0.5)


def test_accuracy_and_counts_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    answers = np.array([0, 1, 0, 1, INVALID, 0])
    found = score_answers(answers, labels, COLOURS, mean_loss=1.25)
    assert (found.score, found.n_correct, found.n_eval, found.n_invalid, found.loss) == (3 / 6, 3, 6, 1, 1.25)
    assert found.class_counts == {"red": (3, 3, 2), "green": (2, 2, 1), "blue": (1, 0, 0)}
    np.testing.assert_array_equal(found.predictions, answers)


def test_a_class_that_is_absent_counts_zero() -> None:
    found = score_answers(np.array([0, 0]), np.array([0, 0]), COLOURS, mean_loss=0.0)
    assert (found.score, found.class_counts["blue"]) == (1.0, (0, 0, 0))


def test_rho_by_hand() -> None:
    # ranks 1 2 3 4 against 2 1 4 3: d = 1 everywhere, rho = 1 - 6 * 4 / (4 * 15) = 0.6
    found = rho([0.1, 0.2, 0.3, 0.4], [2.0, 1.0, 4.0, 3.0])
    assert found.score == pytest.approx(0.6)
    assert (found.n_correct, found.n_eval, found.n_invalid, found.class_counts) == (None, 4, 0, {})


@pytest.mark.parametrize("seed", range(20))
def test_rho_with_ties_is_scipy_s(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 6, size=40) / 2
    answers = np.round(labels + generator.normal(0, 2, size=40), 1)
    assert rho(answers.tolist(), labels.tolist()).score == pytest.approx(
        spearmanr(answers, labels).statistic, abs=1e-12
    )


def test_rho_depends_on_the_order_only_and_lies_within_its_bounds() -> None:
    labels = np.linspace(0, 5, 30)
    for seed in range(30):
        answers = np.exp(3 * np.random.default_rng(seed).permutation(labels))
        assert -1.0 <= rho(answers.tolist(), labels.tolist()).score <= 1.0
    assert rho(np.exp(labels).tolist(), labels.tolist()).score == 1.0
    assert rho((-labels).tolist(), labels.tolist()).score == -1.0


def test_invalid_numbers_rank_below_all_others() -> None:
    answers = [-7.0, float("nan"), 2.0, float("inf"), float("-inf"), 1.0]
    labels = [1.0, 0.0, 5.0, 0.5, 4.0, 2.0]
    found = rho(answers, labels)
    assert found.n_invalid == 3
    assert found.score == pytest.approx(spearmanr([-7.0, -100.0, 2.0, -100.0, -100.0, 1.0], labels).statistic)


@pytest.mark.parametrize("answers", [[1.0, 1.0, 1.0], [float("nan")] * 3])
def test_answers_that_are_all_equal_score_zero(answers: list[float]) -> None:
    assert rho(answers, [1.0, 2.0, 3.0]).score == 0.0


def test_labels_that_are_all_equal_score_zero() -> None:
    assert rho([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]).score == 0.0


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(ValueError, match="no rows to score"):
        score_answers(np.array([]), np.array([]), COLOURS, mean_loss=0.0)
