"""Each score against its textbook formula, another implementation, hand arithmetic or a published value."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, norm
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_iris

from analysis.proxies import PROXIES, prepare_rows
from analysis.proxies.h_score import ledoit_wolf_shrinkage
from analysis.proxies.leep import expected_log_likelihood


def _random(n: int = 40, d: int = 5, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=(k, d))[labels], labels


PUBLISHED_ON_IRIS = {"logme": -0.16006022033609904, "h_score": 1.177842480406727, "knn": 0.9666666666666667}
"""Reference values in the tests of flairNLP/transformer-ranker (tests/estimators, computed in float32; kNN with k = 5)."""


@pytest.mark.parametrize("name", sorted(PUBLISHED_ON_IRIS))
def test_published_values_on_iris(name: str) -> None:
    features, labels = load_iris(return_X_y=True)
    score = PROXIES[name](prepare_rows(features, labels))
    assert score == pytest.approx(PUBLISHED_ON_IRIS[name], abs=1e-6)


def test_leep_by_hand() -> None:
    # P(0, a) = 0.6, P(0, b) = 0.2 over rows 1, 2 ... of four rows; labels 0, 0, 1, 1
    given = np.array([[0.8, 0.2], [0.6, 0.4], [0.4, 0.6], [0.2, 0.8]])
    codes = np.array([0, 0, 1, 1])
    # sums: class 0 has (1.4, 0.6), class 1 has (0.6, 1.4); so P(0|a) = 0.7, P(0|b) = 0.3
    likelihood = [0.7 * 0.8 + 0.3 * 0.2, 0.7 * 0.6 + 0.3 * 0.4, 0.3 * 0.4 + 0.7 * 0.6, 0.3 * 0.2 + 0.7 * 0.8]
    assert expected_log_likelihood(given, codes, 2) == pytest.approx(np.mean(np.log(likelihood)))


def test_leep_of_a_head_that_knows_is_zero_and_of_one_that_does_not_is_the_entropy() -> None:
    codes = np.arange(12) % 3
    assert expected_log_likelihood(np.eye(3)[codes], codes, 3) == 0.0
    assert expected_log_likelihood(np.full((12, 4), 0.25), codes, 3) == pytest.approx(np.log(1 / 3))


def test_leep_reads_the_logits_of_the_source_head() -> None:
    features, labels = _random()
    logits = np.random.default_rng(1).normal(size=(40, 4))
    theta = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    total = 0.0
    for i in range(40):
        likelihood = 0.0
        for z in range(4):
            likelihood += theta[labels == labels[i], z].sum() / theta[:, z].sum() * theta[i, z]
        total += np.log(likelihood)
    assert PROXIES["leep"](prepare_rows(features, labels, source_logits=logits)) == pytest.approx(total / 40)


def test_nleep_of_two_far_clusters_is_their_conditional_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.proxies.nleep.CLUSTERS_PER_CLASS", 1)
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(-50, 1, size=(40, 3)), rng.normal(50, 1, size=(40, 3))])
    labels = np.concatenate([np.arange(40) % 4 == 0, np.arange(40) % 2 == 0]).astype(int)  # 1 in 4, then 1 in 2
    by_hand = 0.5 * (0.25 * np.log(0.25) + 0.75 * np.log(0.75)) + 0.5 * np.log(0.5)
    assert PROXIES["nleep"](prepare_rows(features, labels)) == pytest.approx(by_hand, abs=1e-6)


def _official_logme(features: np.ndarray, columns: np.ndarray) -> float:
    """Algorithm 2 of the paper in its textbook form (dense matrices), run to the fixed point."""
    n, d = features.shape
    scores = []
    for y in columns.T:
        alpha = beta = 1.0
        for _ in range(5000):
            a = alpha * np.eye(d) + beta * features.T @ features
            m = beta * np.linalg.solve(a, features.T @ y)
            s = np.linalg.eigvalsh(features.T @ features)
            gamma = (beta * s / (alpha + beta * s)).sum()
            alpha, beta = gamma / (m @ m), (n - gamma) / ((features @ m - y) ** 2).sum()
        a = alpha * np.eye(d) + beta * features.T @ features
        m = beta * np.linalg.solve(a, features.T @ y)
        evidence = n / 2 * np.log(beta) + d / 2 * np.log(alpha) - n / 2 * np.log(2 * np.pi)
        evidence -= beta / 2 * ((features @ m - y) ** 2).sum() + alpha / 2 * m @ m + np.linalg.slogdet(a)[1] / 2
        scores.append(evidence / n)
    return float(np.mean(scores))


def test_logme_is_the_fixed_point_of_the_papers_algorithm() -> None:
    features, labels = _random(n=30, d=4)
    expected = _official_logme(features, np.eye(3)[labels])
    assert PROXIES["logme"](prepare_rows(features, labels)) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("shape", [(25, 4), (12, 20)])
def test_logme_of_a_number_is_the_largest_gaussian_evidence(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=shape)
    y = features @ rng.normal(size=shape[1]) + 2 * rng.normal(size=shape[0])

    def minus(logs: np.ndarray) -> float:
        alpha, beta = np.exp(logs)
        covariance = features @ features.T / alpha + np.eye(shape[0]) / beta
        return -float(multivariate_normal(np.zeros(shape[0]), covariance, allow_singular=True).logpdf(y)) / shape[0]

    best = min(minimize(minus, start, method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-9, "fatol": 1e-12}).fun
               for start in ([0.0, 0.0], [1.0, -1.0]))  # fmt: skip
    assert PROXIES["logme"](prepare_rows(features, y, regression=True)) == pytest.approx(-best, abs=1e-5)


def test_logme_knows_no_class_that_does_not_occur() -> None:
    features, labels = _random()
    assert PROXIES["logme"](prepare_rows(features, 3 * labels)) == PROXIES["logme"](prepare_rows(features, labels))


@pytest.mark.parametrize("shape", [(40, 5), (20, 30)])
def test_h_score_with_another_ledoit_wolf(shape: tuple[int, int]) -> None:
    features, labels = _random(*shape)
    estimate = LedoitWolf().fit(features)
    means = np.array([features[labels == label].mean(axis=0) for label in labels])
    between = (1 - estimate.shrinkage_) * np.cov(means, rowvar=False)
    expected = np.trace(np.linalg.pinv(estimate.covariance_, rcond=1e-15) @ between)
    assert PROXIES["h_score"](prepare_rows(features, labels)) == pytest.approx(expected, rel=1e-9)
    centred = features - features.mean(axis=0)
    shrinkage = ledoit_wolf_shrinkage(centred, centred.T @ centred / len(centred))
    assert shrinkage == pytest.approx(estimate.shrinkage_, rel=1e-9)


def test_neighbours_by_loops() -> None:
    features, labels = _random(n=60, d=2, k=4)
    right = 0.0
    for i in range(60):
        distances = [(float(((features[i] - features[j]) ** 2).sum()), j) for j in range(60) if j != i]
        votes = np.bincount([labels[j] for _, j in sorted(distances)[:5]], minlength=4)
        winners = np.flatnonzero(votes == votes.max())
        right += (labels[i] in winners) / len(winners)
    assert PROXIES["knn"](prepare_rows(features, labels)) == pytest.approx(right / 60)


def test_neighbours_that_are_equally_near_all_count() -> None:
    # every row has itself three times more: with k = 5 the two next ones are tied among the four of the other point
    features = np.repeat([[0.0], [1.0]], 4, axis=0)
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    # at 0: others 0,0,1 or 0,0,0; plus all four 1s of the other point -> class 1 wins always; at 1: 1,1,1 + 0,0,0,1 -> 1 wins
    assert PROXIES["knn"](prepare_rows(features, labels)) == pytest.approx(5 / 8)


def test_transrate_by_determinants() -> None:
    features, labels = _random(n=45, d=4)
    z = features - features.mean(axis=0)
    z /= np.sqrt((z**2).mean())

    def rate(part: np.ndarray) -> float:
        return 0.5 * np.log(np.linalg.det(np.eye(4) + part.T @ part / (len(part) * 1e-4)))

    within = sum((labels == c).mean() * rate(z[labels == c]) for c in range(3))
    assert PROXIES["transrate"](prepare_rows(features, labels)) == pytest.approx(rate(z) - within, rel=1e-9)


def test_gbc_is_the_overlap_of_two_densities() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 1, 30), rng.normal(1.5, 2, 50)
    features = np.concatenate([first, second])[:, None]
    densities = [norm(part.mean(), part.std()) for part in (first, second)]
    overlap = quad(lambda x: np.sqrt(densities[0].pdf(x) * densities[1].pdf(x)), -20, 20)[0]
    labels = np.repeat([0, 1], [30, 50])
    assert PROXIES["gbc"](prepare_rows(features, labels)) == pytest.approx(-2 * overlap, rel=1e-7)


def test_gbc_by_the_formula_in_several_dimensions() -> None:
    features, labels = _random(n=60, d=4)
    centred = features - features.mean(axis=0)
    total = 0.0
    for a in range(3):
        for b in range(3):
            if a != b:
                p, q = features[labels == a], features[labels == b]
                v, w = p.var(axis=0).mean(), q.var(axis=0).mean()
                s = (v + w) / 2 * np.eye(4)
                gap = p.mean(axis=0) - q.mean(axis=0)
                distance = gap @ np.linalg.solve(s, gap) / 8
                distance += 0.5 * np.log(np.linalg.det(s) / np.sqrt(v**4 * w**4))
                total -= np.exp(-distance)
    assert centred.shape == (60, 4)
    assert PROXIES["gbc"](prepare_rows(features, labels)) == pytest.approx(total, rel=1e-9)
