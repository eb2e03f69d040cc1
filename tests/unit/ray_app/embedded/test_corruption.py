"""What is hidden and changed in rows: counts by hand, special tokens never."""

import numpy as np
import pytest

from ray_app.embedded.corruption import corrupt_rows
from ray_app.embedded.tokenizer import CLS_ID, FIRST_ORDINARY_ID, MASK_ID, SEP_ID

VOCABULARY = 50


def _rows(n: int, width: int = 32) -> np.ndarray:
    rows = np.random.default_rng(1).integers(FIRST_ORDINARY_ID, VOCABULARY, size=(n, width))
    rows[:, 0], rows[:, -1], rows[:, width // 2] = CLS_ID, SEP_ID, SEP_ID
    return rows


def _corrupt(rows, *, mask_share=0.2, replace_share=0.1, frequencies=None, seed=0):
    if frequencies is None:
        frequencies = np.ones(VOCABULARY)
    return corrupt_rows(
        rows,
        mask_share=mask_share,
        replace_share=replace_share,
        frequencies=frequencies,
        rng=np.random.default_rng(seed),
    )


def test_as_many_tokens_of_every_row_are_predicted_and_none_is_special():
    rows = _rows(64)
    made = _corrupt(rows)
    assert np.bincount(made.predicted // 32, minlength=64).tolist() == [6] * 64, "round(0.2 * 30)"
    assert (rows.reshape(-1)[made.predicted] >= FIRST_ORDINARY_ID).all()
    assert (made.rows[rows < FIRST_ORDINARY_ID] == rows[rows < FIRST_ORDINARY_ID]).all()


def test_of_the_predicted_eight_tenths_are_masked_and_a_tenth_stays():
    rows = _rows(4000)
    made = _corrupt(rows)
    now, before = made.rows.reshape(-1)[made.predicted], rows.reshape(-1)[made.predicted]
    assert abs((now == MASK_ID).mean() - 0.8) < 0.01
    assert abs((now == before).mean() - (0.1 + 0.1 / (VOCABULARY - FIRST_ORDINARY_ID))) < 0.01


def test_judged_are_the_ordinary_tokens_still_legible_and_the_verdict_is_the_difference():
    rows = _rows(500)
    made = _corrupt(rows)
    legible = np.flatnonzero((rows.reshape(-1) >= FIRST_ORDINARY_ID) & (made.rows.reshape(-1) != MASK_ID))
    assert made.judged.tolist() == legible.tolist()
    assert made.replaced.tolist() == (rows != made.rows).reshape(-1)[legible].tolist()
    untouched = np.setdiff1d(made.judged, made.predicted)
    changed = (rows != made.rows).reshape(-1)[untouched].mean()
    assert abs(changed - 0.1 * (1 - 1 / (VOCABULARY - FIRST_ORDINARY_ID))) < 0.01


def test_replacements_follow_the_frequencies():
    frequencies = np.zeros(VOCABULARY)
    frequencies[[7, 9]] = 3.0, 1.0
    rows = np.full((2000, 32), 20)
    made = _corrupt(rows, mask_share=1e-9, frequencies=frequencies)
    changed = made.rows[(made.rows != 20) & (made.rows != MASK_ID)]
    drawn = changed[np.isin(changed, [7, 9])]
    assert len(drawn) > 5000 and abs((drawn == 7).mean() - 0.75) < 0.02


def test_without_replacement_all_that_is_not_predicted_stays():
    rows = _rows(50)
    made = _corrupt(rows, replace_share=0.0)
    rest = np.setdiff1d(np.arange(rows.size), made.predicted)
    assert (made.rows.reshape(-1)[rest] == rows.reshape(-1)[rest]).all()


def test_a_row_of_special_tokens_is_left_alone():
    rows = np.full((3, 10), SEP_ID)
    made = _corrupt(rows)
    assert (made.rows == rows).all() and len(made.predicted) == len(made.judged) == 0


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_gives_the_same_rows(seed):
    rows = _rows(20)
    assert (_corrupt(rows, seed=seed).rows == _corrupt(rows, seed=seed).rows).all()
    assert (_corrupt(rows, seed=seed).rows != _corrupt(rows, seed=seed + 1).rows).any()
