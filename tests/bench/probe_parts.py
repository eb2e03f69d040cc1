"""The parts of bench_probe, each measured side by side; not a benchmark itself."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import torch
from bench_report import ROOT

from analysis.proxies import PROXIES, prepare_rows
from ray_app.probing.backbone import BackboneShelf
from ray_app.probing.features import FeatureCache, FeatureSource
from ray_app.probing.probe import fit_probe
from ray_app.probing.settings import Pooling, ProbeConfig
from ray_app.training.batches import collate, in_length_order
from ray_app.training.settings import Precision
from ray_app.training.tokens import SPLITS, EncodedTask, Family, TaskFacts, encode_task

SINGLE_TEXT = ("cola", "trec_coarse", "poem_sentiment")
"""Tasks that transformer-ranker can be given: one text a row."""
MAX_LENGTH, EVAL_TOKENS = 128, 8192
Result = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What every part is given."""

    asked: argparse.Namespace
    data: Result
    """What write_usual_data says: checkpoint, tasks, folder of Parquet files."""
    folder: Path

    @property
    def model(self) -> Path:
        return Path(self.data["model"])

    def tables(self, task: str) -> dict[str, Any]:
        """The splits of a task."""
        return {split: pq.read_table(Path(self.data["data"], task, f"{split}.parquet")) for split in SPLITS}

    def encode(self, task: str, folder: Path) -> EncodedTask:
        """Tokenise a task anew."""
        from transformers import AutoTokenizer

        names = tuple(str(label) for label in range(self.data["tasks"][task]["n_labels"]))
        facts = TaskFacts(name=task, label_names=names, label_words=names, regression=False)
        return encode_task(
            folder,
            AutoTokenizer.from_pretrained(self.model, local_files_only=True),
            self.tables(task),
            facts,
            text_columns=self.data["tasks"][task]["columns"],
            family=Family.ENCODER,
            max_length=MAX_LENGTH,
        )

    def source(self, name: str = "m", folder: Path | None = None) -> FeatureSource:
        """The model as features are made of it."""
        return FeatureSource(
            base_model=name, revision="r", folder=folder or self.model, family=Family.ENCODER, precision=Precision.FP32
        )

    def rival(self, request: Result, path: str = "") -> Result:
        """Run the other side in a process of its own."""
        asked, answer = self.folder / "request.json", self.folder / "result.json"
        asked.write_text(json.dumps({"model": str(self.model), "threads": self.asked.threads, **request}))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *([path] if path else [])])}
        environment |= {
            "OMP_NUM_THREADS": str(self.asked.threads),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        script = str(Path(__file__).with_name("probe_rivals.py"))
        subprocess.run(
            [sys.executable, script, str(asked), str(answer)], check=True, env=environment, stdout=subprocess.DEVNULL
        )
        return json.loads(answer.read_text())


def probe_once(setting: Setting, task: EncodedTask, shelf: BackboneShelf) -> tuple[float, float]:
    """Seconds and test accuracy of a probe with nothing cached."""
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        cache = FeatureCache(Path(folder), limit_bytes=10**10)
        started = time.perf_counter()
        splits = [
            cache.features(setting.source(), task, split, shelf=shelf, max_tokens=EVAL_TOKENS) for split in SPLITS
        ]
        result = fit_probe(splits[0], splits[1], splits[2], task.facts, ProbeConfig())
        return time.perf_counter() - started, result.test.score


def bare_pass(task: EncodedTask, shelf: BackboneShelf, model: Path) -> float:
    """Seconds of the backbone alone over the same batches."""
    backbone = shelf.get(model, Family.ENCODER).model.base_model
    started = time.perf_counter()
    with torch.inference_mode():
        for split in SPLITS:
            for rows in in_length_order(task[split], max_tokens=EVAL_TOKENS):
                backbone(**collate(task[split], rows, pad_id=task.pad_id).inputs)
    return time.perf_counter() - started


def measure_overhead(setting: Setting) -> Result:
    """Probe against bare pass, alternating, the order swapped every time."""
    shelf, found = BackboneShelf(), {}
    for name in setting.asked.tasks:
        task = setting.encode(name, setting.folder / f"tokens-{name}")
        bare_pass(task, shelf, setting.model)
        bare, probe = [], []
        for repeat in range(setting.asked.repeats):
            for which in ("bare", "probe") if repeat % 2 else ("probe", "bare"):
                if which == "bare":
                    bare.append(bare_pass(task, shelf, setting.model))
                else:
                    probe.append(probe_once(setting, task, shelf)[0])
        found[name] = {"bare_s": bare, "probe_s": probe, "ratio": statistics.median(probe) / statistics.median(bare)}
    return found


def measure_trainer(setting: Setting) -> Result:
    """Probe from texts to test score against the Trainer doing the same."""
    found = {}
    for name in setting.asked.tasks:
        ours, theirs = [], []
        for repeat in range(setting.asked.repeats):
            with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
                started = time.perf_counter()
                task = setting.encode(name, Path(folder) / "tokens")
                shelf = BackboneShelf()
                shelf.get(setting.model, Family.ENCODER)
                before = time.perf_counter() - started
                seconds, accuracy = probe_once(setting, task, shelf)
                ours.append({"total_s": before + seconds, "accuracy": accuracy})
            request = {"side": "trainer", "data": str(Path(setting.data["data"], name)), **setting.data["tasks"][name]}
            request |= {
                "max_length": MAX_LENGTH,
                "batch_size": 32,
                "epochs": 3,
                "learning_rate": setting.asked.head_rate,
            }
            theirs.append(setting.rival(request))
            print(f"trainer {name} {repeat + 1}: {ours[-1]} against {theirs[-1]}", flush=True)
        pair = [statistics.median(run["total_s"] for run in side) for side in (ours, theirs)]
        found[name] = {"ours": ours, "theirs": theirs, "times_faster": pair[1] / pair[0]}
    return found


def measure_ranker(setting: Setting) -> Result:
    """Features and two scores of the training rows against transformer-ranker, and both on the same features."""
    found = {}
    for name in [name for name in setting.asked.tasks if name in SINGLE_TEXT]:
        table = setting.tables(name)["train"]
        (column,) = setting.data["tasks"][name]["columns"]
        ours, theirs = [], []
        for _ in range(setting.asked.repeats):
            with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
                run, features = _score_training_rows(setting, name, Path(folder))
            ours.append(run)
            np.save(setting.folder / "features.npy", features)
            request = {"side": "ranker", "texts": table[column].to_pylist(), "labels": table["label"].to_pylist()}
            request |= {"batch_size": 32, "features": str(setting.folder / "features.npy")}
            theirs.append(setting.rival(request, path=str(Path(setting.asked.ranker).absolute())))
            print(f"ranker {name}: {ours[-1]} against {theirs[-1]}", flush=True)
        pair = [statistics.median(run["embed_s"] + run["score_s"] for run in side) for side in (ours, theirs)]
        found[name] = {"ours": ours, "theirs": theirs, "times_faster": pair[1] / pair[0]}
    return found


def _score_training_rows(setting: Setting, name: str, folder: Path) -> tuple[Result, np.ndarray]:
    """Tokenise, embed and score the training rows of a task; the model is loaded before the clock starts, as theirs is."""
    from transformers import AutoTokenizer

    shelf = BackboneShelf()
    shelf.get(setting.model, Family.ENCODER)
    tables = setting.tables(name)
    tables |= {split: tables[split].slice(0, 1) for split in ("validation", "test")}  # only training rows are read
    names = tuple(str(label) for label in range(setting.data["tasks"][name]["n_labels"]))
    started = time.perf_counter()
    task = encode_task(
        folder / "tokens",
        AutoTokenizer.from_pretrained(setting.model, local_files_only=True),
        tables,
        TaskFacts(name=name, label_names=names, label_words=names, regression=False),
        text_columns=setting.data["tasks"][name]["columns"],
        family=Family.ENCODER,
        max_length=MAX_LENGTH,
    )
    cache = FeatureCache(folder / "features", limit_bytes=10**10)
    made = cache.features(setting.source(), task, "train", shelf=shelf, max_tokens=EVAL_TOKENS)
    seen = time.perf_counter()
    features = np.array(made.pooled(Pooling.MEAN_LAYERS))
    rows = prepare_rows(features, np.asarray(made.labels))
    scores = {name: PROXIES[name](rows) for name in ("h_score", "logme")}
    return {"embed_s": seen - started, "score_s": time.perf_counter() - seen, **scores}, features


def measure_scores(setting: Setting) -> Result:
    """Seconds of each score on 5,000 x 768 features, 20 classes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20, 5000)
    features = rng.normal(size=(5000, 768)) + 0.2 * rng.normal(size=(20, 768))[labels]
    rows = prepare_rows(features, labels, source_logits=rng.normal(size=(5000, 10)))
    found: Result = {}
    for name, score in PROXIES.items():
        times = []
        for _ in range(setting.asked.repeats):
            started, cpu = time.perf_counter(), time.process_time()
            score(rows)
            times.append((time.perf_counter() - started, time.process_time() - cpu))
        found[name] = {"wall_s": [wall for wall, _ in times], "cpu_s": [cpu for _, cpu in times]}
    return found


def measure_memory(setting: Setting) -> Result:
    """Many candidates on one task: memory of the process after each, in MB."""
    name = setting.asked.tasks[0]
    task = setting.encode(name, setting.folder / f"tokens-{name}")
    process, shelf, sizes = psutil.Process(), BackboneShelf(), []
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        cache = FeatureCache(Path(folder) / "features", limit_bytes=50 * 10**6)
        for number in range(setting.asked.candidates):
            candidate = Path(folder) / f"candidate-{number}"
            candidate.symlink_to(setting.model, target_is_directory=True)
            source = setting.source(f"candidate-{number}", candidate)
            made = cache.features(source, task, "test", shelf=shelf, max_tokens=EVAL_TOKENS)
            PROXIES["h_score"](prepare_rows(made.pooled(Pooling.MEAN), np.asarray(made.labels)))
            sizes.append(process.memory_info().rss / 1e6)
        stored = sum(path.stat().st_size for path in (Path(folder) / "features").rglob("*.npy")) / 1e6
    settled = sizes[len(sizes) // 10 :]
    return {
        "candidates": len(sizes),
        "seconds": time.perf_counter() - started,
        "first_mb": settled[0],
        "last_mb": settled[-1],
        "largest_mb": max(settled),
        "cache_mb": stored,
    }


MEASURES: dict[str, Callable[[Setting], Result]] = {
    "overhead": measure_overhead,
    "trainer": measure_trainer,
    "ranker": measure_ranker,
    "scores": measure_scores,
    "memory": measure_memory,
}
