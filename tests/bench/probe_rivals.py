"""What bench_probe compares with: the head of a frozen model under transformers.Trainer, and the package transformer-ranker.

Command: PYTHONPATH=. python tests/bench/probe_rivals.py REQUEST.json RESULT.json
    For the ranker: PYTHONPATH=.:FOLDER, FOLDER made by
    `pip install --no-deps --target FOLDER transformer-ranker torchmetrics lightning-utilities` (its other requirements are ours).

REQUEST.json: ``side`` ("trainer" or "ranker"), ``model`` (checkpoint folder), ``threads``, and
- trainer: ``data`` (folder with {train,validation,test}.parquet), ``columns``, ``n_labels``, ``max_length``, ``batch_size``, ``epochs``,
  ``learning_rate``. The backbone is frozen, batches are padded to their longest row (DataCollatorWithPadding), validation once an
  epoch with the best epoch kept, as tutorials have it. Needs ``accelerate``.
- ranker: ``texts``, ``labels``, ``batch_size``, and ``features`` (.npy with our features of the same rows) to be scored by its
  estimators too.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch


def train_head(request: dict[str, Any]) -> dict[str, float]:
    """Train and test the head of a frozen model; seconds of everything after the imports, and of training and evaluation alone."""
    from datasets import load_dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    torch.manual_seed(0)
    started = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(request["model"])
    columns = request["columns"]
    files = {split: str(Path(request["data"], f"{split}.parquet")) for split in ("train", "validation", "test")}
    with tempfile.TemporaryDirectory() as folder:
        data = load_dataset("parquet", data_files=files, cache_dir=folder)
        data = data.map(
            lambda rows: tokenizer(
                *(rows[name] for name in columns), truncation=True, max_length=request["max_length"]
            ),
            batched=True,
            remove_columns=columns,
        )
        model = AutoModelForSequenceClassification.from_pretrained(request["model"], num_labels=request["n_labels"])
        for parameter in model.base_model.parameters():
            parameter.requires_grad_(False)
        arguments = TrainingArguments(
            output_dir=folder, num_train_epochs=request["epochs"], per_device_train_batch_size=request["batch_size"],
            per_device_eval_batch_size=request["batch_size"], learning_rate=request["learning_rate"], eval_strategy="epoch",
            save_strategy="epoch", load_best_model_at_end=True, metric_for_best_model="accuracy", report_to=[],
            disable_tqdm=True, seed=0, use_cpu=not torch.cuda.is_available(),
        )  # fmt: skip
        trainer = Trainer(
            model=model, args=arguments, train_dataset=data["train"], eval_dataset=data["validation"],
            data_collator=DataCollatorWithPadding(tokenizer), compute_metrics=_accuracy,
        )  # fmt: skip
        ready = time.perf_counter()
        trainer.train()
        score = (trainer.predict(data["test"]).metrics or {})["test_accuracy"]
    now = time.perf_counter()
    return {"total_s": now - started, "train_and_test_s": now - ready, "accuracy": score}


def _accuracy(outcome: Any) -> dict[str, float]:
    return {"accuracy": float((np.argmax(outcome.predictions, axis=-1) == outcome.label_ids).mean())}


def rank_with_package(request: dict[str, Any]) -> dict[str, float]:
    """Embed and score with transformer-ranker (all layers averaged, then words), and score our features with its estimators."""
    from transformer_ranker.embedder import Embedder
    from transformer_ranker.estimators import HScore, LogME

    labels = torch.tensor(request["labels"])
    started = time.perf_counter()
    embedder = Embedder(request["model"], layer_ids="all", layer_mean=True, sentence_pooling="mean", device=None)
    loaded = time.perf_counter()
    embedded = embedder.embed(request["texts"], batch_size=request["batch_size"], show_progress=False)
    matrix = torch.stack([rows[0] for rows in embedded]).cpu()
    seen = time.perf_counter()
    scores = {"h_score": HScore().fit(matrix, labels), "logme": LogME().fit(matrix, labels)}
    done = time.perf_counter()
    ours = torch.from_numpy(np.load(request["features"]))
    return {
        "load_s": loaded - started,
        "embed_s": seen - loaded,
        "score_s": done - seen,
        **scores,
        "h_score_of_our_features": HScore().fit(ours, labels),
        "logme_of_our_features": LogME().fit(ours, labels),
    }


def main(request: Path, result: Path) -> None:
    """Run one side in this process."""
    asked = json.loads(request.read_text())
    torch.set_num_threads(asked["threads"])
    side = {"trainer": train_head, "ranker": rank_with_package}[asked["side"]]
    result.write_text(json.dumps(side(asked)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
