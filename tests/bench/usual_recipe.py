"""The usual recipe, as tutorials of Ray Tune, transformers and MLflow put it together; what bench_sweep_efficiency compares with.

A Tuner over a function trainable, a fresh process per trial, transformers.Trainer in it, MLflowLoggerCallback on SQLite. Every
trial loads its data from Parquet, tokenises them (with the cache that `datasets` keeps), loads the model, trains, validates
once an epoch, loads the best weights and tests them.

Command: PYTHONPATH=. python tests/bench/usual_recipe.py REQUEST.json RESULT.json

REQUEST.json: ``data`` (folder with <task>/{train,validation,test}.parquet, columns named below plus ``label``), ``tasks`` (name ->
{"columns": [...], "n_labels": n}), ``model`` (checkpoint folder), ``seeds``, ``slots`` (trials at a time), ``bf16``, ``padding``
("max_length" or "longest" in the batch) and the hyperparameters ``max_length``, ``batch_size``, ``learning_rate``,
``weight_decay``, ``warmup_fraction``, ``max_epochs``, ``max_grad_norm``. Needs ``accelerate``, as transformers.Trainer does.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "OMP_NUM_THREADS": "1",
}
"""As the other side of the comparison has it: on loopback, no niceness, no hub, one thread a trial."""


def train_cell(config: dict[str, Any]) -> None:
    """One trial: a task and a seed; reports accuracy and the seconds spent in training steps and evaluation."""
    import numpy as np
    import torch
    from ray import tune
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        default_data_collator,
    )

    torch.set_num_threads(1)
    task = config["tasks"][config["task"]]
    tokenizer = AutoTokenizer.from_pretrained(config["model"])
    data = load_data(config, tokenizer)
    model = AutoModelForSequenceClassification.from_pretrained(config["model"], num_labels=task["n_labels"])

    def accuracy(outcome: Any) -> dict[str, float]:
        return {"accuracy": float((np.argmax(outcome.predictions, axis=-1) == outcome.label_ids).mean())}

    clock = step_clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=training_arguments(config, folder),
            train_dataset=data["train"],
            eval_dataset=data["validation"],
            data_collator=default_data_collator
            if config["padding"] == "max_length"
            else DataCollatorWithPadding(tokenizer),
            compute_metrics=accuracy,
            callbacks=[clock],
        )
        trainer.train()
        tested = trainer.predict(data["test"]).metrics or {}
    tune.report(
        {
            "accuracy": tested["test_accuracy"],
            "train_step_s": clock.train_s,
            "evaluate_s": clock.evaluate_s + tested["test_runtime"],
        }
    )


def load_data(config: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """Train, validation and test of the trial's task, tokenised."""
    from datasets import Dataset

    columns = config["tasks"][config["task"]]["columns"]
    separator = f" {tokenizer.sep_token} "

    def encode(rows: dict[str, list[Any]]) -> Any:
        first, rest = rows[columns[0]], [rows[name] for name in columns[1:]]
        second = [separator.join(row) for row in zip(*rest, strict=True)] if rest else None
        padding = "max_length" if config["padding"] == "max_length" else False
        return tokenizer(first, second, truncation=True, max_length=config["max_length"], padding=padding)

    folder = Path(config["data"]) / config["task"]
    splits = {}
    for split in ("train", "validation", "test"):
        raw = Dataset.from_parquet(str(folder / f"{split}.parquet"))
        splits[split] = raw.map(encode, batched=True, remove_columns=columns)
    return splits


def training_arguments(config: dict[str, Any], folder: str) -> Any:
    """Trainer's arguments: the hyperparameters of the request, an evaluation and a checkpoint every epoch."""
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=config["batch_size"],
        per_device_eval_batch_size=config["batch_size"],
        learning_rate=config["learning_rate"],
        weight_decay=config["weight_decay"],
        warmup_steps=config["warmup_fraction"],
        num_train_epochs=config["max_epochs"],
        max_grad_norm=config["max_grad_norm"],
        lr_scheduler_type="linear",
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        bf16=config["bf16"],
        seed=config["seed"],
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
    )


def step_clock() -> Any:
    """A Trainer callback that sums the seconds of optimiser steps and of evaluation (the data loader's are in neither)."""
    from transformers import TrainerCallback

    class StepClock(TrainerCallback):
        train_s = 0.0
        evaluate_s = 0.0
        _began = 0.0

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self._began = time.perf_counter()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            self.train_s += time.perf_counter() - self._began

        def on_evaluate(self, *args: Any, metrics: dict[str, float] | None = None, **kwargs: Any) -> None:
            self.evaluate_s += (metrics or {}).get("eval_runtime", 0.0)

    return StepClock()


def main(request: Path, result: Path) -> None:
    """Run every task and seed of the request and write what came of it."""
    born = psutil.Process(os.getpid()).create_time()
    given = json.loads(request.read_text())
    work = result.parent.absolute()
    os.environ.update(ENVIRONMENT, HF_DATASETS_CACHE=str(work / "datasets"))
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    ray.init(num_cpus=given["slots"], include_dashboard=False, log_to_driver=False)
    space = {**given, "task": tune.grid_search(list(given["tasks"])), "seed": tune.grid_search(given["seeds"])}
    tuner = tune.Tuner(
        tune.with_resources(train_cell, {"cpu": 1}),
        param_space=space,
        run_config=tune.RunConfig(
            name="usual",
            storage_path=str(work / "tune"),
            callbacks=[MLflowLoggerCallback(tracking_uri=f"sqlite:///{work}/mlflow.db", experiment_name="usual")],
            verbose=0,
        ),
    )
    began = time.time()
    grid: Any = tuner.fit()
    ended = time.time()
    if grid.errors:
        raise SystemExit(f"{len(grid.errors)} trials failed; the first: {grid.errors[0]}")
    cells = [
        {
            "task": trial.config["task"],
            "seed": trial.config["seed"],
            "accuracy": trial.metrics["accuracy"],
            "step_s": trial.metrics["train_step_s"] + trial.metrics["evaluate_s"],
            "train_step_s": trial.metrics["train_step_s"],
        }
        for trial in grid
    ]
    ray.shutdown()
    times = {"before_s": began - born, "tune_s": ended - began, "total_s": time.time() - born}
    result.write_text(json.dumps({**times, "cells": cells}, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
