"""Word vectors from counts alone: the start of the embedding table, so that pretraining need not learn what counting tells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WINDOW = 5
"""Neighbours on each side that count; a neighbour at distance d counts 1/d."""
SMOOTHING = 0.75
"""Power of the context frequencies (Levy et al. 2015, section 3.1: context distribution smoothing)."""


def spectral_embeddings(
    tokens: NDArray[np.int64], *, vocab_size: int, width: int, scale: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Token vectors: positive pointwise mutual information of neighbours, cut to its leading singular directions.

    M[w, c] = max(0, log(n(w, c) * sum_c' n(c')^a / (n(w) * n(c)^a))) with a = ``SMOOTHING`` and n the distance-weighted counts;
    M ~ U S V', rows of U S^(1/2) turned by a random rotation, so that no coordinate stands out.

    Args:
        tokens: (n,) token ids of the running text.
        vocab_size: rows of the result; ids are below it.
        width: columns of the result; where the text has fewer directions, the rest is normal noise.
        scale: mean standard deviation of the columns.
        rng: draws the rotation and the noise.

    Returns:
        (vocab_size, width) vectors.

    Source: Levy, Goldberg and Dagan 2015, Improving distributional similarity with lessons learned from word embeddings,
    sections 2.1, 3.1 and 3.3. Differs: weights 1/d; the rotation.
    """
    from sklearn.utils.extmath import randomized_svd

    information = _information(tokens, vocab_size)
    rank = min(width, vocab_size - 1)
    seed = int(rng.integers(2**31))
    left, strengths, _ = randomized_svd(information, rank, n_iter=2, random_state=seed)
    vectors = rng.normal(scale=1e-3, size=(vocab_size, width))
    vectors[:, :rank] += left * np.sqrt(strengths)
    rotation, _ = np.linalg.qr(rng.normal(size=(width, width)))
    vectors = vectors @ rotation
    return (vectors * (scale / vectors.std(axis=0).mean())).astype(np.float32)


def _information(tokens: NDArray[np.int64], vocab_size: int):  # type: ignore[no-untyped-def]  # scipy has no types
    """(vocab_size, vocab_size) sparse matrix of the positive pointwise mutual information."""
    from scipy import sparse

    counts = sparse.csr_array((vocab_size, vocab_size))
    for distance in range(1, WINDOW + 1):
        pairs = (tokens[:-distance], tokens[distance:])
        weights = np.full(len(pairs[0]), 1.0 / distance)
        counts = counts + sparse.coo_array((weights, pairs), shape=(vocab_size, vocab_size)).tocsr()
    both = (counts + counts.T).tocoo()
    totals = np.asarray(both.sum(axis=1)).ravel()
    context = totals**SMOOTHING
    ratio = both.data * context.sum() / (totals[both.row] * context[both.col])
    return sparse.coo_array((np.maximum(np.log(ratio), 0.0), (both.row, both.col)), shape=both.shape).tocsr()
