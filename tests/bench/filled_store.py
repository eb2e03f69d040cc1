"""Fills an MLflow store with made-up cells that look like real ones, for benchmarks; not a benchmark itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tracking.cells import digest
from tracking.records import CellRecord
from tracking.schema import Metric, Param, State, Tag
from tracking.store import TrackingStore

ARCH = "minilm"
PRETRAINED = "sentence-transformers/all-MiniLM-L6-v2"
_HYPERPARAMETERS = [
    "learning_rate",
    "weight_decay",
    "warmup_fraction",
    "batch_size",
    "max_epochs",
    "validate_every_examples",
    "early_stop_epsilon",
    "patience_examples",
    "max_grad_norm",
    "max_length",
    "precision",
    "distance_penalty",
]
SECOND_MS = 1000


def made_cells(n_bases: int, n_tasks: int, n_seeds: int, *, ended_ms: int, every_ms: int) -> Iterator[CellRecord]:
    """Cells of a complete study, the last ending at ``ended_ms``, one every ``every_ms``; the first base is pretrained."""
    rng = np.random.default_rng(20260101)
    easy = rng.uniform(0.5, 0.9, size=n_tasks)
    better = rng.normal(0.0, 0.02, size=n_bases)
    total = n_bases * n_tasks * n_seeds
    settings = digest(["benchmark", ARCH])
    number = 0
    for base in range(n_bases):
        for task in range(n_tasks):
            for seed in range(n_seeds):
                number += 1
                score = float(np.clip(easy[task] + better[base] + rng.normal(0.0, 0.01), 0.05, 0.99))
                end = ended_ms - (total - number) * every_ms
                yield _cell(base, task, seed, score=score, end=end, settings=settings)


def _cell(base: int, task: int, seed: int, *, score: float, end: int, settings: str) -> CellRecord:
    name = PRETRAINED if base == 0 else f"organisation-{base % 17}/base-model-{base:04d}"
    n_eval = 1000
    n_correct = round(score * n_eval)
    params = {
        Param.ARCH: ARCH,
        Param.BASE_MODEL: name,
        Param.BASE_REVISION: digest(["revision", base]),
        Param.TASK: f"task_{task:02d}",
        Param.TASK_REVISION: digest(["task", task]),
        Param.SPLIT_RULE: "site",
        Param.METRIC: "accuracy",
        Param.METHOD: "finetune",
        Param.SEED: str(seed),
        Param.RECIPE: "1",
        Param.SETTINGS: settings,
        Param.SERIES: settings,
        **{Param.HYPERPARAMETER + item: "0.0001" for item in _HYPERPARAMETERS},
        **{Param.CAP + split: "None" for split in ("train", "validation", "test")},
    }
    half = n_eval // 2
    right = (n_correct // 2, n_correct - n_correct // 2)
    predicted = (half + right[0] - right[1], half + right[1] - right[0])
    counts = {
        name: (half, predicted[index], right[index]) for index, name in enumerate(("entailment", "not_entailment"))
    }
    tags = {
        Tag.SWEEP: "20260101-000000-0000",
        Tag.ROLE: "target",
        Tag.BASELINE: "true" if base == 0 else "",
        Tag.NODE: "node-1",
        Tag.COMMIT: "0" * 40,
        Tag.ENVIRONMENT: json.dumps({"torch": "2.13.0", "transformers": "5.23.0", "ray": "2.60.0", "python": "3.11.7"}),
        Tag.CLASS_COUNTS: json.dumps(counts),
        Tag.MODEL_LICENCE: "apache-2.0",
        Tag.TASK_LICENCE: "mit",
    }
    metrics = {
        Metric.WALL_S: 30.0,
        Metric.LOAD_S: 1.0,
        Metric.TRAIN_S: 25.0,
        Metric.VALIDATE_S: 2.0,
        Metric.TEST_S: 2.0,
        Metric.SCORE: n_correct / n_eval,
        Metric.N_TRAIN: 3000.0,
        Metric.N_CORRECT: float(n_correct),
        Metric.N_EVAL: float(n_eval),
        Metric.N_INVALID: 0.0,
        Metric.BEST_VALIDATION_SCORE: score,
        Metric.EXAMPLES_SEEN: 3000.0,
        Metric.TRAIN_EXAMPLES_PER_S: 120.0,
        Metric.PEAK_MEM_BYTES: 9e8,
    }
    curve = tuple((1000 * (point + 1), score - 0.01 * (2 - point), 0.5 - 0.1 * point) for point in range(3))
    return CellRecord(
        key=digest(["cell", base, task, seed]),
        attempt="benchmark.000000",
        state=State.COMPLETE,
        arch=ARCH,
        params=params,
        tags=tags,
        metrics=metrics,
        curve=curve,
        started_ms=end - 30 * SECOND_MS,
        ended_ms=end,
    )


def open_store(folder: Path) -> TrackingStore:
    """The store that `make rank OUT=<folder>` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    uri = f"sqlite:///{folder.absolute()}/mlflow.db"
    return TrackingStore(uri, ARCH, artifact_root=str(folder.absolute() / "mlartifacts"))
