"""The rules of fusing, as maths over the values that the sources have for the same elements of a parameter.

Arrays in, float64 out; every rule is a sum over sources, taken in float64 in an order that does not depend on the order given:
means sort the sources by their values, rules over task vectors are given the sources sorted by name.

Definitions: mergekit 0.1.5 (docs/merge_methods.md and mergekit/merge_methods/generalized_task_arithmetic.py, methods linear,
task_arithmetic, ties, dare_linear) and the papers it cites; differences stand under "Differs".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FISHER_FLOOR = 1e-6
"""Least value of a diagonal Fisher (Matena & Raffel's code, ``fisher_floor``): where all are 0 the rule is a weighted mean."""
_PREFIX = 16
"""Elements by which sources are told apart before all are compared."""


def mean(values: Sequence[np.ndarray]) -> np.ndarray:
    """Plain mean, (1/n) sum_i v_i: bit-identical whatever the order of ``values``.

    Args:
        values: one array a source, all of one shape, float32 or float64.

    Returns:
        float64, the shape of each. Summed in float64 in the order of the arrays' own bytes, so the result is a function of the set
        of arrays; its error is below n x 2^-53 of the largest summand.

    Source: Choshen et al. 2022, "Fusing finetuned models for better pretraining"; mergekit's linear with equal weights.
    """
    order = value_order(values, [1.0] * len(values))
    total = values[order[0]].astype(np.float64)
    for place in order[1:]:
        np.add(total, values[place], out=total)
    return np.divide(total, len(values), out=total)


def normalised(weights: Sequence[float]) -> list[float]:
    """Weights divided by their sum; the sum is exact, so it does not depend on their order.

    Raises:
        ValueError: the sum is zero or not finite.
    """
    total = math.fsum(weights)
    if total == 0 or not math.isfinite(total):
        raise ValueError(f"the weights {', '.join(f'{weight:g}' for weight in weights)} sum to {total:g}")
    return [weight / total for weight in weights]


def weighted_mean(values: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Weighted mean, sum_i w_i v_i, with weights that sum to 1 (`normalised`): bit-identical whatever the order of the pairs.

    Source: mergekit's linear with normalize=true.
    """
    order = value_order(values, weights)
    total = np.multiply(values[order[0]], np.float64(weights[order[0]]), dtype=np.float64)
    for place in order[1:]:
        total += np.multiply(values[place], np.float64(weights[place]), dtype=np.float64)
    return total


def fisher_mean(
    values: Sequence[np.ndarray], fishers: Sequence[np.ndarray], coefficients: Sequence[float]
) -> np.ndarray:
    """Fisher-weighted mean, sum_i c_i F_i v_i / sum_i c_i F_i, with F_i not below `FISHER_FLOOR`.

    Args:
        values: one array a source.
        fishers: diagonal Fisher information of each source, at the same elements, 0 or more.
        coefficients: weight of each source divided by the L2 norm of its whole Fisher.

    Source: Matena & Raffel 2022, "Merging Models with Fisher-Weighted Averaging", eq. 4; normalisation and floor as in their code
    (model_merging/merging.py). Differs: the floor holds for every source; theirs may hold for a target model alone, and here is none.
    """
    order = value_order(values, coefficients)
    above, below = np.zeros(values[0].shape), np.zeros(values[0].shape)
    for place in order:
        weight = coefficients[place] * np.maximum(fishers[place].astype(np.float64), FISHER_FLOOR)
        below += weight
        above += weight * values[place]
    return above / below


def task_arithmetic(
    base: np.ndarray, values: Sequence[np.ndarray], weights: Sequence[float], scaling: float
) -> np.ndarray:
    """Base plus scaled task vectors, b + lambda sum_i w_i (v_i - b).

    Source: Ilharco et al. 2023, "Editing Models with Task Arithmetic"; mergekit's task_arithmetic (normalize=false).
    """
    start = base.astype(np.float64)
    total = np.zeros(base.shape)
    for value, weight in zip(values, weights, strict=True):
        total += weight * (value - start)
    return start + scaling * total


@dataclass
class Trim:
    """Which elements of a task vector are among its largest: those above ``threshold``, and the first ``at_threshold`` of those
    that equal it. Asked piece by piece, in order."""

    threshold: float
    at_threshold: int

    def keep(self, magnitudes: np.ndarray) -> np.ndarray:
        """Mask of the next piece."""
        kept = magnitudes > self.threshold
        if self.at_threshold:
            equal = np.flatnonzero(magnitudes == self.threshold)[: self.at_threshold]
            kept[equal] = True
            self.at_threshold -= len(equal)
        return kept


def trim(magnitudes: np.ndarray, density: float) -> Trim:
    """The largest share ``density`` of a whole parameter's task vector, int(density n) elements of n, one at least.

    Args:
        magnitudes: absolute task vector, flat float32; changed in place.
        density: in (0, 1].

    Source: Yadav et al. 2023 (TIES), step 1; mergekit's sparsify.magnitude (0.1.5), on each parameter, magnitudes in float32. Differs:
    of equal magnitudes the first are kept (there whichever a sort puts first).
    """
    n = len(magnitudes)
    n_kept = max(1, int(density * n))
    if n_kept >= n:
        return Trim(threshold=-1.0, at_threshold=0)
    magnitudes.partition(n - n_kept)
    threshold = magnitudes[n - n_kept]
    return Trim(threshold=float(threshold), at_threshold=n_kept - int(np.count_nonzero(magnitudes > threshold)))


def ties(
    base: np.ndarray,
    values: Sequence[np.ndarray],
    kept: Sequence[np.ndarray],
    weights: Sequence[float],
    scaling: float,
) -> np.ndarray:
    """Trimmed task vectors, mixed where they agree on the sign that the heavier side has.

    With d_i = v_i - b where kept, else 0: s = sign(sum_i w_i d_i), ties positive; A = {i: w_i d_i has the sign s}; the result is
    b + lambda sum_A w_i d_i / sum_A w_i, and b where A is empty.

    Args:
        base: b, the pretrained model's values.
        values: v_i, one array a source.
        kept: masks of `Trim.keep`.
        weights: w_i.
        scaling: lambda.

    Source: Yadav et al. 2023, "TIES-Merging: Resolving Interference When Merging Models", steps 2 and 3; mergekit's ties
    (consensus by sum, normalize=true).
    """
    start = base.astype(np.float64)
    parts, total = [], np.zeros(base.shape)
    for value, mask, weight in zip(values, kept, weights, strict=True):
        part = value - start
        part *= weight
        part *= mask
        total += part
        parts.append(part)
    heavier = np.where(total >= 0, 1.0, -1.0)
    mixed, divisor = np.zeros(base.shape), np.zeros(base.shape)
    for part, weight in zip(parts, weights, strict=True):
        agrees = part * heavier > 0
        mixed += np.multiply(part, agrees, out=part)
        divisor += weight * agrees
    divisor[divisor == 0] = 1.0
    return start + scaling * (mixed / divisor)


def dare(
    base: np.ndarray,
    values: Sequence[np.ndarray],
    kept: Sequence[np.ndarray],
    weights: Sequence[float],
    *,
    density: float,
    scaling: float,
) -> np.ndarray:
    """Task vectors of which a share ``density``, drawn by chance, is kept and scaled up: b + lambda sum_i w_i m_i (v_i - b) / density.

    Args:
        base: b, the pretrained model's values.
        values: v_i, one array a source.
        kept: m_i, masks whose elements are true with probability ``density``.
        weights: w_i.
        density: 1 - p, with the paper's drop rate p.
        scaling: lambda.

    Source: Yu et al. 2024, "Language Models are Super Mario", eq. 2 (drop and rescale by 1/(1-p)), combined by task arithmetic;
    mergekit's dare_linear (rescale=true, normalize=false). Differs: mergekit since 2025 rescales each parameter by the ratio of its
    L1 norms before and after dropping, of which 1/(1-p) is what the paper and mergekit before had.
    """
    start = base.astype(np.float64)
    total = np.zeros(base.shape)
    for value, mask, weight in zip(values, kept, weights, strict=True):
        total += np.where(mask, weight * ((value - start) / density), 0.0)
    return start + scaling * total


def value_order(values: Sequence[np.ndarray], weights: Sequence[float]) -> list[int]:
    """Places of the sources sorted by (weight, bytes of their values): an order that the sources' contents alone decide.

    Sources equal in both may stand either way round, which no sum can tell.
    """
    keys = [(weight, value[:_PREFIX].tobytes()) for value, weight in zip(values, weights, strict=True)]
    if len(set(keys)) < len(keys):
        keys = [(weight, value.tobytes()) for value, weight in zip(values, weights, strict=True)]
    return sorted(range(len(keys)), key=keys.__getitem__)
