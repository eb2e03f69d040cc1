"""Decoding against exhaustive search on problems small enough for it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from analysis.integrity.alignment import (
    GAP,
    REPEAT,
    RESET,
    Evidence,
    decode_exchange,
    decode_shift,
    level_density,
)

WIDTH = 4


def random_evidence(rng: np.random.Generator, n_rows: int) -> Evidence:
    log_p = rng.normal(0, 4, size=(n_rows, WIDTH, WIDTH))
    repeats = (rng.random((n_rows, WIDTH, WIDTH)) < 0.2) & np.triu(np.ones((WIDTH, WIDTH), dtype=bool), k=1)
    return Evidence(log_p=log_p, fits=np.ones_like(repeats), repeats=repeats)


def placements() -> list[tuple[tuple[int, ...], float]]:
    """Every placement that moves values left only, with its price: written from the description, not from the code."""
    found = []
    for tasks in itertools.product(range(WIDTH), repeat=WIDTH):
        if any(t < p for p, t in enumerate(tasks)):
            continue
        price = 0.0 if tasks[0] == 0 else RESET + GAP * tasks[0]
        for p in range(1, WIDTH):
            fresh = RESET + GAP * (tasks[p] - p)
            goes_on = GAP * (tasks[p] - tasks[p - 1] - 1) if tasks[p] > tasks[p - 1] else np.inf
            price += min(fresh, goes_on)
        found.append((tasks, price))
    return found


def test_shift_decoding_finds_the_best_of_all_placements(rng: np.random.Generator) -> None:
    evidence = random_evidence(rng, 50)
    emission = evidence.log_p + REPEAT * evidence.repeats
    decoded = decode_shift(evidence)
    for row in range(50):
        scored = [
            (sum(emission[row, p, t] for p, t in enumerate(tasks)) - price, tasks) for tasks, price in placements()
        ]
        best, tasks = max(scored)
        assert tuple(decoded.task[row]) == tasks
        assert decoded.margin_nats[row] == pytest.approx(best - np.trace(emission[row]))


def test_certainty_sums_over_all_ways(rng: np.random.Generator) -> None:
    """Certainty of a placement = weight of all ways through it; a step may be both a gap and a new layer, each a way."""
    evidence = random_evidence(rng, 10)
    emission = evidence.log_p + REPEAT * evidence.repeats
    decoded = decode_shift(evidence)
    for row in range(10):
        weight = np.zeros((WIDTH, WIDTH))
        for tasks in itertools.product(range(WIDTH), repeat=WIDTH):
            if any(t < p for p, t in enumerate(tasks)):
                continue
            w = np.exp(-(0.0 if tasks[0] == 0 else RESET + GAP * tasks[0]))
            for p in range(1, WIDTH):
                step = np.exp(-RESET - GAP * (tasks[p] - p))
                if tasks[p] > tasks[p - 1]:
                    step += np.exp(-GAP * (tasks[p] - tasks[p - 1] - 1))
                w *= step
            w *= np.exp(sum(emission[row, p, t] for p, t in enumerate(tasks)))
            for p, t in enumerate(tasks):
                weight[p, t] += w
        expected = weight / weight.sum(axis=1, keepdims=True)
        assert decoded.certainty[row] == pytest.approx(expected[np.arange(WIDTH), decoded.task[row]])


def test_exchange_decoding_finds_the_best_permutation(rng: np.random.Generator) -> None:
    evidence = random_evidence(rng, 30)
    decoded = decode_exchange(evidence, price_nats=3.0)
    for row in range(30):
        scored = []
        for order in itertools.permutations(range(WIDTH)):
            moved = sum(p != t for p, t in enumerate(order))
            scored.append((sum(evidence.log_p[row, p, t] for p, t in enumerate(order)) - 3.0 * moved, order))
        best, order = max(scored)
        assert tuple(decoded.task[row]) == order
        assert decoded.margin_nats[row] == pytest.approx(best - np.trace(evidence.log_p[row]))


def test_level_density_by_hand() -> None:
    """At its center, with spread 0.01, Student's t2 is 1 / (2 sqrt 2 * 0.01) = 35.36; mixed 0.1 + 0.9 * 35.36."""
    value = np.array([0.5])
    one = level_density(value, centers=np.array([[0.5]]), spreads=np.array([[0.01]]))
    assert one[0, 0] == pytest.approx(0.1 + 0.9 / (2 * np.sqrt(2) * 0.01))
    nothing = level_density(value, centers=np.array([[np.nan]]), spreads=np.array([[np.nan]]))
    assert nothing[0, 0] == pytest.approx(0.1)
