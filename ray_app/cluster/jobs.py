"""Ray's job server: a command submitted to a cluster, its output followed, its exit code brought home.

What follows only looks: Ctrl-C, a closed laptop or a broken tunnel leave the job running, and the same command given again
follows it where it was left.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ray_app.cluster.quiet import quiet_ray
from tracking.errors import ClusterError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

PROJECT = Path(__file__).resolve().parent.parent.parent
Say = Callable[[str], None]
TRAVELS = ("ray_app", "analysis", "tracking", "conf")
"""What a job needs of the project: code and configuration as they are here, committed or not."""
LOST = 3
"""Exit code of a job whose driver left none: it was killed, or its node was lost."""
STOPPED = 130
PATIENCE_S = 300.0
"""How long a job server that does not answer is waited for while a job is followed."""


class JobServer:
    """The job server of a Ray cluster, by its address.

    Args:
        address: ``http://host:port`` of the dashboard, as seen from here (through a tunnel: loopback).

    Raises:
        ClusterError: nobody answers there, or the token is not the cluster's.
    """

    def __init__(self, address: str) -> None:
        quiet_ray()
        from ray.exceptions import RayError
        from ray.job_submission import JobSubmissionClient

        self.address = address
        try:
            self.client: JobSubmissionClient = JobSubmissionClient(address)
        except (ConnectionError, RuntimeError, OSError, ValueError, RayError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ClusterError(
                f"the job server at {address} cannot be used ({reason[:200]}); is the cluster up (make cluster-status), its "
                "token in RAY_AUTH_TOKEN_PATH, and `ray[default]` installed on its head?",
                address=address,
            ) from error

    def jobs(self) -> list[JobDetails]:
        """Jobs submitted so far, newest first."""
        found = [job for job in self.client.list_jobs() if job.submission_id]
        return sorted(found, key=lambda job: job.start_time or 0, reverse=True)

    def under_way(self, entrypoint: str) -> str | None:
        """Id of a job with this entry point that has not ended."""
        for job in self.jobs():
            if job.entrypoint == entrypoint and not job.status.is_terminal():
                return str(job.submission_id)
        return None

    def submit(self, arguments: Sequence[str], *, project: Path, environment: dict[str, str]) -> tuple[str, bool]:
        """Submit a command; the same one that is still under way is not started twice.

        Args:
            arguments: the command's words.
            project: folder whose code and configuration travel with it.
            environment: variables of the job; they can be read by everybody who may use the cluster, so no secrets.

        Returns:
            The job's id, and whether it was under way already.
        """
        entrypoint = shlex.join(arguments)
        with self._refusals(), packed(project) as folder:
            known = self.under_way(entrypoint)
            if known is not None:
                return known, True
            now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
            job = self.client.submit_job(
                entrypoint=entrypoint,
                submission_id=f"startline-{now}-{secrets.token_hex(2)}",
                runtime_env={"working_dir": str(folder), "env_vars": environment},
            )
        return job, False

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ConnectionError, OSError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ClusterError(
                f"the job server at {self.address} did not take the job ({reason[:300]}); try again, see make cluster-status",
                address=self.address,
            ) from error

    def follow(self, job: str, write: Say) -> int:
        """Pass on what a job prints until it ends; returns its exit code.

        Raises:
            ClusterError: the job server has not answered for ``PATIENCE_S``; the job may still run.
        """
        from aiohttp import ClientError

        written, seen = 0, 0
        failing_since: float | None = None

        def pass_on(text: str) -> None:
            nonlocal failing_since, seen, written
            failing_since = None
            before, seen = seen, seen + len(text)
            if seen > written:
                write(text[max(0, written - before) :])
                written = seen

        while True:
            seen = 0  # a connection begins with the first line again
            try:
                asyncio.run(self._tail(job, pass_on))
                details = self.client.get_job_info(job)
                if details.status.is_terminal():
                    return _exit_code(details)
                failing_since = None
            except (RuntimeError, ConnectionError, OSError, ClientError) as error:
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > PATIENCE_S:
                    raise ClusterError(
                        f"the job server at {self.address} has not answered for {PATIENCE_S:g} s; job {job} may still run: give "
                        "the same command again to follow it, or see make cluster-status",
                        job=job,
                    ) from error
            time.sleep(1)

    async def _tail(self, job: str, pass_on: Callable[[str], None]) -> None:
        async for text in self.client.tail_job_logs(job):
            pass_on(text)

    def report(self) -> str:
        """The newest jobs, a line each."""
        with self._refusals():
            jobs = self.jobs()[:10]
        return "\n".join(["jobs:", *(_spell(job) for job in jobs)] if jobs else ["jobs: none"])


@contextlib.contextmanager
def packed(project: Path) -> Iterator[Path]:
    """A folder with just what a job needs of the project."""
    with tempfile.TemporaryDirectory() as folder:
        for name in TRAVELS:
            shutil.copytree(project / name, Path(folder) / name, ignore=shutil.ignore_patterns("__pycache__"))
        yield Path(folder)


def run_job(server: JobServer, arguments: Sequence[str], *, environment: dict[str, str], write: Say, say: Say) -> int:
    """Submit a command and follow it to its end; returns its exit code."""
    job, known = server.submit(arguments, project=PROJECT, environment=environment)
    say(
        f"job {job} {'is under way' if known else 'submitted'}; Ctrl-C stops following, not the job: the same command follows it "
        "again"
    )
    return server.follow(job, write)


def _spell(job: JobDetails) -> str:
    began = datetime.fromtimestamp((job.start_time or 0) / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    return f"  {job.submission_id}  {job.status.value:<10}{began}  {job.entrypoint[:100]}"


def _exit_code(details: JobDetails) -> int:
    from ray.job_submission import JobStatus

    if details.driver_exit_code is not None and details.driver_exit_code >= 0:
        return int(details.driver_exit_code)
    return {JobStatus.SUCCEEDED: 0, JobStatus.STOPPED: STOPPED}.get(details.status, LOST)
