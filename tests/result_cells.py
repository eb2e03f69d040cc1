"""Small result tables, written cell by cell."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from tracking.schema import cell_schema

PRETRAINED = "acme/base"
N_EVAL = 200
"""Rows of every test set."""


def cell(base: str, task: str, score: float | None, **changes: Any) -> dict[str, Any]:
    """One row of a result table: an own finetune, seed 0, with counts that agree with its score."""
    seed = changes.get("seed", 0)
    identity = f"{base}|{task}|{seed}|{changes.get('role', 'target')}|{changes.get('method', 'finetune')}"
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return {
        "run_id": f"run{key}",
        "kind": "cell",
        "key": key,
        "attempt": "a1",
        "state": "complete",
        "role": "target",
        "arch": "acme/arch",
        "base_model": base,
        "task": task,
        "method": "finetune",
        "metric": "accuracy",
        "seed": seed,
        "settings": "5e77195",
        "score": score,
        "n_correct": None if score is None else round(score * N_EVAL),
        "n_eval": None if score is None else N_EVAL,
        "end_time_ms": 1_000,
    } | changes


def baseline_cells(scores: Mapping[str, Iterable[float]], name: str = PRETRAINED) -> list[dict[str, Any]]:
    """Cells of the pretrained model: scores by task, one a seed."""
    return [
        cell(name, task, score, seed=seed, baseline="true")
        for task, values in scores.items()
        for seed, score in enumerate(values)
    ]


def model_cells(name: str, scores: Mapping[str, float], **changes: Any) -> list[dict[str, Any]]:
    """Cells of a base model: a score a task."""
    return [cell(name, task, score, **changes) for task, score in scores.items()]


def result_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """The rows as a result table, what they do not say null."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=cell_schema())
