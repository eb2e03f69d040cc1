"""What pretraining hides and changes in a row of tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_app.embedded.tokenizer import FIRST_ORDINARY_ID, MASK_ID

MASKED_AS_MASK, MASKED_AS_RANDOM = 0.8, 0.1
"""Of the tokens to predict these shares become [MASK] and a random token; the rest stays (Devlin et al. 2019, section 3.1)."""


@dataclass(frozen=True, kw_only=True)
class Corrupted:
    """Rows as the model gets them, and what it has to say about them."""

    rows: NDArray[np.int64]
    """(n_rows, n_tokens) ids after corruption."""
    predicted: NDArray[np.int64]
    """(n_predicted,) flat positions, ascending, whose original token is to be named."""
    judged: NDArray[np.int64]
    """(n_judged,) flat positions, ascending, to be called replaced or original: ordinary tokens that are not [MASK]."""
    replaced: NDArray[np.bool_]
    """(n_judged,) True where the token differs from the original one."""


def corrupt_rows(
    rows: NDArray[np.int64],
    *,
    mask_share: float,
    replace_share: float,
    frequencies: NDArray[np.float64],
    rng: np.random.Generator,
) -> Corrupted:
    """Mask some tokens for masked-language modelling, and replace some of the others for replaced-token detection.

    Args:
        rows: (n_rows, n_tokens) token ids; special tokens are never touched.
        mask_share: share of each row to predict, in (0, 1): k = max(1, round(mask_share * (n_tokens - 2))) positions a row, or
            all ordinary ones where there are fewer.
        replace_share: chance of every other ordinary token to be replaced, in [0, 1); 0 for masked-language modelling alone.
        frequencies: (vocab_size,) how often each token occurs; what replacements are drawn by. Special tokens count as 0.
        rng: all chance.

    Source: Devlin et al. 2019, section 3.1 (masking); Clark et al. 2020, ELECTRA (detection). Differs: replacements come from the
    token frequencies, not from a generator network.
    """
    ordinary = rows >= FIRST_ORDINARY_ID
    n_chosen = max(1, round(mask_share * (rows.shape[1] - 2)))
    order = np.where(ordinary, rng.random(rows.shape), 2.0)
    columns = np.argsort(order, axis=1, kind="stable")[:, :n_chosen]
    chosen = np.zeros(rows.shape, dtype=bool)
    np.put_along_axis(chosen, columns, True, axis=1)
    chosen &= ordinary
    fate = rng.random(rows.shape)
    corrupted = rows.copy()
    corrupted[chosen & (fate < MASKED_AS_MASK)] = MASK_ID
    as_random = chosen & (fate >= MASKED_AS_MASK) & (fate < MASKED_AS_MASK + MASKED_AS_RANDOM)
    corrupted[as_random] = rng.integers(FIRST_ORDINARY_ID, len(frequencies), size=int(as_random.sum()))
    swapped = ordinary & ~chosen & (fate < replace_share)
    cumulative = np.cumsum(frequencies[FIRST_ORDINARY_ID:])
    draws = rng.random(int(swapped.sum())) * cumulative[-1]
    corrupted[swapped] = FIRST_ORDINARY_ID + np.searchsorted(cumulative, draws, side="right")
    judged = np.flatnonzero(ordinary & (corrupted != MASK_ID))
    return Corrupted(
        rows=corrupted,
        predicted=np.flatnonzero(chosen),
        judged=judged,
        replaced=(corrupted != rows).reshape(-1)[judged],
    )
