"""The published text matrix of the two-phase paper (39 models x 21 tasks): clusters, silhouettes, Table X, recall for MultiRC."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.selection.cluster_tables import table_differences, table_singletons
from analysis.selection.clustered import cluster_matrix, clusters_as_plain, recall_from
from analysis.selection.performance import PerformanceMatrix
from analysis.selection.published import load_matrix
from analysis.selection.recall_rules import RecallRules, RecallVariant
from tracking.two_phase import read_scores

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "published" / "two-phase" / "nlp"
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="published results are not in ../shared/published/two-phase"
)

MULTIRC = (
    "ishan--bert-base-uncased-mnli",
    "Jeevesh8--feather_berts_46",
    "roberta-base",
    "Alireza1044--albert-base-v2-qnli",
    "albert-base-v2",
    "Jeevesh8--bert_ft_qqp-9",
    "Jeevesh8--bert_ft_qqp-40",
    "connectivity--bert_ft_qqp-1",
    "Jeevesh8--6ep_bert_ft_cola-47",
    "Splend1dchan--bert-base-uncased-slue-goldtrascription-e3-lr1e-4",
)
TABLE_10 = {5: 0.543, 10: 0.503, 15: 0.535}


@pytest.fixture(scope="module")
def matrix() -> PerformanceMatrix:
    return load_matrix(FOLDER)


def test_the_matrix_is_whole(matrix: PerformanceMatrix) -> None:
    assert matrix.test.shape == (39, 21)
    assert np.isfinite(matrix.test).all()
    assert matrix.n_stages == 0


@pytest.mark.parametrize("threshold", [0.09, None], ids=["given", "by the median rule"])
def test_clusters_and_silhouettes(matrix: PerformanceMatrix, threshold: float | None) -> None:
    plain = clusters_as_plain(cluster_matrix(matrix, RecallRules(threshold=threshold)))
    assert (plain["n_non_singleton"], plain["n_in_non_singleton"], plain["n_singleton"]) == (8, 31, 8)
    assert plain["threshold"] == 0.09
    assert plain["silhouette_reference"] == pytest.approx(0.5355, abs=5e-5)
    assert plain["silhouette_sklearn"] == pytest.approx(0.1749, abs=5e-5)


def test_table_10_follows_at_another_threshold(matrix: PerformanceMatrix) -> None:
    found = {row[0]: row[1] for row in table_differences(matrix, 0.085).rows}
    assert {k: round(float(value), 3) for k, value in found.items()} == TABLE_10  # type: ignore[arg-type]
    at_reference = {row[0]: round(float(row[1]), 3) for row in table_differences(matrix, 0.09).rows}  # type: ignore[arg-type]
    assert all(at_reference[k] != TABLE_10[k] for k in TABLE_10)


def test_table_3_has_the_printed_gap(matrix: PerformanceMatrix) -> None:
    """Printed over 40 models and 24 tasks: 0.67 and 0.61, best on 22 and 2 tasks."""
    inside, alone = table_singletons(cluster_matrix(matrix, RecallRules())).rows
    assert inside[2] == pytest.approx(0.67, abs=0.01)
    assert alone[2] == pytest.approx(0.61, abs=0.01)
    assert int(inside[3]) > 15 > int(alone[3])  # type: ignore[arg-type]


def test_multirc_by_the_reference_code(matrix: PerformanceMatrix) -> None:
    scores = read_scores(FOLDER / "leep_score_multirc.txt", matrix.base_models)
    rules = RecallRules(threshold=0.09, variant=RecallVariant.REFERENCE_CODE)
    found = recall_from(cluster_matrix(matrix, rules), {scores.proxy: scores.scores}, rules)
    assert tuple(matrix.base_models[row] for row in found.order[:10]) == MULTIRC


def test_multirc_as_in_the_paper_reads_8_scores_and_recalls_the_same_10(matrix: PerformanceMatrix) -> None:
    scores = read_scores(FOLDER / "leep_score_multirc.txt", matrix.base_models)
    found = recall_from(cluster_matrix(matrix, RecallRules()), {scores.proxy: scores.scores}, RecallRules())
    assert found.proxies_read.size == 8
    assert {matrix.base_models[row] for row in found.order[:10]} == set(MULTIRC)
