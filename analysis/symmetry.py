"""Is gain symmetric: if source A helps target B, does source B help target A?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.association import FloatArray
from analysis.gain_matrix import BoolArray, check_gain

MIN_MODELS = 3


@dataclass(frozen=True, kw_only=True)
class Symmetry:
    """Symmetry of a square matrix; ``score`` is NaN exactly when ``reason`` names the failed requirement."""

    n_pairs: int
    """Off-diagonal pairs (i, j), i < j, with both cells present."""
    n_dropped: int
    """Pairs with a missing cell."""
    score: float = math.nan
    """-1 skew-symmetric, 0 neither, 1 symmetric."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class SymmetryTest:
    """The score beside what chance gives: the off-diagonal cells in random places."""

    observed: Symmetry
    shuffled_mean: float = math.nan
    shuffled_sd: float = math.nan
    p: float = math.nan
    """Share of shuffles (the observed matrix among them) at least as symmetric as the observed."""
    reason: str = ""


def measure_symmetry(matrix: npt.ArrayLike, *, diagonal: bool = True) -> Symmetry:
    """s = (|S| - |V|) / (|S| + |V|) with S = (M + M') / 2, V = (M - M') / 2 and |.| the Frobenius norm.

    Args:
        matrix: (n, n) gains, any unit; row i and column i are the same task; NaN = missing, and the pair of cells
            (i, j), (j, i) is left out of both norms.
        diagonal: count the diagonal, which belongs to S by construction. The paper counts the full matrix; without
            it the number speaks of pairs of different tasks only.

    Returns:
        Symmetry. No pair or only zeros gives NaN with the reason.

    Raises:
        ValueError: a matrix that is not square.

    Source: "Where to start?", section 5 and appendix G. The paper does not name the norm: Frobenius is taken.
    Note: shifting all gains by a constant adds to S only, so s depends on the average gain.
    """
    array = check_gain(matrix)
    if array.shape[0] != array.shape[1]:
        raise ValueError(
            f"got a matrix of shape {array.shape}; expected square; keep the tasks that are source and target"
        )
    symmetric, skew = (array + array.T) / 2, (array - array.T) / 2
    upper = np.triu_indices(array.shape[0], k=1)
    present = ~np.isnan(symmetric[upper])
    n_pairs = int(present.sum())
    dropped = present.size - n_pairs
    if n_pairs == 0:
        return Symmetry(n_pairs=0, n_dropped=dropped, reason="no pair of tasks with both cells: needs at least 1")
    own = np.nansum(np.diag(array) ** 2) if diagonal else 0.0
    norm_s = math.sqrt(float(own + 2 * (symmetric[upper][present] ** 2).sum()))
    norm_v = math.sqrt(float(2 * (skew[upper][present] ** 2).sum()))
    if norm_s + norm_v == 0:
        return Symmetry(n_pairs=n_pairs, n_dropped=dropped, reason="all cells are zero: the score is 0/0")
    return Symmetry(n_pairs=n_pairs, n_dropped=dropped, score=(norm_s - norm_v) / (norm_s + norm_v))


def compare_symmetry(
    matrix: npt.ArrayLike, *, rng: np.random.Generator, n_shuffles: int = 1000, diagonal: bool = True
) -> SymmetryTest:
    """Whether the matrix is more symmetric than its own off-diagonal cells put in random places.

    Args:
        matrix: (n, n) gains; a pair with a missing cell stays where it is.
        rng: generator.
        n_shuffles: random arrangements, at least 2.
        diagonal: as in measure_symmetry; the diagonal itself is never moved.

    Returns:
        SymmetryTest; fewer than 3 tasks, equal off-diagonal cells, or the reason of measure_symmetry give NaN with
        the reason.

    Raises:
        ValueError: a matrix that is not square, or ``n_shuffles`` below 2.

    Source: "Where to start?", section 5 argues that similarity would make gains symmetric; the null is ours, because
    the score alone has no scale (a common positive gain makes any matrix look symmetric).
    """
    array = check_gain(matrix)
    if n_shuffles < 2:
        raise ValueError(f"got {n_shuffles} shuffles; expected at least 2 for a standard deviation")
    observed = measure_symmetry(array, diagonal=diagonal)
    movable = ~np.eye(array.shape[0], dtype=bool) & ~np.isnan(array + array.T)
    reason = observed.reason or _no_null(array, array[movable])
    if reason:
        return SymmetryTest(observed=observed, reason=reason)
    scores = np.array([_shuffled_score(array, movable, rng, diagonal=diagonal) for _ in range(n_shuffles)])
    return SymmetryTest(
        observed=observed,
        shuffled_mean=float(scores.mean()),
        shuffled_sd=float(scores.std(ddof=1)),
        p=(1 + int((scores >= observed.score - 1e-12).sum())) / (1 + n_shuffles),
    )


def _no_null(matrix: FloatArray, cells: FloatArray) -> str:
    if matrix.shape[0] < MIN_MODELS:
        return f"only {matrix.shape[0]} tasks: a random arrangement needs at least {MIN_MODELS}"
    if np.ptp(cells) == 0:
        return "all off-diagonal cells are equal: every arrangement is the same"
    return ""


def _shuffled_score(matrix: FloatArray, movable: BoolArray, rng: np.random.Generator, *, diagonal: bool) -> float:
    shuffled = matrix.copy()
    shuffled[movable] = rng.permutation(matrix[movable])
    return measure_symmetry(shuffled, diagonal=diagonal).score
