"""Which task does each value of a row belong to: decoding of shifted and of exchanged values.

The defect that is undone here: a task without a result was dropped from a row and the values after it moved left, written
over the row as it stood before. So a row is a sequence of *layers*, each a list of values in task order with gaps, the later
layer what was left of an older writing (at its own place, or itself shifted). A value tells where it belongs by its
denominator (k/n) and, where several tasks share one, by its level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp

from analysis.integrity.counts import informative, on_lattice

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

FOREIGN = 1e-6
"""Prior probability that a value was scored on another split, so that it fits no lattice."""
GAP = 0.4
"""Price, in nats, of a lost task."""
RESET = 6.0
"""Price, in nats, of a new layer."""
REPEAT = 3.0
"""Reward, in nats, for a value that stands a second time, bit for bit, under the name it is given."""
MISSING = float(np.log(1e-2))
"""Log probability of an empty cell under any task."""
NEVER = -1e6
"""Log probability of a placement that is forbidden."""
LEVEL_FLOOR = 0.006
"""Smallest spread of a task's level, as a fraction."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What every value says about every task."""

    log_p: Floats
    """(n_rows, n_tasks, n_tasks) log probability of the value at position p (axis 1) if it is task t's (axis 2)."""
    fits: Bools
    """(n_rows, n_tasks, n_tasks) the value at p is possible for task t: k/n_t, or a task without denominator."""
    repeats: Bools
    """(n_rows, n_tasks, n_tasks) the value at p stands again, identical, at the later position t."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """The most probable task of each value."""

    task: Ints
    """(n_rows, n_tasks) column index of the task whose value stands at each position."""
    margin_nats: Floats
    """(n_rows,) log probability of the decoding minus that of the row as it stands."""
    certainty: Floats
    """(n_rows, n_tasks) posterior probability of each placement, in [0, 1]."""


def level_density(values: Floats, *, centers: Floats, spreads: Floats) -> Floats:
    """Density of a score under each task: robust, and never zero.

    f_t(v) = 0.1 + 0.9 * mean over references r of t2((v - c_rt) / s_rt) / s_rt, with t2 Student's density with 2 degrees
    of freedom and the constant 0.1 for whatever the references do not foresee.

    Args:
        values: (...,) fractions.
        centers, spreads: (n_references, n_tasks); a reference with a NaN is left out for that task.
    Returns:
        (..., n_tasks) densities per unit of score.
    """
    spread = np.maximum(spreads, LEVEL_FLOOR)
    z = (np.asarray(values)[..., None, None] - centers) / spread
    bell = (1 + z * z / 2) ** -1.5 / (2 * np.sqrt(2) * spread)
    usable = np.isfinite(centers) & np.isfinite(spreads)
    weight = usable / np.maximum(usable.sum(axis=0), 1)
    mixed = np.where(usable, bell, 0.0) * weight
    return np.asarray(0.1 + 0.9 * mixed.sum(axis=-2))


def weigh_evidence(scores: Floats, sizes: Ints, *, centers: Floats, spreads: Floats, resolution: float) -> Evidence:
    """Log probability of each value under each task.

    log P(v | t) = log f_t(v) + log(1 / n_t) where v = k/n_t; log 2r + log f_t(v) where t has no denominator (a rank
    correlation may be any number printed to the resolution r); log(1e-6 * 2r) where v is no k/n_t.

    Args:
        scores: (n_rows, n_tasks), NaN where missing.
        sizes: (n_tasks,) denominators, 0 for none.
        centers, spreads: (n_references, n_tasks) usual levels, see ``level_density``.
        resolution: half a unit of the last trusted digit.
    Cost: n_rows * n_tasks^2.
    """
    density = level_density(scores, centers=centers, spreads=spreads)
    fits = on_lattice(scores[:, :, None], sizes, resolution=resolution)
    unit = np.where(sizes > 0, 1 / np.maximum(sizes, 1), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_p = np.where(fits, np.log(density * np.maximum(unit, 2 * resolution)), np.log(FOREIGN * 2 * resolution))
        log_p = np.where(sizes == 0, np.log(density * 2 * resolution), log_p)
    missing = ~np.isfinite(scores)
    log_p[missing] = MISSING
    later = np.triu(np.ones((scores.shape[1],) * 2, dtype=bool), k=1)
    repeats = (scores[:, :, None] == scores[:, None, :]) & later & informative(scores)[:, :, None]
    possible = fits | (sizes == 0) | missing[:, :, None]
    return Evidence(log_p=log_p, fits=possible, repeats=repeats & possible)


def decode_shift(evidence: Evidence) -> Decoding:
    """Most probable layered, order-preserving placement of each row's values.

    Dynamic programming over positions p and tasks t (Viterbi), and the same with sums (forward-backward) for the
    certainty of each placement:

        V(p, t) = log P(v_p | t) + 3 [v_p repeated at t]
                + max( max_{t' < t} V(p-1, t') - 0.4 (t - t' - 1),   next task of this layer, lost tasks between
                       max_{t'}    V(p-1, t') - 6 - 0.4 (t - p) )    a new layer begins, t >= p

    The row as it stands costs nothing. Values move left only, so t >= p always.

    Returns:
        the decoding; ties go to the fewer lost tasks.
    Cost: n_rows * n_tasks^2.
    """
    emission = evidence.log_p + REPEAT * evidence.repeats
    n_rows, width, _ = emission.shape
    best, came_from = _viterbi(emission)
    task = np.empty((n_rows, width), dtype=np.int64)
    task[:, -1] = best[-1].argmax(axis=0)
    every = np.arange(n_rows)
    for p in range(width - 1, 0, -1):
        task[:, p - 1] = came_from[p, task[:, p], every]
    stands = np.einsum("rpp->r", emission)
    certainty = np.take_along_axis(_posterior(emission), task[:, :, None], axis=2)[:, :, 0]
    return Decoding(task=task, margin_nats=best[-1].max(axis=0) - stands, certainty=certainty)


def decode_exchange(evidence: Evidence, *, price_nats: float = 3.0) -> Decoding:
    """Most probable one-to-one placement of each row's values (tasks exchanged, none lost).

    Maximises sum_p log P(v_p | t_p) - 3 [t_p != p] over permutations (linear sum assignment) that leave empty cells where
    they are. The certainty of a moved
    value is 1 / (1 + exp(-d)), d the loss when that placement is forbidden.

    Cost: n_rows * n_tasks^3, times one more assignment per moved value.
    """
    n_rows, width, _ = evidence.log_p.shape
    task = np.tile(np.arange(width), (n_rows, 1))
    margin, certainty = np.zeros(n_rows), np.ones((n_rows, width))
    off = price_nats * (1 - np.eye(width))
    for row in range(n_rows):
        gain = evidence.log_p[row] - off
        empty = np.flatnonzero((evidence.log_p[row] == MISSING).all(axis=1))
        gain[empty, :], gain[:, empty] = NEVER, NEVER
        gain[empty, empty] = 0.0
        order = linear_sum_assignment(gain, maximize=True)[1]
        total = gain[np.arange(width), order].sum()
        task[row], margin[row] = order, total - np.trace(gain)
        for p in np.flatnonzero(order != np.arange(width)).tolist():
            without = gain.copy()
            without[p, order[p]] = NEVER
            second = linear_sum_assignment(without, maximize=True)
            certainty[row, p] = 1 / (1 + np.exp(min(without[second].sum() - total, 0.0)))
    return Decoding(task=task, margin_nats=margin, certainty=certainty)


def level_exchange(evidence: Evidence) -> tuple[Ints, Floats]:
    """The pair of tasks whose exchange would fit their levels best although every denominator fits as it stands.

    Returns:
        (n_rows, 2) the pair and (n_rows,) its gain in nats; -inf where no pair could be exchanged.
    Cost: n_rows * n_tasks^2.
    """
    stands = np.einsum("rpp->rp", evidence.log_p)
    gain = evidence.log_p - stands[:, :, None]
    both = gain + np.swapaxes(gain, 1, 2)
    able = evidence.fits & np.swapaxes(evidence.fits, 1, 2)
    upper = np.triu(np.ones(both.shape[1:], dtype=bool), k=1)
    both = np.where(able & upper, both, -np.inf).reshape(len(both), -1)
    flat = both.argmax(axis=1)
    pair = np.stack(np.unravel_index(flat, upper.shape), axis=1).astype(np.int64)
    return pair, both[np.arange(len(both)), flat]


def _viterbi(emission: Floats) -> tuple[Floats, Ints]:
    """Best log probability (position, task, row) and the predecessor's task."""
    n_rows, width, _ = emission.shape
    score = np.full((width, width, n_rows), -np.inf)
    came_from = np.zeros((width, width, n_rows), dtype=np.int64)
    for t in range(width):
        score[0, t] = emission[:, 0, t] - GAP * t - (RESET if t else 0.0)
    for p in range(1, width):
        top, top_task = score[p - 1].max(axis=0), score[p - 1].argmax(axis=0)
        run, run_task = np.full(n_rows, -np.inf), np.zeros(n_rows, dtype=np.int64)
        for t in range(p, width):
            run = run - GAP
            closer = score[p - 1, t - 1] >= run
            run, run_task = np.where(closer, score[p - 1, t - 1], run), np.where(closer, t - 1, run_task)
            fresh = top - RESET - GAP * (t - p)
            goes_on = run >= fresh
            score[p, t] = np.where(goes_on, run, fresh) + emission[:, p, t]
            came_from[p, t] = np.where(goes_on, run_task, top_task)
    return score, came_from


def _posterior(emission: Floats) -> Floats:
    """(n_rows, position, task) probability of each placement, all placements weighed."""
    n_rows, width, _ = emission.shape
    forward = np.full((width, width, n_rows), -np.inf)
    backward = np.zeros((width, width, n_rows))
    for t in range(width):
        forward[0, t] = emission[:, 0, t] - GAP * t - (RESET if t else 0.0)
    for p in range(1, width):
        run, top = np.full(n_rows, -np.inf), logsumexp(forward[p - 1], axis=0)
        for t in range(p, width):
            run = np.logaddexp(run - GAP, forward[p - 1, t - 1])
            forward[p, t] = np.logaddexp(run, top - RESET - GAP * (t - p)) + emission[:, p, t]
    for p in range(width - 2, -1, -1):
        ahead = np.swapaxes(emission[:, p + 1], 0, 1) + backward[p + 1]
        ahead[: p + 1] = -np.inf
        price = RESET + GAP * (np.arange(width)[:, None] - (p + 1))
        fresh = logsumexp(np.where(np.isfinite(ahead), ahead - price, -np.inf), axis=0)
        run = np.full(n_rows, -np.inf)
        for t in range(width - 1, -1, -1):
            backward[p, t] = np.logaddexp(run, fresh)
            run = np.logaddexp(run - GAP, ahead[t])
    joint = np.moveaxis(forward + backward, 2, 0)
    return np.asarray(np.exp(joint - logsumexp(joint, axis=2, keepdims=True)))
