"""Coarse recall: which base models are worth training on a new target, from their averages and a few proxy scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.proxies.ensemble import average_places
from analysis.selection.clustering import Clusters
from analysis.selection.performance import PerformanceMatrix
from analysis.selection.recall_rules import RecallVariant
from analysis.selection.similarity import cosine_distance

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LOG_LIKELIHOODS = ("leep", "nleep")
"""Proxies that are average log-likelihoods: exp brings them to (0, 1]."""
SHARES = ("knn", "probe_cv")
"""Proxies that are accuracies."""

_DECIMALS = 12
"""Scores that differ by less are equal, and keep the order of the matrix."""


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Base models by recall score."""

    scores: FloatArray
    """(n_bases,) Eqs. 3 and 4; NaN for a base model with no average."""
    order: IntArray
    """Rows of the base models, best first; those without a score last."""
    proxies_read: IntArray
    """Rows whose proxy scores were needed: what recall costs."""
    note: str = ""
    """What was done differently, and why."""


def normalise_proxy(proxy: str, scores: npt.ArrayLike) -> FloatArray:
    """Proxy scores in [0, 1], NaN where missing.

    exp for log-likelihoods (as in the reference code), accuracies as they are, places (rank - 1/2) / n for all others, which
    have no natural range.

    Raises:
        ValueError: a LEEP score above 0, or an accuracy outside [0, 1].
    """
    values = np.asarray(scores, dtype=np.float64)
    if proxy in LOG_LIKELIHOODS:
        if (values > 0).any():
            raise ValueError(f"got a {proxy} score of {np.nanmax(values):g}; expected a mean log-likelihood, at most 0")
        return np.exp(values)
    if proxy in SHARES:
        if ((values < 0) | (values > 1)).any():
            raise ValueError(f"got {proxy} scores outside [0, 1]; expected accuracies")
        return values
    return average_places(values[:, None])


def combine_proxies(scores: Mapping[str, npt.ArrayLike]) -> FloatArray:
    """(n_bases,) one proxy normalised, or the mean place over several; NaN where a base model has none.

    Args:
        scores: proxy -> (n_bases,), higher is better, NaN where missing; at least one.
    """
    if not scores:
        raise ValueError("got no proxy scores; expected those of one proxy at least")
    if len(scores) == 1:
        ((proxy, values),) = scores.items()
        return normalise_proxy(proxy, values)
    return average_places(np.column_stack([np.asarray(values, dtype=np.float64) for values in scores.values()]))


def choose_representatives(clusters: Clusters, average: FloatArray, proxy: FloatArray) -> dict[int, int]:
    """Cluster of two or more -> row of its best member by average that has a proxy score; clusters without any are left out."""
    found = {}
    for cluster in clusters.shared:
        able = [int(row) for row in clusters.members(int(cluster)) if np.isfinite(proxy[row] * average[row])]
        if able:
            found[int(cluster)] = max(able, key=lambda row: average[row])
    return found


def recall(
    matrix: PerformanceMatrix,
    clusters: Clusters,
    proxy: FloatArray,
    *,
    similarity: FloatArray,
    variant: RecallVariant = RecallVariant.PAPER,
) -> Recall:
    """Recall score of every base model.

        member of a cluster:  acc(m) proxy(r(c(m)))                                  (Eq. 3)
        singleton:            acc(m) mean over clusters c of sim(m, r(c)) proxy(r(c))  (Eq. 4)

    acc is the average over benchmark tasks, r(c) the member of c with the best average (that has a proxy score). Where no
    cluster has two members, Eq. 4 has nothing to propagate: every base model counts by its own proxy score.

    Args:
        matrix: benchmark tasks.
        clusters: of its base models.
        proxy: (n_bases,) normalised, NaN where there is none; the variant ``paper`` reads the representatives' only.
        similarity: (n_bases, n_bases) of Eq. 1; the variant ``reference_code`` takes the cosine of score vectors instead.
        variant: which of the two.

    Raises:
        ValueError: no proxy score that could be used.

    Source: section III.B; the reference code's coarse_recall.
    """
    average = matrix.average
    if not np.isfinite(proxy * average).any():
        raise ValueError("got no proxy score of a base model with benchmark scores; expected at least one")
    chosen = choose_representatives(clusters, average, proxy)
    if not chosen:
        own = proxy * average
        note = "no cluster of two or more has a proxy score, so that every base model counts by its own"
        return _ordered(own, np.flatnonzero(np.isfinite(own)), note=note)
    rows = np.array(list(chosen.values()), dtype=np.int64)
    if variant is RecallVariant.REFERENCE_CODE:
        similarity = _score_cosines(matrix.test)
    propagated = similarity[:, rows] @ proxy[rows] / rows.size
    score = average * propagated
    read = set(rows.tolist())
    for cluster, representative in chosen.items():
        members = clusters.members(cluster)
        if variant is RecallVariant.PAPER:
            score[members] = average[members] * proxy[representative]
        else:
            able = members[np.isfinite(proxy[members])]
            score[able] = average[able] * proxy[able]
            read |= set(able.tolist())
    return _ordered(score, np.array(sorted(read), dtype=np.int64))


def _score_cosines(test: FloatArray) -> FloatArray:
    """Cosine of two base models' scores over the tasks that both have; 0 where they share none."""
    known = np.isfinite(test)
    if known.all() and np.linalg.norm(test, axis=1).all():
        return 1 - cosine_distance(test)
    filled = np.where(known, test, 0.0)
    squares = filled**2
    product = filled @ filled.T
    length = np.sqrt((squares @ known.T) * (known @ squares.T))
    return np.divide(product, length, out=np.zeros_like(product), where=length > 0)


def _ordered(score: FloatArray, read: npt.ArrayLike, *, note: str = "") -> Recall:
    rank = np.where(np.isfinite(score), np.round(score, _DECIMALS), -math.inf)
    return Recall(
        scores=score,
        order=np.argsort(-rank, kind="stable").astype(np.int64),
        proxies_read=np.asarray(read, dtype=np.int64),
        note=note,
    )
