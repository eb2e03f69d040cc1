"""Runs `make cold-fusion` with contributors that sleep; for bench_cold_fusion.py, not a benchmark itself."""

from __future__ import annotations

import functools
import sys

from ray_app.__main__ import main
from ray_app.sweeps import runner
from tests.bench.sleeping_trial import SleepingTrial

if __name__ == "__main__":
    runner.run_cells = functools.partial(runner.run_cells, trainable=SleepingTrial)
    raise SystemExit(main(["cold-fusion", *sys.argv[1:]]))
