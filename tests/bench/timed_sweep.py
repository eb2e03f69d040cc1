"""`python -m ray_app sweep ...` with a clock on its stages, for the benchmarks; not a benchmark itself.

Command: PYTHONPATH=. python tests/bench/timed_sweep.py TIMES.json [what `python -m ray_app sweep` takes]

The sweep is the real one, in a process of its own; only its two public seams are wrapped: ``run_cells`` (the Tune phase) and
``Uploader.stop`` (records not yet in MLflow when the last cell ended). TIMES.json gets, in seconds:

- ``before_s``: from the start of the process to the Tune phase (imports, plan, tokenising, start of Ray);
- ``tune_s``: the Tune phase;
- ``drain_s``: uploading what is left;
- ``after_s``: stopping Ray, the sweep's own run, table and ranking;
- ``total_s``: the whole process;
and ``uploaded`` (runs written by the uploader), ``driver_cpu_s`` (CPU time of this process, which Tune, uploader and plan share).
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil


def main(times: Path, arguments: list[str]) -> int:
    """Run the sweep and write ``times``; returns the sweep's exit code."""
    from ray_app.__main__ import main as run_command
    from ray_app.sweeps import runner
    from ray_app.sweeps.uploader import Uploader

    born = psutil.Process(os.getpid()).create_time()
    marks: dict[str, tuple[float, float]] = {}
    uploaders: list[Uploader] = []

    def clocked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.time()
            try:
                return function(*args, **kwargs)
            finally:
                marks[name] = (began, time.time())

        return timed

    stop = clocked("drain", Uploader.stop)

    def noted_stop(self: Uploader, **kwargs: Any) -> int:
        uploaders.append(self)
        return int(stop(self, **kwargs))

    runner.run_cells = clocked("tune", runner.run_cells)
    Uploader.stop = noted_stop  # type: ignore[method-assign]
    code = run_command(["sweep", *arguments])
    ended = time.time()
    if "tune" not in marks or "drain" not in marks:
        raise SystemExit(f"the sweep ended with code {code} before any cell ran")
    began, finished = marks["tune"]
    used = time.process_time()
    stages = {
        "before_s": began - born,
        "tune_s": finished - began,
        "drain_s": marks["drain"][1] - marks["drain"][0],
        "after_s": ended - marks["drain"][1],
        "total_s": ended - born,
        "uploaded": sum(uploader.uploaded for uploader in uploaders),
        "driver_cpu_s": used,
        "exit_code": code,
    }
    times.parent.mkdir(parents=True, exist_ok=True)
    times.write_text(json.dumps(stages, indent=1))
    return code


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2:]))
