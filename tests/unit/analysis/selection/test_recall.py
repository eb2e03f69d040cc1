"""Eqs. 2 to 4 by hand, in both variants, and what recall does where something is missing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.selection.clustered import cluster_matrix, recall_from
from analysis.selection.clustering import Clusters, cluster_by_linkage
from analysis.selection.recall import Recall, combine_proxies, normalise_proxy, recall
from analysis.selection.recall_rules import RecallRules, RecallVariant
from tests.selection_matrices import make_matrix

# m0, m1 are a cluster, m2, m3 another, m4 is alone; averages 0.5, 0.6, 0.8, 0.7, 0.4
MATRIX = make_matrix([[0.4, 0.6], [0.5, 0.7], [0.9, 0.7], [0.8, 0.6], [0.2, 0.6]])
CLUSTERS = Clusters(labels=np.array([0, 0, 1, 1, 2]), representatives=np.array([1, 2, 4]), sizes=np.array([2, 2, 1]))
SIMILARITY = np.full((5, 5), 0.5)
SIMILARITY[4, 1], SIMILARITY[4, 2] = 0.9, 0.3
PROXY = np.array([0.10, 0.20, 0.30, 0.40, 0.50])


def _recall(proxy: np.ndarray = PROXY, variant: RecallVariant = RecallVariant.PAPER) -> Recall:
    return recall(MATRIX, CLUSTERS, proxy, similarity=SIMILARITY, variant=variant)


def test_as_in_the_paper() -> None:
    found = _recall()
    alone = 0.4 * (0.9 * 0.2 + 0.3 * 0.3) / 2
    np.testing.assert_allclose(found.scores, [0.5 * 0.2, 0.6 * 0.2, 0.8 * 0.3, 0.7 * 0.3, alone])
    assert found.order.tolist() == [2, 3, 1, 0, 4]
    assert found.proxies_read.tolist() == [1, 2]


def test_as_in_the_reference_code() -> None:
    def cosine(a: int, b: int) -> float:
        x, y = MATRIX.test[a], MATRIX.test[b]
        return float(x @ y / math.sqrt((x @ x) * (y @ y)))

    found = _recall(variant=RecallVariant.REFERENCE_CODE)
    alone = 0.4 * (cosine(4, 1) * 0.2 + cosine(4, 2) * 0.3) / 2
    np.testing.assert_allclose(found.scores, [0.5 * 0.1, 0.6 * 0.2, 0.8 * 0.3, 0.7 * 0.4, alone])
    assert found.proxies_read.tolist() == [0, 1, 2, 3]


def test_the_paper_reads_representatives_only() -> None:
    proxy = np.array([math.nan, 0.2, 0.3, math.nan, math.nan])
    np.testing.assert_array_equal(_recall(proxy).scores, _recall().scores)


def test_a_representative_without_a_score_is_replaced() -> None:
    proxy = np.array([0.1, math.nan, 0.3, 0.4, 0.5])
    found = _recall(proxy)
    assert found.scores[:2] == pytest.approx([0.5 * 0.1, 0.6 * 0.1])
    assert found.proxies_read.tolist() == [0, 2]


def test_a_cluster_without_any_score_gets_them_by_similarity() -> None:
    found = _recall(np.array([math.nan, math.nan, 0.3, 0.4, math.nan]))
    assert found.scores == pytest.approx([0.5 * 0.5 * 0.3, 0.6 * 0.5 * 0.3, 0.8 * 0.3, 0.7 * 0.3, 0.4 * 0.3 * 0.3])


@pytest.mark.parametrize("variant", list(RecallVariant))
def test_all_singletons_count_by_their_own_score(variant: RecallVariant) -> None:
    alone = Clusters(labels=np.arange(5), representatives=np.arange(5), sizes=np.ones(5, dtype=np.int64))
    found = recall(MATRIX, alone, PROXY, similarity=SIMILARITY, variant=variant)
    np.testing.assert_allclose(found.scores, MATRIX.average * PROXY)
    assert found.proxies_read.size == 5
    assert "own" in found.note


def test_a_model_without_benchmark_scores_comes_last_without_a_score() -> None:
    matrix = make_matrix([[np.nan, np.nan], [0.5, 0.7], [0.5, 0.7]])
    clusters = cluster_by_linkage(np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]]), matrix.average, threshold=0.1)
    found = recall(matrix, clusters, np.array([0.9, 0.5, 0.5]), similarity=np.ones((3, 3)))
    assert np.isnan(found.scores[0])
    assert found.order.tolist() == [1, 2, 0]


def test_equal_models_keep_the_order_of_the_matrix() -> None:
    matrix = make_matrix(np.full((4, 3), 0.5))
    rules = RecallRules()
    found = recall_from(cluster_matrix(matrix, rules), {"leep": dict.fromkeys(matrix.base_models, -0.5)}, rules)
    assert found.order.tolist() == [0, 1, 2, 3]
    assert found.scores == pytest.approx([0.5 * math.exp(-0.5)] * 4)


def test_no_usable_score_is_refused() -> None:
    with pytest.raises(ValueError, match="no proxy score"):
        _recall(np.full(5, math.nan))
    with pytest.raises(ValueError, match="no proxy scores"):
        combine_proxies({})


def test_normalising() -> None:
    np.testing.assert_allclose(normalise_proxy("leep", [-1.0, 0.0]), [math.exp(-1), 1.0])
    np.testing.assert_allclose(normalise_proxy("knn", [0.2, np.nan]), [0.2, np.nan])
    np.testing.assert_allclose(normalise_proxy("logme", [7.0, -3.0, np.nan]), [0.75, 0.25, np.nan])


@pytest.mark.parametrize(("proxy", "value"), [("leep", 0.1), ("probe_cv", 1.5)])
def test_values_that_a_proxy_cannot_have(proxy: str, value: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        normalise_proxy(proxy, [value])


def test_several_proxies_count_by_mean_place() -> None:
    combined = combine_proxies({"leep": [-3.0, -2.0, -1.0, np.nan], "logme": [5.0, 4.0, 9.0, 4.5]})
    # places: leep 1/6, 3/6, 5/6; logme 5/8, 1/8, 7/8, 3/8
    np.testing.assert_allclose(combined, [(1 / 6 + 5 / 8) / 2, (1 / 2 + 1 / 8) / 2, (5 / 6 + 7 / 8) / 2, 3 / 8])
