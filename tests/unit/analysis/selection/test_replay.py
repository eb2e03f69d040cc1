"""Replay on recorded curves: targets, costs, tables in the paper's form."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.selection.cluster_tables import cluster_tables
from analysis.selection.knowledge import RoundRules
from analysis.selection.performance import PerformanceMatrix
from analysis.selection.recall_rules import RecallRules
from analysis.selection.replay import target_record
from analysis.selection.replay_tables import (
    ReplayedTarget,
    replay_targets,
    table_cases,
    table_end_to_end,
    table_epochs,
    table_epochs_by_count,
    table_forecasts,
    table_policies,
    table_thresholds,
)
from analysis.selection.trend_quality import trend_quality
from tests.selection_matrices import converging_matrix, make_matrix

QUICK = ("brute_force", "successive_halving", "fine_selection", "tied_power_law")


@pytest.fixture(scope="module")
def matrix() -> PerformanceMatrix:
    return converging_matrix(n_bases=12, n_tasks=5, n_stages=5)


@pytest.fixture(scope="module")
def replayed(matrix: PerformanceMatrix) -> list[ReplayedTarget]:
    scores = {"leep": {name: -1.0 - place / 100 for place, name in enumerate(matrix.base_models)}}
    targets = [target_record(matrix, task, RecallRules(), scores=scores) for task in matrix.tasks[:2]]
    return replay_targets(targets, RoundRules(), k=10, names=QUICK)


def test_the_target_is_no_benchmark_of_itself(matrix: PerformanceMatrix) -> None:
    target = target_record(matrix, "t2", RecallRules())
    assert target.benchmark.matrix.tasks == ("t0", "t1", "t3", "t4")
    changed = matrix.test.copy()
    changed[:, 2] = 0.99
    again = target_record(make_matrix(changed, matrix.validation), "t2", RecallRules())
    assert again.recalled == target.recalled
    assert target.recall_epochs == 0


def test_recall_costs_half_an_epoch_a_score(replayed: list[ReplayedTarget]) -> None:
    target = replayed[0].target
    assert target.recall_epochs == 0.5 * target.benchmark.clusters.shared.size
    (row, _) = table_end_to_end(replayed, "fine_selection").rows
    assert row[1] == replayed[0].first["fine_selection"].epochs_spent + target.recall_epochs
    assert row[2] == 60 / row[1]  # 12 models, 5 stages


def test_epochs_of_tables(replayed: list[ReplayedTarget]) -> None:
    rows = {row[:2]: row[2:] for row in table_epochs(replayed).rows}
    assert rows["t0", "brute_force"] == (50, 1, 60, 1)
    assert rows["t0", "successive_halving"] == (19, 50 / 19, 12 + 6 + 3 + 1 + 1, 60 / 23)
    assert rows["t0", "fine_selection"][0] <= 19
    counts = table_epochs_by_count(40, 5, k=10)
    assert counts.rows == (("brute_force", 50, 200), ("successive_halving", 19, 77))
    assert table_epochs_by_count(30, 4, k=10).rows == (("brute_force", 40, 120), ("successive_halving", 18, 55))


def test_a_larger_threshold_never_costs_less(replayed: list[ReplayedTarget]) -> None:
    rows = [row for row in table_thresholds(replayed, RoundRules()).rows if row[0] == "t1"]
    epochs = [row[3] for row in rows]
    assert len(rows) == 4
    assert epochs == sorted(epochs)  # type: ignore[type-var]


def test_case_study_and_policies(replayed: list[ReplayedTarget]) -> None:
    case = table_cases(replayed, "fine_selection").rows[0]
    chosen = replayed[0].first["fine_selection"].chosen
    assert case[1] == chosen
    assert replayed[0].target.recalled[int(case[3]) - 1] == chosen  # type: ignore[arg-type]
    summary = {row[:2]: row for row in table_policies(replayed).rows}
    assert len(summary) == 2 * len(QUICK)
    assert summary["all", "brute_force"][6] == 60
    assert all(row[3] >= 0 for row in summary.values())  # type: ignore[operator]


def test_forecasts_by_stage(matrix: PerformanceMatrix) -> None:
    table = table_forecasts(matrix.select(base_models=matrix.base_models[:4]), RoundRules())
    assert [row[0] for row in table.rows] == [stage for stage in range(1, 6) for _ in range(4)]


def test_a_model_without_a_cell_on_the_target_is_named(matrix: PerformanceMatrix) -> None:
    test = matrix.test.copy()
    test[3, 0] = np.nan
    target = target_record(make_matrix(test, matrix.validation), "t0", RecallRules())
    assert target.missing == ("m3",)
    assert "m3" not in target.recalled


def test_fewer_models_than_k(matrix: PerformanceMatrix) -> None:
    few = matrix.select(base_models=matrix.base_models[:3])
    (one,) = replay_targets([target_record(few, "t0", RecallRules())], RoundRules(), k=10, names=QUICK)
    assert one.first["brute_force"].epochs_spent == one.all["brute_force"].epochs_spent == 15


@pytest.mark.parametrize(("n_tasks", "task"), [(1, "t0"), (3, "t9")])
def test_targets_that_cannot_be(n_tasks: int, task: str) -> None:
    with pytest.raises(ValueError, match="expected one of its tasks, and another"):
        target_record(make_matrix(np.full((2, n_tasks), 0.5)), task, RecallRules())


def test_cluster_tables_of_a_matrix_and_of_texts(matrix: PerformanceMatrix) -> None:
    rng = np.random.default_rng(0)
    vectors = {name: rng.normal(size=8) for name in matrix.base_models}
    tables = {table.name: table for table in cluster_tables(matrix, RecallRules(), vectors=vectors)}
    assert set(tables) == {
        "table_1_methods",
        "table_2_clusters",
        "table_3_singletons",
        "table_10_differences",
        "table_11_kmeans",
    }
    assert [row[:2] for row in tables["table_1_methods"].rows] == [
        ("performance", "linkage"),
        ("performance", "k-means"),
        ("text", "linkage"),
        ("text", "k-means"),
    ]
    assert [row[0] for row in tables["table_10_differences"].rows] == [3, 4, 5]


def test_cluster_tables_say_what_is_missing(matrix: PerformanceMatrix) -> None:
    test = matrix.test.copy()
    test[0, 0] = np.nan
    tables = cluster_tables(make_matrix(test), RecallRules())
    assert "k-means" in tables[0].note
    assert "0 base models with a card" in tables[0].note
    assert [row[1] for row in tables[0].rows] == ["linkage"]


def test_table_3_by_hand() -> None:
    # m0 and m1 alike, m2 alone; m2 is best on t2, and shares the best of t1
    matrix = make_matrix([[0.8, 0.6, 0.5], [0.8, 0.6, 0.5], [0.2, 0.6, 0.9]])
    tables = {table.name: table for table in cluster_tables(matrix, RecallRules(threshold=0.1))}
    assert tables["table_3_singletons"].rows == (
        ("non-singleton", 2, pytest.approx(1.9 / 3), 2),
        ("singleton", 1, pytest.approx(1.7 / 3), 2),
    )


def test_trend_quality_by_hand() -> None:
    # two tight groups of tasks; within a group the test scores agree, so the others predict each task exactly
    validation = [[[0.3], [0.31], [0.7], [0.71]]]
    record = make_matrix([[0.4, 0.4, 0.8, 0.8]], validation)
    found = trend_quality(record, "m0", 1, n_trends=2, rng=np.random.default_rng(0))
    assert found.error == pytest.approx(0)
    # mean of the others: 2.0 / 3 for a task at 0.4, 1.6 / 3 for one at 0.8
    assert found.error_of_mean == pytest.approx(((2 / 3 - 0.4) / 0.4 + (0.8 - 1.6 / 3) / 0.8) / 2)
    assert found.silhouette > 0.9 > found.silhouette_random
