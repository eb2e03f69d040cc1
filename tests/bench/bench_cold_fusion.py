"""What an iteration of `make cold-fusion` costs besides its contributors' training: 8 contributors of 30 s each, ARCH=minilm.

Measured against: at most 10 % (issue 7). The run is the real one, through the front door, but for the training steps, which sleep
for 30 s in all: so 8 contributors at a time can be measured on a machine that has fewer cores, and the training takes exactly what
it is said to take. Real are: handing out cells, loading the base model and data, validation and test, storing 8 models of 22.7 M
parameters, records, fusing, digest, MLflow. Where the machine has fewer cores than contributors, these run one after the other and
the figure is an upper bound. The first iteration includes starting the workers and is shown apart.

Columns: wall is from asking for the contributions to the stored base model; contributor is the longest of its cells, training and
all else; the overhead is wall - training, as a share of training; of it, machinery is what is not inside a contributor's cell.

Command: PYTHONPATH=. python tests/bench/bench_cold_fusion.py [--iterations 4] [--train-s 30]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from bench_report import ROOT, markdown, publish

TARGET = 0.10
ARGUMENTS = [
    "EXPERIMENT=cold_fusion_minilm", "MIRROR=../shared/data", "SEEDS=1", "cold_fusion.only=[plain]",
    "cold_fusion.evaluate={curve: false, probe: false, few_shot: null}", "TASKS=wic",
    "cold_fusion.baselines={singles: false, fuse_once: false, multitask: false}",
    "cold_fusion.caps={train: 320, validation: 64, test: 64}", "method.validate_every_examples=100000",
]  # fmt: skip


def measure(iterations: int, train_s: float) -> list[dict[str, Any]]:
    """One run; a row for every iteration."""
    folder = Path(tempfile.mkdtemp(prefix="startline-cold-"))
    try:
        environment = {
            **os.environ,
            "STARTLINE_BENCH_TRAIN_S": str(train_s),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }
        arguments = [*ARGUMENTS, f"OUT={folder}", f"ITERATIONS={iterations}", "cluster.cpus=8", "suite.caps.train=32"]
        command = [sys.executable, str(ROOT / "tests" / "bench" / "sleeping_fusion.py"), *arguments]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
        cells = {row["key"]: row for row in pq.read_table(folder / "table" / "minilm.parquet").to_pylist()}
        with (folder / "cold-fusion" / "cold" / "iterations.csv").open(newline="") as file:
            stored = [
                Path(row["folder"]).parent / f"iteration-{int(row['iteration']):04d}.json"
                for row in csv.DictReader(file)
            ]
        return [row_of(json.loads(path.read_text()), cells) for path in stored]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def row_of(iteration: dict[str, Any], cells: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Times of one iteration, seconds."""
    made = [cells[one["key"]] for one in iteration["contributions"]]
    wall = (iteration["ended_ms"] - iteration["began_ms"]) / 1000
    train = statistics.mean(row["train_s"] for row in made)
    longest = max(row["wall_s"] for row in made)
    return {
        "iteration": iteration["number"],
        "contributors": len(made),
        "wall_s": wall,
        "train_s": train,
        "contributor_s": longest,
        "fuse_s": iteration["fuse_s"],
        "overhead": wall / train - 1,
        "machinery": (wall - longest) / train,
    }


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=4)
    parser.add_argument("--train-s", type=float, default=30.0)
    given = parser.parse_args()
    rows = measure(given.iterations, given.train_s)
    columns = ["iteration", "contributors", "wall_s", "train_s", "contributor_s", "fuse_s", "overhead", "machinery"]
    table = [
        [f"{row[name]:.3g}" if isinstance(row[name], float) else str(row[name]) for name in columns] for row in rows
    ]
    warm = [row["overhead"] for row in rows[1:]]
    note = (
        f"overhead of warm iterations: {100 * statistics.median(warm):.1f} % (at most {100 * TARGET:.0f} % asked)"
        if warm
        else ""
    )
    publish("cold_fusion", markdown(columns, table), {"rows": rows, "target": TARGET}, notes=[note])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
