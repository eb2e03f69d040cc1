"""Starts one clocked sweep in a process of its own, for the benchmarks; not a benchmark itself."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench_report import ROOT

TIMED_SWEEP = Path(__file__).with_name("timed_sweep.py")


def run_python(arguments: Sequence[str], *, log: Path, accept: Sequence[int] = (0,)) -> float:
    """Run this Python from the repository root, one thread a process; its output goes to ``log``.

    Args:
        arguments: a script (or -m and a module) and what it is given.
        log: file for what it prints.
        accept: exit codes that are in order.

    Returns:
        CPU seconds it took, which say more than the clock where others load the machine.

    Raises:
        SystemExit: it ended with a code that is not in ``accept``; the end of the log is shown.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with log.open("w") as sink:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment,
            stdout=sink,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode not in accept:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise SystemExit(f"{' '.join(arguments)} ended with code {done.returncode}; see {log}\n{tail}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def timed_sweep(folder: Path, arguments: Sequence[str], *, accept: Sequence[int] = (0,)) -> dict[str, Any]:
    """Run a sweep into ``folder``; returns its stages in seconds with ``summary``, its summary.json."""
    times = folder / "times.json"
    run_python(
        [str(TIMED_SWEEP), str(times), f"OUT={folder / 'out'}", *arguments], log=folder / "sweep.log", accept=accept
    )
    if not times.exists():  # it says why itself, with a code that may be accepted
        raise SystemExit(f"the sweep measured nothing:\n{(folder / 'sweep.log').read_text(errors='replace')[-3000:]}")
    found = sorted((folder / "out" / "sweep").glob("*/summary.json"))
    return {**json.loads(times.read_text()), "summary": json.loads(found[-1].read_text())}
