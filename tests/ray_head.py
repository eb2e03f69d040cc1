"""A Ray head of its own on loopback, with its job server and a token, for tests; ended with everything it started."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

import psutil

from ray_app.cluster.tunnel import free_port

ROOT = Path(__file__).resolve().parent.parent
HAS_JOB_SERVER = all(importlib.util.find_spec(name) for name in ("opencensus", "aiohttp_cors", "prometheus_client"))
"""Whether what `ray[default]` brings is installed; without it a head has no job server."""


class RayHead:
    """`ray start --head` in a process group of its own.

    Args:
        folder: for its temporary files; keep the path short, for it holds sockets.
        cpus: CPUs of the head.
    """

    def __init__(self, folder: Path, *, cpus: int = 2) -> None:
        self.folder = folder
        self.cpus = cpus
        self.port, self.dashboard = free_port(), free_port()
        self.token = secrets.token_hex(32)
        self.jobs = f"http://127.0.0.1:{self.dashboard}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables of everybody who may use it."""
        own = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            "OMP_NUM_THREADS": "1",
        }
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return {**os.environ, **own, "PATH": path}

    def __enter__(self) -> RayHead:
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--node-ip-address=127.0.0.1",
            f"--port={self.port}", "--dashboard-host=127.0.0.1", f"--dashboard-port={self.dashboard}",
            "--include-dashboard=true", f"--num-cpus={self.cpus}", "--num-gpus=0", f"--temp-dir={self.folder}",
            "--object-store-memory=100000000",
        ]  # fmt: skip
        self._output = (self.folder / "head.log").open("w+")
        self._process = subprocess.Popen(
            command,
            env=self.environment,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=ROOT,
            preexec_fn=_end_with_parent,
        )
        deadline = time.monotonic() + 60
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._output.seek(0)
                text = self._output.read()
                self.__exit__(None, None, None)
                raise AssertionError(f"the head did not come up:\n{text}")
            time.sleep(0.3)
        return self

    def _answers(self) -> bool:
        request = urllib.request.Request(f"{self.jobs}/api/version", headers={"Authorization": f"Bearer {self.token}"})
        try:
            with urllib.request.urlopen(request, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        started = [self._process, *psutil.Process(self._process.pid).children(recursive=True)] if self.alive else []
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
        for process in started[1:]:
            if process.is_running():
                process.kill()
        self._output.close()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None


def _end_with_parent() -> None:
    """Have Linux send SIGTERM when the test run dies: a head left behind would stay for ever."""
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG of sys/prctl.h
