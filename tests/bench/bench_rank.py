"""`make rank` on 10,000 cells, and the sync of 500 new runs on top of them.

Measured against: at most 3 s from the snapshot, and at most 5 s for the sync of 500 new runs (issue 2). The cells are made up
(100 base models x 20 tasks x 5 seeds) and written as real MLflow runs in SQLite, through the store's own writer; that takes some
minutes and is done once (--work keeps it). Timed are whole commands in processes of their own, imports included: `rank` when all
is known (the usual case), right after new runs (sync, ranking and the base runs that changed), and with REBUILD=1; and inside one
process the sync alone, of 500 new runs and of everything, also through MLflow's client as for a store that is no SQLite file.

Command: PYTHONPATH=. python tests/bench/bench_rank.py [--work outputs/bench/rank_store] [--repeats 5] [--cells 10000] [--new 500]
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

from bench_report import OUT, markdown, publish, spread
from filled_store import ARCH, made_cells, open_store
from sweep_process import run_python

N_TASKS, N_SEEDS = 20, 5
RANK_S, SYNC_S = 3.0, 5.0
EVERY_MS = 10_000
Times = dict[str, list[tuple[float, float]]]
"""What was timed -> (seconds by the clock, CPU seconds) of every run."""


def fill(folder: Path, n_cells: int) -> float:
    """Write the cells, unless the folder holds them; returns the seconds it took (0 where they were there)."""
    done = folder / "filled.txt"
    if done.exists() and done.read_text() == str(n_cells):
        return 0.0
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    store = open_store(folder)
    bases = -(-n_cells // (N_TASKS * N_SEEDS))
    ended = int(time.time() * 1000) - 3_600_000
    cells = made_cells(bases, N_TASKS, N_SEEDS, ended_ms=ended, every_ms=EVERY_MS)
    for number, record in enumerate(itertools.islice(cells, n_cells)):
        store.write_cell(record)
        if number % 1000 == 999:
            print(f"{number + 1} runs written, {time.perf_counter() - began:.0f} s", flush=True)
    done.write_text(str(n_cells))
    return time.perf_counter() - began


def add(folder: Path, n_cells: int, n_new: int) -> None:
    """Write more cells, of base models that the store does not have yet, ending now."""
    store = open_store(folder)
    bases = -(-(n_cells + n_new) // (N_TASKS * N_SEEDS)) + 1
    cells = made_cells(bases, N_TASKS, N_SEEDS, ended_ms=int(time.time() * 1000), every_ms=1000)
    for record in itertools.islice(cells, n_cells, n_cells + n_new):
        store.write_cell(record)


def time_rank(folder: Path, *more: str) -> tuple[float, float]:
    """One `rank` command as a process."""
    began = time.perf_counter()
    cpu_s = run_python(["-m", "ray_app", "rank", f"ARCH={ARCH}", f"OUT={folder}", *more], log=folder / "rank.log")
    return time.perf_counter() - began, cpu_s


def time_sync(folder: Path, snapshot: Path, *, expected: int, through_client: bool = False) -> tuple[float, float]:
    """One sync in this process; ``expected`` new runs must be found."""
    from tracking import table

    uri = f"sqlite:///{folder.absolute()}/mlflow.db"
    reader = (lambda uri, experiment: None) if through_client else table.open_sqlite_runs
    with mock.patch.object(table, "open_sqlite_runs", reader):
        began, used = time.perf_counter(), time.process_time()
        _, report = table.sync_table(uri, ARCH, snapshot)
        taken = time.perf_counter() - began, time.process_time() - used
    if report.n_new != expected:
        raise SystemExit(f"the sync read {report.n_new} runs, expected {expected}")
    return taken


def measure(folder: Path, given: argparse.Namespace, times: Times) -> None:
    """One round on a copy of the store, so that every round adds to the same 10,000."""
    with tempfile.TemporaryDirectory(prefix="startline-rank-") as temporary:
        copy = Path(temporary) / "out"
        shutil.copytree(folder, copy)
        snapshot = copy / "table" / f"{ARCH}.parquet"
        kept = copy / "before.parquet"
        times["rank without a snapshot (all base runs written)"].append(time_rank(copy))
        times["rank from the snapshot"].append(time_rank(copy))
        shutil.copy(snapshot, kept)
        add(copy, given.cells, given.new)
        for name, through_client in ((f"sync of {given.new} new runs", False), (_CLIENT.format(given.new), True)):
            shutil.copy(kept, snapshot)
            times[name].append(time_sync(copy, snapshot, expected=given.new, through_client=through_client))
        shutil.copy(kept, snapshot)
        times[f"rank with {given.new} new runs (base runs rewritten)"].append(time_rank(copy))
        times["rank with REBUILD=1"].append(time_rank(copy, "REBUILD=1"))
        snapshot.unlink()
        times["sync of everything"].append(time_sync(copy, snapshot, expected=given.cells + given.new))


_CLIENT = "sync of {} new runs through MLflow's client"


def main() -> None:
    """Fill once, measure ``--repeats`` times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--new", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", type=Path, default=OUT / "rank_store", help="where the filled store is kept")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    filled_s = fill(given.work, given.cells)
    times: Times = {
        "rank from the snapshot": [],
        f"sync of {given.new} new runs": [],
        _CLIENT.format(given.new): [],
        f"rank with {given.new} new runs (base runs rewritten)": [],
        "rank without a snapshot (all base runs written)": [],
        "rank with REBUILD=1": [],
        "sync of everything": [],
    }
    loads: list[float] = []
    for _ in range(given.repeats):
        loads.append(os.getloadavg()[0])
        measure(given.work, given, times)
    targets: dict[str, Any] = {"rank from the snapshot": RANK_S, f"sync of {given.new} new runs": SYNC_S}
    rows = []
    for name, taken in times.items():
        target = targets.get(name)
        clock, cpu = [run[0] for run in taken], [run[1] for run in taken]
        verdict = "" if target is None else ("met" if statistics.median(clock) <= target else "missed")
        rows.append([name, len(taken), spread(clock), spread(cpu), "" if target is None else f"{target:.0f}", verdict])
    notes = [
        f"{given.cells} cells of {-(-given.cells // (N_TASKS * N_SEEDS))} base models on {N_TASKS} tasks, {N_SEEDS} seeds each",
        f"load average of the machine before each round: {min(loads):.1f} to {max(loads):.1f}",
    ]
    if filled_s:
        notes.append(f"filling the store took {filled_s:.0f} s, {1000 * filled_s / given.cells:.0f} ms a run")
    table = markdown(["what", "runs", "s by the clock", "CPU s", "target, s", ""], rows)
    publish("rank", table, {"seconds": times, "loads": loads, "filled_s": filled_s}, out=given.out, notes=notes)


if __name__ == "__main__":
    main()
