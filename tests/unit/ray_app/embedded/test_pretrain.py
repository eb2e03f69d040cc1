"""The parts of pretraining that need no training."""

import numpy as np
import pytest

from ray_app.embedded.pretrain import cut_rows, sinusoids, unigram_loss
from ray_app.embedded.tokenizer import CLS_ID, SEP_ID


def test_rows_are_cut_without_padding():
    rows = cut_rows(np.arange(10, 21), row_tokens=5, offset=1)
    assert rows.tolist() == [[CLS_ID, 11, 12, 13, SEP_ID], [CLS_ID, 14, 15, 16, SEP_ID], [CLS_ID, 17, 18, 19, SEP_ID]]
    assert cut_rows(np.arange(2), row_tokens=5).shape == (0, 5)
    assert cut_rows(np.arange(2), row_tokens=5, offset=4).shape == (0, 5)


def test_unigram_loss_by_hand():
    """Ids 5, 6, 7 occur 3, 1, 0 times: with one added 4, 2, 1 of 7."""
    frequencies = np.array([0, 0, 0, 0, 0, 3.0, 1.0, 0.0])
    expected = -(np.log(4 / 7) + np.log(4 / 7) + np.log(1 / 7)) / 3
    assert unigram_loss(frequencies, np.array([5, 5, 7])) == pytest.approx(expected, rel=1e-12)


def test_sinusoids_by_hand():
    waves = sinusoids(3, 4)
    expected = [[np.sin(p), np.cos(p), np.sin(p / 200**0.5), np.cos(p / 200**0.5)] for p in range(3)]
    np.testing.assert_allclose(waves, expected, atol=1e-6)
