"""Group table by hand, analysis of variance against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.groups import Unit, compare_groups, self_pairs, tabulate_groups

NAN = math.nan
GAIN = np.array([[1.0, 2.0, 8.0], [3.0, 0.0, 6.0], [-1.0, 5.0, 1.0], [0.0, 4.0, 2.0]])
SOURCES = ["general", "general", "nli", "nli"]
TARGETS = ["nli", "nli", "general"]


def test_table_holds_means_of_the_blocks() -> None:
    found = tabulate_groups(GAIN, SOURCES, TARGETS)
    assert found.source_groups == ("general", "nli") and found.target_groups == ("general", "nli")
    assert found.mean_gain.tolist() == [[7, 1.5], [1.5, 2]]
    assert found.n_cells.tolist() == [[2, 4], [2, 4]]


def test_variance_is_compared_within_a_column_and_within_a_row() -> None:
    found = tabulate_groups(GAIN, SOURCES, TARGETS)
    for anova, samples in (
        (found.by_target[0], ([8, 6], [1, 2])),
        (found.by_target[1], ([1, 2, 3, 0], [-1, 5, 0, 4])),
        (found.by_source[1], ([1, 2], [-1, 5, 0, 4])),
    ):
        oracle = stats.f_oneway(*samples)
        assert (anova.f, anova.p) == pytest.approx((oracle.statistic, oracle.pvalue))
    assert [a.within for a in found.by_target] == ["general", "nli"]
    assert (found.by_target[1].df_between, found.by_target[1].df_within, found.by_target[1].n) == (1, 6, 8)


def test_unit_mean_compares_one_number_per_model_or_per_target() -> None:
    gain = GAIN.copy()
    gain[3, 0], gain[1, 1] = 1, 0.5
    found = tabulate_groups(gain, SOURCES, TARGETS, unit=Unit.MEAN)
    # means of the four models over the two nli targets, and of the targets over the two nli models
    by_model, by_target = stats.f_oneway([1.5, 1.75], [2, 2.5]), stats.f_oneway([1.5], [0, 4.5])
    assert (found.by_target[1].n, found.by_source[1].n) == (4, 3)
    assert found.by_target[1].p == pytest.approx(by_model.pvalue)
    assert found.by_source[1].p == pytest.approx(by_target.pvalue)
    level = tabulate_groups(GAIN, SOURCES, TARGETS, unit=Unit.MEAN).by_target[1]
    assert "no variation" in level.reason


def test_self_pairs_are_left_out_on_request() -> None:
    mask = self_pairs(["a", "b", "c", "d"], ["a", "c", "z"])
    assert np.argwhere(mask).tolist() == [[0, 0], [2, 1]]
    found = tabulate_groups(GAIN, SOURCES, TARGETS, exclude=mask)
    assert found.mean_gain[:, 1].tolist() == pytest.approx([5 / 3, 1]) and found.n_cells[:, 1].tolist() == [3, 3]


def test_missing_cells_are_left_out_and_an_empty_block_is_nan() -> None:
    gain = GAIN.copy()
    gain[2:, 2] = NAN
    found = tabulate_groups(gain, SOURCES, TARGETS)
    assert math.isnan(found.mean_gain[1, 0]) and found.n_cells[1, 0] == 0
    assert "1 groups with observations" in found.by_target[0].reason and math.isnan(found.by_target[0].p)


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        ([], "0 groups"),
        ([[1, 2, 3]], "1 groups"),
        ([[1, 2], [NAN]], "1 groups"),
        ([[1], [2], [3]], "one observation per group"),
        ([[1, 1], [2, 2]], "no variation"),
    ],
)
def test_what_cannot_be_compared_is_nan_with_the_reason(samples: list[list[float]], reason: str) -> None:
    found = compare_groups(samples)
    assert reason in found.reason and math.isnan(found.f) and math.isnan(found.p)


def test_three_groups_by_hand() -> None:
    # means 2, 4, 9 of two each, grand 5: between 2 (9 + 1 + 16) / 2 = 26, within (2 + 2 + 2) / 3 = 2
    found = compare_groups([[1, 3], [3, 5], [8, 10]])
    assert (found.f, found.df_between, found.df_within) == (pytest.approx(13), 2, 3)
    assert found.p == pytest.approx((3 / (3 + 2 * 13)) ** 1.5)


def test_too_few_models_or_no_gain_gives_no_number_at_all() -> None:
    for gain, sources, reason in (
        (GAIN[:2], SOURCES[:2], "only 2 base models"),
        (np.full((4, 3), NAN), SOURCES, "pretrained"),
    ):
        found = tabulate_groups(gain, sources, TARGETS)
        assert reason in found.reason and np.isnan(found.mean_gain).all()
        assert all(a.reason for a in (*found.by_target, *found.by_source))


def test_one_target_compares_sources_only() -> None:
    found = tabulate_groups(GAIN[:, :1], SOURCES, ["nli"])
    assert found.by_target[0].reason == "" and "1 groups" in found.by_source[0].reason


def test_names_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="one name per row"):
        tabulate_groups(GAIN, SOURCES[:3], TARGETS)
    with pytest.raises(ValueError, match="boolean mask"):
        tabulate_groups(GAIN, SOURCES, TARGETS, exclude=np.ones((2, 2), dtype=bool))
