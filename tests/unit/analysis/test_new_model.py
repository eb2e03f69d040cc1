"""What a probe alone says of one base model."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.new_model import expect_model, model_as_plain
from analysis.report.analysis_json import finite
from tests.study_factory import make_study

# average gain = 0.5 probe - 1 but for +-0.1
PROBE = np.array([0.0, 2.0, 4.0, 6.0, 8.0])
AVERAGE = 0.5 * PROBE - 1 + np.array([0.1, -0.1, 0.0, -0.1, 0.1])
STUDY = make_study(np.repeat(AVERAGE[:, None], 3, axis=1), probe=PROBE)


def test_expectation_and_place_of_a_new_model() -> None:
    found = expect_model(STUDY, "org/new", probe_gain=5.0)
    # the residuals are orthogonal to probe and constant, so the line is exact
    assert found.expected.mean == pytest.approx(1.5) and found.expected.low < 1.5 < found.expected.high
    assert (found.expected.rank, found.n_ranked, found.observed_rank) == (3, 5, 0)
    assert "rests on 5 base models" in found.sentence


def test_a_model_that_has_results_is_no_part_of_its_own_expectation() -> None:
    found = expect_model(STUDY, "org/modele", probe_gain=8.0)
    rest = np.polyfit(PROBE[:4], AVERAGE[:4], 1)
    assert found.expected.mean == pytest.approx(np.polyval(rest, 8.0)) and found.n_ranked == 4
    assert found.observed_gain == pytest.approx(AVERAGE[4]) and found.observed_rank == 1


def test_a_family_that_carries_the_correlation_is_named() -> None:
    bases = ["org/fusion-itr1", "org/fusion-itr2", "org/fusion-itr3", "org/p", "org/q", "org/r", "org/s"]
    average = np.array([5.0, 5.1, 4.9, 0.0, 0.2, -0.1, 0.1])
    probe = np.array([9.0, 9.2, 9.1, 0.0, 1.0, 2.0, 3.0])
    study = make_study(np.repeat(average[:, None], 2, axis=1), probe=probe, bases=bases)
    found = expect_model(study, "org/new", probe_gain=9.0)
    assert found.influence.most_influential == "org/fusion"
    assert found.expected.mean > 4 > 1 > found.without_family.mean
    assert "without the family org/fusion" in found.sentence


def test_too_few_probed_models_state_the_reason() -> None:
    study = make_study(np.zeros((3, 2)), probe=[1.0, np.nan, np.nan])
    found = finite(model_as_plain(expect_model(study, "org/new", probe_gain=1.0)))
    assert found["expected_gain"] is None and found["rank"] is None and "needs at least 3" in found["reason"]
