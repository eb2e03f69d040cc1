"""Sweep efficiency on two cores, side by side with the usual recipe in one run.

Measured: (sum of pure training and evaluation step seconds) / (2 slots x wall), and cells a minute, of ARCH=minilm on
tweet_ev_irony, rte, trec_coarse and mrpc from the mirror, 1 epoch, 2 seeds; wall is the Tune phase, and beside it the whole
process from its start to its end (imports, plan, tokenising, start of Ray, upload, ranking).
Against: efficiency >= 0.85, and >= 3x the cells a minute of the usual recipe (usual_recipe.py: Tuner, a function trainable with
transformers.Trainer, padding to max_length 128, MLflowLoggerCallback on SQLite, a fresh process per trial) at accuracies equal
within one standard error over the seeds (issue 2).
Variants tell the shares apart: both sides in fp32 and in bf16, and the recipe with padding to the batch. Same rows, batch size,
learning rate, schedule, epochs, seeds, length, threads and trials at a time everywhere; every run starts with empty caches.

Command (needs the extra `bench`, a quiet machine and about 90 minutes; --rows 300 for a try):
    PYTHONPATH=. python tests/bench/bench_sweep_efficiency.py [--variants ...] [--rows N] [--seeds 2] [--repeats 1]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench_report import OUT, markdown, publish, spread
from sweep_process import run_python, timed_sweep
from usual_data import write_usual_data

TASKS = ["tweet_ev_irony", "rte", "trec_coarse", "mrpc"]
SLOTS = 2
VARIANTS = {
    "startline": "Startline, as shipped (bf16 where the processor has it)",
    "startline-fp32": "Startline in fp32",
    "usual": "usual recipe (fp32, padded to max_length)",
    "usual-bf16": "usual recipe in bf16",
    "usual-bf16-longest": "usual recipe in bf16, padded to the batch",
}
Scores = dict[str, list[float]]
"""Task -> test accuracy of every seed, as fractions."""


@dataclass
class Measured:
    """One run of one variant; times in seconds."""

    variant: str
    n_cells: int
    tune_s: float
    total_s: float
    step_s: float
    scores: Scores
    load_average: float

    @property
    def efficiency(self) -> float:
        """Share of the two slots' time in the Tune phase that was pure steps."""
        return self.step_s / (SLOTS * self.tune_s)

    @property
    def total_efficiency(self) -> float:
        """The same over the whole process."""
        return self.step_s / (SLOTS * self.total_s)


@dataclass(frozen=True)
class Request:
    """What is run."""

    tasks: list[str]
    seeds: list[int]
    rows: int | None
    eval_rows: int | None
    mirror: Path

    @property
    def overrides(self) -> list[str]:
        """As overrides of the configuration."""
        caps = {"train": self.rows, "validation": self.eval_rows, "test": self.eval_rows}
        return [
            "arch=minilm",
            "candidates=pretrained",
            f"suite.tasks=[{','.join(self.tasks)}]",
            *(f"suite.caps.{split}={'null' if cap is None else cap}" for split, cap in caps.items()),
            f"seeds=[{','.join(map(str, self.seeds))}]",
            f"mirror='{self.mirror}'",
            "method.max_epochs=1",
            f"cluster.cpus={SLOTS}",
        ]


def run_startline(request: Request, variant: str, folder: Path) -> Measured:
    """One sweep, with a cache of its own."""
    from tracking.table import read_table, scored_cells

    precision = ["method.precision=fp32"] if variant.endswith("fp32") else []
    load = os.getloadavg()[0]
    times = timed_sweep(folder, [*request.overrides, *precision, f"cache='{folder / 'cache'}'"])
    cells = scored_cells(read_table(folder / "out" / "table" / "minilm.parquet")).sort_by([("seed", "ascending")])
    scores: Scores = {task: [] for task in request.tasks}
    for row in cells.select(["task", "score"]).to_pylist():
        scores[row["task"]].append(row["score"])
    return Measured(
        variant=variant,
        n_cells=cells.num_rows,
        tune_s=times["tune_s"],
        total_s=times["total_s"],
        step_s=times["summary"]["step_s"],
        scores=scores,
        load_average=load,
    )


def run_usual(request: Request, variant: str, folder: Path) -> Measured:
    """One run of the usual recipe."""
    asked = write_usual_data(request.overrides, folder / "data", slots=SLOTS)
    asked |= {"bf16": "bf16" in variant, "padding": "longest" if variant.endswith("longest") else "max_length"}
    (folder / "request.json").write_text(json.dumps(asked))
    result = folder / "result.json"
    script = Path(__file__).with_name("usual_recipe.py")
    load = os.getloadavg()[0]
    run_python([str(script), str(folder / "request.json"), str(result)], log=folder / "usual.log")
    outcome = json.loads(result.read_text())
    cells = sorted(outcome["cells"], key=lambda cell: cell["seed"])
    return Measured(
        variant=variant,
        n_cells=len(cells),
        tune_s=outcome["tune_s"],
        total_s=outcome["total_s"],
        step_s=sum(cell["step_s"] for cell in cells),
        scores={task: [c["accuracy"] for c in cells if c["task"] == task] for task in request.tasks},
        load_average=load,
    )


def speed_table(runs: Sequence[Measured]) -> str:
    """Speed and efficiency of every variant, and how many times as fast the first one is."""
    by_variant = {name: [run for run in runs if run.variant == name] for name in VARIANTS}
    ours = by_variant["startline"]
    rows = []
    for name, text in VARIANTS.items():
        mine = by_variant[name]
        if not mine:
            continue
        ratio = spread([_rate(a) / _rate(b) for a, b in zip(ours, mine, strict=False)]) if ours else "-"
        whole = (
            spread([_rate(a, whole=True) / _rate(b, whole=True) for a, b in zip(ours, mine, strict=False)])
            if ours
            else "-"
        )
        rows.append(
            [
                text,
                len(mine),
                mine[0].n_cells,
                spread([run.tune_s for run in mine], 0),
                spread([run.total_s for run in mine], 0),
                spread([run.step_s for run in mine], 0),
                spread([run.efficiency for run in mine]),
                spread([run.total_efficiency for run in mine]),
                spread([_rate(run) for run in mine]),
                ratio,
                whole,
            ]
        )
    columns = [
        "variant",
        "runs",
        "cells",
        "Tune phase, s",
        "whole process, s",
        "steps, s",
        "efficiency",
        "efficiency, whole process",
        "cells a minute",
        "Startline is x times as fast",
        "the same, whole process",
    ]
    return markdown(columns, rows)


def _rate(run: Measured, *, whole: bool = False) -> float:
    return 60 * run.n_cells / (run.total_s if whole else run.tune_s)


def accuracy_table(runs: Sequence[Measured], tasks: Sequence[str]) -> str:
    """Accuracy per task, mean over the seeds ± its standard error, and its difference from Startline's."""
    first = {run.variant: run for run in reversed(runs)}
    ours = first.get("startline")
    rows = []
    for task in tasks:
        for name, run in first.items():
            mean, error = mean_and_error(run.scores[task])
            row = [task, VARIANTS[name], f"{100 * mean:.2f} ± {100 * error:.2f}", "", ""]
            if ours is not None and run is not ours:
                base, base_error = mean_and_error(ours.scores[task])
                both = math.hypot(error, base_error)
                row[3:] = [f"{100 * (base - mean):+.2f} ± {100 * both:.2f}", _verdict(base - mean, both)]
            rows.append(row)
    return markdown(["task", "variant", "accuracy", "Startline minus it", "within one standard error"], rows)


def _verdict(difference: float, error: float) -> str:
    if math.isnan(error):
        return "one seed"
    return "yes" if abs(difference) <= error else "no"


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error (sample standard deviation / sqrt n); NaN error for one value."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.fmean(values), error


def verdicts(runs: Sequence[Measured]) -> list[str]:
    """The targets and what came."""
    by = {name: [run for run in runs if run.variant == name] for name in VARIANTS}
    notes = []
    if by["startline"]:
        got = statistics.median(run.efficiency for run in by["startline"])
        notes.append(f"efficiency over the Tune phase, target 0.85: {got:.2f}, {'met' if got >= 0.85 else 'missed'}")
    if by["startline"] and by["usual"]:
        ratio = statistics.median(_rate(a) / _rate(b) for a, b in zip(by["startline"], by["usual"], strict=False))
        notes.append(
            f"cells a minute against the usual recipe, target 3x: {ratio:.1f}x, {'met' if ratio >= 3 else 'missed'}"
        )
    loads = [run.load_average for run in runs]
    notes.append(f"load average of the machine before each run: {min(loads):.1f} to {max(loads):.1f}")
    return notes


def main() -> None:
    """Run the variants in turn, print both tables and write every number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--seeds", type=int, default=2, help="seeds 0 to n - 1")
    parser.add_argument("--rows", type=int, default=None, help="most training rows of a task (all)")
    parser.add_argument("--eval-rows", type=int, default=None, help="most validation and test rows of a task (all)")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--mirror", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    request = Request(
        tasks=given.tasks,
        seeds=list(range(given.seeds)),
        rows=given.rows,
        eval_rows=given.eval_rows,
        mirror=given.mirror.absolute(),
    )
    runs: list[Measured] = []
    for _ in range(given.repeats):
        for variant in given.variants:
            folder = Path(tempfile.mkdtemp(prefix=f"startline-{variant}-"))
            run = run_startline if variant.startswith("startline") else run_usual
            runs.append(run(request, variant, folder))
            shutil.rmtree(folder, ignore_errors=True)
            print(f"{variant}: Tune phase {runs[-1].tune_s:.0f} s, efficiency {runs[-1].efficiency:.2f}", flush=True)
    tables = f"{speed_table(runs)}\n\n{accuracy_table(runs, given.tasks)}"
    publish("sweep_efficiency", tables, {"runs": [asdict(run) for run in runs]}, out=given.out, notes=verdicts(runs))


if __name__ == "__main__":
    main()
