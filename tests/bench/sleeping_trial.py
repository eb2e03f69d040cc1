"""A contributor whose training steps sleep, everything else of its cell being real; for bench_cold_fusion.py, not a benchmark itself."""

from __future__ import annotations

import os
import time

from ray_app.sweeps.recording import RecordedAttempt
from ray_app.sweeps.trial import CellTrial
from ray_app.training.finetune import Finetuning

SECONDS = "STARTLINE_BENCH_TRAIN_S"
"""Environment: seconds of training of one contributor."""


def sleeping_step(run: Finetuning) -> None:
    """One step of training by the clock: as long as its share of the whole, with no arithmetic."""
    rows = run._rows_of_step()
    time.sleep(float(os.environ[SECONDS]) / run.total_steps)
    run.progress.step += 1
    run.progress.examples_seen += len(rows)


class SleepingTrial(CellTrial):
    """A cell that loads its model and data, validates, tests, keeps its model and leaves its record as any other."""

    def _open(self) -> RecordedAttempt:
        Finetuning._train_step = sleeping_step  # type: ignore[method-assign]
        return super()._open()
