"""Loaded by every Python process of a sweep under test: notes training steps, slows them down, and can set the clock back.

CHAOS_STEPS: file that gets a line "key step seconds" for every training step. CHAOS_STEP_S: how much longer a step takes (none of
the numbers depends on it). CHAOS_CLOCK: file that, once it is there, holds by how many seconds the clock is set back.
CHAOS_OUTGROW: task whose cells run out of memory on a share of a GPU.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
import time
from typing import Any

_ATTEMPT = "ray_app.sweeps.attempt"


class _AfterImport(importlib.abc.MetaPathFinder):
    """Changes the module of attempts when it has been imported."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != _ATTEMPT:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None
        plain = spec.loader.exec_module

        def run(module: Any) -> None:
            plain(module)
            _note_steps(module.Attempt)

        spec.loader.exec_module = run  # type: ignore[method-assign]
        return spec


def _note_steps(attempts: Any) -> None:
    plain = attempts.open
    pause = float(os.environ.get("CHAOS_STEP_S", "0"))

    def opened(attempt: Any) -> Any:
        if 0 < attempt.order.gpus < 1 and attempt.order.params["task"] == os.environ.get("CHAOS_OUTGROW"):
            raise MemoryError("this share of a GPU is too small")
        run = plain(attempt)
        train_step = run._train_step

        def noted() -> None:
            step, started = run.progress.step, time.perf_counter()
            train_step()
            time.sleep(pause)
            line = f"{attempt.order.key} {step} {time.perf_counter() - started:.4f}\n"
            file = os.open(os.environ["CHAOS_STEPS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(file, line.encode())
            os.close(file)

        run._train_step = noted
        return run

    attempts.open = opened


def _turn_clock(file: str) -> None:
    seconds, nanoseconds = time.time, time.time_ns

    def behind() -> float:
        try:
            with open(file) as held:  # noqa: PTH123 - as little imported as can be
                return float(held.read() or 0)
        except OSError:
            return 0.0

    time.time = lambda: seconds() - behind()
    time.time_ns = lambda: nanoseconds() - int(behind() * 1e9)


if "CHAOS_STEPS" in os.environ:
    sys.meta_path.insert(0, _AfterImport())
if "CHAOS_CLOCK" in os.environ:
    _turn_clock(os.environ["CHAOS_CLOCK"])
