"""The training core alone on one device: examples a second and share of the device's measured matrix rate.

Measured: RoBERTa-base and T5-small (published sizes, random weights, built on the spot), batch 256, bf16, training steps only;
micro-batches cut by length (as shipped) against rows padded to max_length; 1, 2, 4 and 8 cells sharing the card (1 and 2 on a
CPU), each a process of its own. Lengths are drawn from a log-normal distribution (median 30 tokens, standard deviation of the
logarithm 0.45, at most 128; the middle of the 35 tasks of the mirror), seed 0. Against: the rate of one large bf16 matrix product
measured on the same device just before. Operations: see training_shapes.Work; padding counts for nothing, so that the share is
that of useful work.

Runs where only torch, transformers, datasets, pyarrow and what they bring are installed: it imports ray_app.training and no other
part of the application; where ray, mlflow, hydra, scipy, scikit-learn, psutil or accelerate are installed they are hidden.

Command: PYTHONPATH=. python tests/bench/bench_training_core.py
    A small CPU run: --shapes roberta-base t5-small --layers 2 --cells 1 2 --steps 2 --warm-up 1
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from bench_report import OUT, markdown, publish, spread
from device import describe_device, matrix_rate, synchronize
from training_shapes import FACTS, SHAPES, Lengths, build_checkpoint, encode_texts, work_of

ABSENT = ("ray", "mlflow", "hydra", "omegaconf", "scipy", "sklearn", "psutil", "accelerate")
PADDINGS = ("by length", "to max_length")


@dataclass(frozen=True, kw_only=True)
class Cells:
    """What is run at once."""

    shape: str
    checkpoint: str
    encoded: str
    device: str
    precision: str
    padding: str
    micro_batch_tokens: int
    batch: int
    steps: int
    warm_up: int
    threads: int
    n_cells: int


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What one cell did between the common start and its end."""

    seconds: float
    examples: int
    tokens: int
    operations: float
    peak_mem_bytes: int


def hide_extras() -> None:
    """Make what a bare machine lacks unimportable here too, so that a run shows that the training core needs none of it."""
    for name in ABSENT:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def set_up(device: str, threads: int) -> None:
    """As a worker of a sweep does."""
    hide_extras()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch
    import transformers

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if device == "cuda":
        torch.cuda.init()


@contextmanager
def padded(padding: str, longest: int) -> Iterator[None]:
    """Within it the training core pads as asked; as shipped it does so by length."""
    from ray_app.training import finetune

    if padding == PADDINGS[0]:
        yield
        return
    cut, collate = finetune.cut, finetune.collate

    def cut_evenly(rows: np.ndarray, lengths: np.ndarray, *, max_tokens: int) -> list[np.ndarray]:
        return cut(rows, np.full_like(lengths, longest), max_tokens=max_tokens)

    def collate_fully(split: Any, rows: np.ndarray, *, pad_id: int) -> Any:
        return collate(split, rows, pad_id=pad_id, pad_to=longest)

    with mock.patch.multiple(finetune, cut=cut_evenly, collate=collate_fully):
        yield


def train_cell(number: int, cells: Cells, start: Any, results: Any) -> None:
    """One cell in a process of its own: load, warm up, wait for the others, train ``steps`` steps."""
    set_up(cells.device, cells.threads)
    from ray_app.training.finetune import Finetuning
    from ray_app.training.models import load_model
    from ray_app.training.randomness import epoch_order
    from ray_app.training.settings import ExecutionConfig, FinetuneConfig, Precision
    from ray_app.training.tokens import EncodedTask

    task = EncodedTask(Path(cells.encoded))
    loaded = load_model(Path(cells.checkpoint), FACTS, SHAPES[cells.shape])
    config = FinetuneConfig(
        batch_size=cells.batch,
        max_epochs=1,
        validate_every_examples=10**9,
        max_length=task.max_length,
        precision=Precision(cells.precision),
    )
    execution = ExecutionConfig(micro_batch_tokens=cells.micro_batch_tokens, threads=cells.threads)
    run = Finetuning(loaded, task, config, execution, seed=number, device=cells.device)
    lengths = task["train"].lengths
    with padded(cells.padding, task.max_length):
        for _ in range(cells.warm_up):
            run.advance(due=lambda: True)
        synchronize(cells.device)
        start.wait()
        began = time.perf_counter()
        for _ in range(cells.steps):
            run.advance(due=lambda: True)
        synchronize(cells.device)
        seconds = time.perf_counter() - began
    order = epoch_order(len(lengths), seed=number, epoch=0)
    trained = lengths[order[cells.warm_up * cells.batch : (cells.warm_up + cells.steps) * cells.batch]]
    ran = Ran(
        seconds=seconds,
        examples=len(trained),
        tokens=int(trained.sum()),
        operations=work_of(loaded.model, SHAPES[cells.shape]).of(trained),
        peak_mem_bytes=run.progress.peak_mem_bytes,
    )
    results.put(asdict(ran))


def run_cells(cells: Cells) -> list[Ran]:
    """Run the cells at once, each in its own process; returns what each did.

    Raises:
        SystemExit: one of them failed.
    """
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(cells.n_cells), context.Queue()
    processes = [
        context.Process(target=train_cell, args=(number, cells, start, results)) for number in range(cells.n_cells)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit(f"{cells.n_cells} cells of {cells.shape} {cells.padding}: a process failed, see above")
    return [Ran(**results.get()) for _ in processes]


def row(cells: Cells, runs: list[list[Ran]], rate: float) -> list[str]:
    """One line of the table."""
    longest = [max(ran.seconds for ran in run) for run in runs]
    examples = [sum(ran.examples for ran in run) / taken for run, taken in zip(runs, longest, strict=True)]
    tokens = [sum(ran.tokens for ran in run) / taken for run, taken in zip(runs, longest, strict=True)]
    share = [100 * sum(r.operations for r in run) / taken / rate for run, taken in zip(runs, longest, strict=True)]
    memory = max(ran.peak_mem_bytes for run in runs for ran in run) / 1e9
    return [
        cells.shape,
        cells.padding,
        str(cells.micro_batch_tokens),
        str(cells.n_cells),
        str(len(runs)),
        spread(examples, 1),
        spread(tokens, 0),
        spread(share, 1),
        f"{memory:.2f}",
    ]


COLUMNS = [
    "shape",
    "padding",
    "micro-batch, tokens",
    "cells at once",
    "runs",
    "examples/s, all cells",
    "tokens/s without padding",
    "share of the matrix rate, %",
    "peak memory of a cell, GB",
]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, with defaults that suit the device."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device, choices=("cuda", "cpu"))
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--cells", type=int, nargs="+", default=[1, 2, 4, 8] if device == "cuda" else [1, 2])
    parser.add_argument("--paddings", nargs="+", default=list(PADDINGS), choices=PADDINGS)
    parser.add_argument(
        "--micro-batch-tokens", type=int, nargs="+", default=[4096, 32768] if device == "cuda" else [4096]
    )
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20 if device == "cuda" else 4)
    parser.add_argument("--warm-up", type=int, default=5 if device == "cuda" else 1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--layers", type=int, default=None, help="fewer layers than the published model")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--precision", default="bf16", choices=("bf16", "fp32"))
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of a cell")
    parser.add_argument("--out", type=Path, default=OUT)
    return parser.parse_args(arguments)


def plan(given: argparse.Namespace, folder: Path) -> list[Cells]:
    """Build the checkpoints and texts, and list what is run."""
    lengths = Lengths(longest=given.max_length)
    planned = []
    for shape in given.shapes:
        checkpoint = build_checkpoint(shape, folder / shape, layers=given.layers)
        n_rows = given.batch * (given.steps + given.warm_up + 1)
        encoded = encode_texts(shape, checkpoint, folder / f"{shape}-tokens", n_rows=n_rows, lengths=lengths)
        planned += [
            Cells(
                shape=shape,
                checkpoint=str(checkpoint),
                encoded=str(encoded.folder),
                device=given.device,
                precision=given.precision,
                padding=padding,
                micro_batch_tokens=tokens,
                batch=given.batch,
                steps=given.steps,
                warm_up=given.warm_up,
                threads=given.threads,
                n_cells=n_cells,
            )
            for tokens in given.micro_batch_tokens
            for n_cells in given.cells
            for padding in given.paddings
        ]
    return planned


def report(given: argparse.Namespace, runs: dict[Cells, list[list[Ran]]], rates: list[float]) -> None:
    """Write the table and the numbers behind it of all that has run so far."""
    measured = {cells: found for cells, found in runs.items() if found}
    table = markdown(COLUMNS, [row(cells, found, statistics.median(rates)) for cells, found in measured.items()])
    reduced = f"{given.layers} layers instead of the published number" if given.layers else "all layers"
    notes = [
        f"device: {describe_device(given.device)}; {given.precision} matrix rate {spread([r / 1e12 for r in rates], 3)} TFLOP/s (all "
        f"threads); batch {given.batch}, {given.steps} steps after {given.warm_up}, {reduced}, {given.threads} thread a cell",
        f"lengths: log-normal, median 30, log-sd 0.45, at most {given.max_length}, seed 0",
    ]
    if given.device == "cpu":
        notes.append("no GPU here: the rows for a CUDA device are not measured")
    results = {
        "matrix_rates": rates,
        "runs": [
            {**asdict(cells), "cells": [[asdict(ran) for ran in run] for run in found]}
            for cells, found in measured.items()
        ],
    }
    publish("training_core", table, results, out=given.out, notes=notes)


def main() -> None:
    """Measure the matrix rate, then every combination, in rounds; every row is told at once, every round is written."""
    given = parse()
    set_up(given.device, given.threads)
    rates = [matrix_rate(given.device, given.precision, os.cpu_count() or 1) for _ in range(3)]
    with tempfile.TemporaryDirectory(prefix="startline-core-") as temporary:
        planned = plan(given, Path(temporary))
        runs: dict[Cells, list[list[Ran]]] = {cells: [] for cells in planned}
        for _ in range(given.repeats):
            for cells in planned:
                runs[cells].append(run_cells(cells))
                print(" | ".join(row(cells, runs[cells], statistics.median(rates))), flush=True)
            report(given, runs, rates)


if __name__ == "__main__":
    main()
