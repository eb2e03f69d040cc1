"""SIGTERM as a preemption notice: the cell under way stores a checkpoint, then its process ends; it does not die on the spot.

Spot nodes, Kubernetes and Slurm send SIGTERM some 30 s before SIGKILL. The training loop looks for the notice after every step
and, in an evaluation, after every batch, so that the checkpoint is whole and the cell goes on from it elsewhere, bit for bit.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

NOTICE_S = 30.0
"""Seconds between notice and end that clouds and cluster managers grant."""
_LOOK_S = 1.0


class Preempted(SystemExit):
    """Ends the process of a cell that was given notice, its checkpoint stored; no failure of the cell."""


class Notice:
    """Whether this process was asked to end."""

    def __init__(self) -> None:
        self.given = False

    @contextlib.contextmanager
    def heeded(self) -> Iterator[None]:
        """Within, SIGTERM only sets ``given``; outside, what was there before holds."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._take)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _take(self, signum: int, frame: FrameType | None) -> None:
        self.given = True


def end_with_parent() -> None:
    """End this worker when its raylet is gone: the cluster runs its cell elsewhere by then, on the same checkpoints.

    Ray's workers go on for as long as their task lasts, and an idle one for ever.
    """
    parent = os.getppid()
    if parent > 1:
        threading.Thread(target=_follow, args=(parent,), name="end-with-parent", daemon=True).start()


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)


def interrupt_on_sigterm() -> None:
    """From here on SIGTERM does to this process what Ctrl-C does."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def give_notice_here(*, patience_s: float = NOTICE_S - 10) -> int:
    """Give notice to the cells that run below this process (those of a local Ray) and wait until they have ended.

    Returns how many were told. On a cluster, those on other nodes repeat at most a checkpoint interval.
    """
    import psutil

    told = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if _runs_a_cell(child.cmdline()):
                child.send_signal(signal.SIGTERM)
                told.append(child)
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline and any(_is_training(child) for child in told):
        time.sleep(0.05)
    return len(told)


def _is_training(process: object) -> bool:
    import psutil

    assert isinstance(process, psutil.Process)
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE and _runs_a_cell(process.cmdline())
    except psutil.Error:
        return False


def _runs_a_cell(command: list[str]) -> bool:
    """Ray names a process after the actor and the method it is in."""
    return bool(command) and command[0].startswith("ray::") and command[0].endswith(".train")
