"""What Ray Tune and MLflow cost a cell: sweeps of cells that do nothing, of 200, 1,000 and 2,000 cells.

Measured against: at most 0.15 s a cell at 200 cells, and the same per cell at 2,000 as at 200 (issue 2). The sweep is the real
one with debug=empty_cells: every cell is handed out by Tune to a warm worker, leaves a record, and becomes an MLflow run in
SQLite; it neither loads a model nor trains. Counted is the Tune phase (start of the workers and their imports included) plus
what is left to upload afterwards; plan and start of Ray are shown beside it.

Command: PYTHONPATH=. python tests/bench/bench_empty_cells.py [--cells 200 1000 2000] [--repeats 3]
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from bench_report import OUT, markdown, publish, spread
from sweep_process import timed_sweep

TARGET_S = 0.15
SWEEP = "ARCH=minilm CANDIDATES=pretrained MIRROR=../shared/data"
TASKS = ["rte", "mrpc", "cola", "wic"]
MOST_SEEDS = 1000
"""As many seeds a sweep takes."""
EMPTY = "debug=empty_cells suite.tasks=[{tasks}] suite.caps.train=200 suite.caps.validation=100 suite.caps.test=100"


def measure(n_cells: int, sweep: str) -> dict[str, Any]:
    """One sweep of ``n_cells`` empty cells (one base model, a task for every thousand, the rest seeds)."""
    folder = Path(tempfile.mkdtemp(prefix="startline-empty-"))
    try:
        n_tasks = -(-n_cells // MOST_SEEDS)
        tasks = ",".join(TASKS[:n_tasks])
        arguments = [*shlex.split(sweep), f"SEEDS={n_cells // n_tasks}", f"ARGS={EMPTY.format(tasks=tasks)}"]
        stages = timed_sweep(folder, arguments, accept=(1,))  # empty cells are recorded as failed
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if stages["uploaded"] != n_cells:
        raise SystemExit(f"{stages['uploaded']} runs in MLflow, expected {n_cells}")
    busy = stages["tune_s"] + stages["drain_s"]
    return {**stages, "summary": None, "n_cells": n_cells, "busy_s": busy, "per_cell_s": busy / n_cells}


def row(n_cells: int, runs: list[dict[str, Any]]) -> list[str]:
    """One line of the table."""

    def of(name: str, digits: int = 1) -> str:
        return spread([run[name] for run in runs], digits)

    plan = spread([run["before_s"] for run in runs], 1)
    cpu = spread([1000 * run["driver_cpu_s"] / n_cells for run in runs], 0)
    return [str(n_cells), str(len(runs)), of("per_cell_s", 3), of("tune_s"), of("drain_s"), cpu, plan]


def slope(by_size: dict[int, list[dict[str, Any]]]) -> float | None:
    """Seconds that one more cell costs, from the medians of the smallest and the largest size."""
    small, large = min(by_size), max(by_size)
    if small == large:
        return None
    busy = [statistics.median(run["busy_s"] for run in by_size[size]) for size in (small, large)]
    return (busy[1] - busy[0]) / (large - small)


def main() -> None:
    """Run all sizes in turn, so that a change of the machine's load meets every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[200, 1000, 2000], help="cells a sweep")
    parser.add_argument("--repeats", type=int, default=3, help="sweeps of each size")
    parser.add_argument("--sweep", default=SWEEP, help="variables of the sweep")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    by_size: dict[int, list[dict[str, Any]]] = {size: [] for size in given.cells}
    for _ in range(given.repeats):
        for size in given.cells:
            by_size[size].append(measure(size, given.sweep))
    columns = [
        "cells",
        "runs",
        "s per cell",
        "Tune phase, s",
        "upload after it, s",
        "driver CPU, ms per cell",
        "plan and start of Ray, s",
    ]
    table = markdown(columns, [row(size, runs) for size, runs in by_size.items()])
    first = statistics.median(run["per_cell_s"] for run in by_size[given.cells[0]])
    verdict = "met" if first <= TARGET_S else "missed"
    notes = [f"target {TARGET_S} s a cell at {given.cells[0]} cells: {first:.3f} s, {verdict}"]
    more = slope(by_size)
    if more is not None:
        notes.append(
            f"one more cell costs {1000 * more:.0f} ms; the rest of the first line is the start of the workers"
        )
    publish("empty_cells", table, {"runs": by_size, "slope_s": more}, out=given.out, notes=notes)


if __name__ == "__main__":
    main()
