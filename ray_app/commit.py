"""Which commit of this project runs, for every run's record."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

COMMIT_VARIABLE = "STARTLINE_COMMIT"
"""Tells the commit where the code came without its repository (a job on a cluster, an image)."""
_PROJECT = Path(__file__).resolve().parent.parent


def code_commit() -> str:
    """The commit; 'unknown' without repository and variable."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False, cwd=_PROJECT
        )
        commit = found.stdout.strip() if found.returncode == 0 else ""
    except (OSError, subprocess.TimeoutExpired):
        commit = ""
    return commit or os.environ.get(COMMIT_VARIABLE) or "unknown"
