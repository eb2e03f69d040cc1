"""Slurm: every command a job of its own that starts Ray on its nodes (`ray symmetric-run`)."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ray_app.cluster.jobs import LOST, STOPPED
from ray_app.cluster.launcher import NAME, PROJECT, Launcher, Say
from ray_app.cluster.programs import find_program, run_program
from ray_app.cluster.template import fill_in, read_documents
from ray_app.cluster.token import cluster_token
from tracking.errors import ConfigError
from tracking.records import write_atomically

_LOOK_S = 5.0
_HINT = "run make on a login node of the Slurm cluster"
_ENDS = {"COMPLETED": 0, "CANCELLED": STOPPED}


class SlurmJob(Launcher):
    """A Slurm job for every command; nodes are there as long as it runs."""

    own = ("log", "token", "project", "bin", "command")

    def up(self) -> None:
        """Nothing to start: every command brings its nodes."""
        self.script(["true"], log=self.folder / "log")
        self.say("CLUSTER=slurm asks for nodes with every command; give the command: make sweep CLUSTER=slurm")

    def status(self) -> str:
        """The queue's view of our jobs."""
        return run_program([find_program("squeue", hint=_HINT), "--me", f"--name={NAME}"]).strip()

    def down(self) -> None:
        """Cancel every job of ours; cells store checkpoints in the notice that Slurm gives."""
        run_program([find_program("scancel", hint=_HINT), "--me", f"--name={NAME}"], shown=True)

    def script(self, arguments: Sequence[str], *, log: Path) -> str:
        """The sbatch script for a command.

        Raises:
            ConfigError: something is not filled in, or a path cannot stand in a script.
        """
        token = self.folder / "token"
        for path in (log, token, PROJECT):
            if any(character.isspace() for character in str(path)):
                raise ConfigError(
                    f"out: {path} holds a blank, which an sbatch script cannot take; choose another OUT=dir"
                )
        (document,) = read_documents(
            self.filled_in(**{name: f"FILL_IN_{name.upper()}" for name in self.own}), where=self.where
        )
        given = {
            "log": str(log),
            "token": str(token),
            "project": shlex.quote(str(PROJECT)),
            "bin": shlex.quote(str(Path(sys.executable).parent)),
            "command": shlex.join(arguments),
        }
        return fill_in(str(document["script"]), {}, where=self.where, given=given)

    def run(self, arguments: Sequence[str], *, environment: dict[str, str], write: Say) -> int:
        """Submit the command as a job and pass on its log until it ends."""
        sbatch = find_program("sbatch", hint=_HINT)
        log = self.folder / f"{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        cluster_token(self.folder / "token")
        path = log.with_suffix(".sbatch")
        write_atomically(path, self.script(arguments, log=log).encode())
        job = run_program([sbatch, "--parsable", str(path)], environment=environment).strip().split(";")[0]
        self.say(f"Slurm job {job}, log {log}; Ctrl-C stops following, not the job (scancel {job} ends it)")
        written = 0
        while True:
            code = _end_of(job)
            written = _pass_on(log, written, write)
            if code is not None:
                return code
            time.sleep(_LOOK_S)


def _end_of(job: str) -> int | None:
    """Exit code of a job, None while it waits or runs."""
    sacct = find_program("sacct", hint=_HINT)
    done = subprocess.run(
        [sacct, "-X", "-n", "-P", "-o", "State,ExitCode", "-j", job], capture_output=True, text=True, check=False
    )
    lines = [line for line in done.stdout.splitlines() if "|" in line]
    if done.returncode or not lines:
        return None  # the accounting lags behind, or is away
    state, _, code = lines[-1].partition("|")
    state = state.split(" ")[0]
    if state in ("PENDING", "RUNNING", "REQUEUED", "SUSPENDED", "COMPLETING", "CONFIGURING", "PREEMPTED"):
        return None
    if state in _ENDS:
        return _ENDS[state]
    number = code.partition(":")[0]
    return int(number) if number.isdigit() and int(number) else LOST


def _pass_on(log: Path, written: int, write: Say) -> int:
    try:
        with log.open("rb") as file:
            file.seek(written)
            fresh = file.read()
    except OSError:
        return written
    if fresh:
        write(fresh.decode(errors="replace"))
    return written + len(fresh)
