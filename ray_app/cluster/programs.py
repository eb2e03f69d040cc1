"""Programs that clusters are handled with (ray, kubectl, sbatch), run as a user would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tracking.errors import ClusterError


def find_program(name: str, *, hint: str) -> str:
    """Path of a program: of this Python's own environment, else of PATH.

    Raises:
        ClusterError: it is not installed.
    """
    own = Path(sys.executable).parent / name
    found = str(own) if own.exists() else shutil.which(name)
    if found is None:
        raise ClusterError(f"{name} is not installed; {hint}", program=name)
    return found


def run_program(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    shown: bool = False,
    given: str | None = None,
) -> str:
    """Run a program to its end; returns what it printed, or "" where that goes to the terminal.

    Args:
        arguments: program and arguments.
        environment: variables besides one's own.
        shown: its output goes where ours does.
        given: its input.

    Raises:
        ClusterError: it ended with an error; the last line it printed is the reason.
    """
    done = subprocess.run(
        arguments,
        env={**os.environ, **(environment or {})},
        input=given,
        stdout=None if shown else subprocess.PIPE,
        stderr=None if shown else subprocess.STDOUT,
        stdin=subprocess.DEVNULL if given is None else None,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = (done.stdout or "").strip().splitlines()
        reason = f": {lines[-1][:300]}" if lines else ", see above"
        raise ClusterError(
            f"{Path(arguments[0]).name} {' '.join(arguments[1:3])} ended with code {done.returncode}{reason}",
            program=arguments[0],
            code=done.returncode,
        )
    return done.stdout or ""
