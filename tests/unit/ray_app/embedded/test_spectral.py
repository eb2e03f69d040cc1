"""Token vectors against the same formula written out, and their scale."""

import numpy as np

from ray_app.embedded.spectral import SMOOTHING, WINDOW, spectral_embeddings

TOKENS = np.random.default_rng(0).integers(0, 12, size=400)


def _information_written_out(tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    counts = np.zeros((vocab_size, vocab_size))
    for place, token in enumerate(tokens):
        for other in range(max(0, place - WINDOW), min(len(tokens), place + WINDOW + 1)):
            if other != place:
                counts[token, tokens[other]] += 1 / abs(place - other)
    total = counts.sum(axis=1)
    context = total**SMOOTHING / (total**SMOOTHING).sum()
    ratio = np.divide(counts, total[:, None] * context[None, :], out=np.ones_like(counts), where=counts > 0)
    return np.maximum(0.0, np.log(ratio))


def test_vectors_of_full_width_have_the_products_of_the_formula():
    """U S U' of the symmetric part: the vectors' inner products are those of U S^(1/2), up to the one scale."""
    vectors = spectral_embeddings(TOKENS, vocab_size=13, width=12, scale=0.05, rng=np.random.default_rng(0))
    left, strengths, _ = np.linalg.svd(_information_written_out(TOKENS, 13))
    expected = (left[:, :12] * strengths[:12]) @ left[:, :12].T
    made = vectors.astype(float) @ vectors.T
    scale = (made * expected).sum() / (expected**2).sum()
    np.testing.assert_allclose(made / scale, expected, atol=0.02 * np.abs(expected).max())


def test_scale_shape_and_determinism():
    made = [
        spectral_embeddings(TOKENS, vocab_size=20, width=8, scale=0.05, rng=np.random.default_rng(3)) for _ in range(2)
    ]
    assert made[0].shape == (20, 8) and made[0].dtype == np.float32
    assert abs(made[0].std(axis=0).mean() - 0.05) < 1e-6
    assert (made[0] == made[1]).all()


def test_a_width_beyond_the_vocabulary_is_filled():
    made = spectral_embeddings(TOKENS, vocab_size=12, width=32, scale=0.05, rng=np.random.default_rng(0))
    assert made.shape == (12, 32) and np.isfinite(made).all()


def test_tokens_of_the_same_company_are_close():
    """0 and 1 stand between the same neighbours (2 and 3), 4 never does."""
    rng = np.random.default_rng(0)
    pieces = [[2, rng.integers(0, 2), 3] if rng.random() < 0.5 else [5, 4, 6] for _ in range(300)]
    vectors = spectral_embeddings(np.concatenate(pieces), vocab_size=7, width=3, scale=1.0, rng=rng)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert unit[0] @ unit[1] > 0.9 > 0.5 > unit[0] @ unit[4]
