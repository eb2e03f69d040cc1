"""The rules of the published numbers, by hand arithmetic."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from analysis.report.faithful_numbers import (
    COLUMNS,
    FaithfulRanking,
    compensated_mean,
    faithful_baseline,
    faithful_ranking,
    gains,
    sample_std,
)
from tests.published_folder import TASKS, model_line, write_models, write_pretrained
from tracking.published import read_published


def ranking_of(folder: Path, lines: list[dict]) -> FaithfulRanking:
    write_models(folder, lines)
    write_pretrained(folder, [0.5, 0.5625, 0.625])
    return faithful_ranking(read_published(folder).architectures[0])


def test_baseline_mean_and_std_per_task() -> None:
    # 50, 56.25, 62.5: mean 56.25; deviations -6.25, 0, 6.25; variance 78.125 / 2; std 6.25 (ddof = 0 would give 5.10)
    baseline = faithful_baseline(np.array([[0.5] * 36, [0.5625] * 36, [0.625] * 36]))
    assert baseline.mean.tolist() == [56.25] * 36
    assert baseline.std.tolist() == [6.25] * 36
    assert (baseline.avg, baseline.avg_std, baseline.n_repetitions) == (56.25, 6.25, 3)


def test_std_of_the_average_is_that_of_the_stage_means() -> None:
    # one half of the tasks rises by 25 points, the other falls: tasks deviate by 25 / sqrt(2), the averages not at all
    low_high = [0.5] * 18 + [0.75] * 18
    baseline = faithful_baseline(np.array([low_high, low_high[::-1]]))
    assert baseline.avg_std == 0
    assert baseline.std == pytest.approx([25 / math.sqrt(2)] * 36)


def test_a_stage_without_a_task_is_averaged_over_the_others() -> None:
    # first task: 50 and 100, mean 75; the stage without it has the mean of the other 35 tasks: 50
    scores = np.full((3, 36), 0.5)
    scores[1, 0], scores[2, 0] = 1.0, np.nan
    baseline = faithful_baseline(scores)
    place = COLUMNS.index(TASKS[0])
    assert baseline.mean[place] == 75
    assert baseline.std[place] == pytest.approx(50 / math.sqrt(2))
    assert baseline.avg == pytest.approx((75 + 35 * 50) / 36)
    assert baseline.avg_std == pytest.approx(np.std([50, 50 + 50 / 36, 50], ddof=1))


def test_a_single_repetition_has_no_deviation() -> None:
    baseline = faithful_baseline(np.full((1, 36), 0.5))
    assert baseline.avg == 50
    assert math.isnan(baseline.avg_std)
    assert np.isnan(baseline.std).all()


def test_compensated_mean_keeps_what_a_plain_sum_loses() -> None:
    # 1 + 1e-16 a thousand times: each addend is below half the last bit of 1, a plain sum stays at 1
    values = [1.0, *[1e-16] * 1000]
    assert sum(values) == 1.0
    assert compensated_mean(values) * 1001 == pytest.approx(1.0 + 1e-13, abs=1e-15)
    assert compensated_mean([math.nan, 2.0, 4.0]) == 3.0
    assert math.isnan(compensated_mean([math.nan]))


def test_sample_std_of_the_values_there_are() -> None:
    assert sample_std([1.0, math.nan, 3.0]) == pytest.approx(math.sqrt(2))
    assert math.isnan(sample_std([1.0, math.nan]))


def test_order_of_the_ranking(tmp_path: Path) -> None:
    ranking = ranking_of(
        tmp_path,
        [
            model_line("tie-first", 0.2, 0.75),
            model_line("better-probe", 0.3, 0.75),
            model_line("no-tasks-no-probe", None, None),
            model_line("no-tasks", 0.9, None),
            model_line("tie-second", 0.2, 0.75),
            model_line("tie-no-probe", None, 0.75),
            model_line("partial", 0.9, {task: 0.99 for task in TASKS[:35]}),
            model_line("worse", 0.9, 0.5),
            model_line("ibm/ColD-Fusion-itr3", 0.1, 0.875),
        ],
    )
    order = ["better-probe", "tie-first", "tie-second", "tie-no-probe", "worse", "no-tasks", "no-tasks-no-probe"]
    assert [row.model for row in ranking.rows] == ["ibm/ColD-Fusion-itr3", *order]
    assert [row.model for row in ranking.shown] == order


def test_average_and_gains(tmp_path: Path) -> None:
    # scores 50 + k * 25 / 32 for k = 0..35: mean 50 + 17.5 * 25 / 32 = 63.671875; the baseline is 56.25
    ranking = ranking_of(tmp_path, [model_line("m", 0.25, {task: 0.5 + k / 128 for k, task in enumerate(TASKS)})])
    (row,) = ranking.rows
    assert row.avg == pytest.approx(63.671875)
    assert row.probe == 25
    by_task = dict(zip(COLUMNS, gains(ranking, row), strict=True))
    assert by_task["cola"] == pytest.approx(50 - 56.25)
    assert by_task["anli"] == pytest.approx(50 + 35 * 25 / 32 - 56.25)


def test_rows_out_of_range_are_in_no_ranking(tmp_path: Path) -> None:
    ranking = ranking_of(
        tmp_path, [model_line("m/0", 0.2, 0.5), model_line("m/1", 0.2, 75.0), model_line("m/2", 0.2, 0.5)]
    )
    assert [row.model for row in ranking.rows] == ["m/0", "m/2"]


def test_no_baseline_no_ranking(tmp_path: Path) -> None:
    write_models(tmp_path, [model_line("m/0", 0.2, 0.5)])
    with pytest.raises(ValueError, match="acme/tiny-1 has no pretrained repetition"):
        faithful_ranking(read_published(tmp_path).architectures[0])
