"""A way from a port of this machine's loopback to a service on the cluster, as long as it is needed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from tracking.errors import ClusterError

OPEN_S = 60.0
"""How long a tunnel may take to open."""


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def tunnel(
    make_command: Callable[[int], Sequence[str]],
    *,
    environment: Mapping[str, str] | None = None,
    open_s: float = OPEN_S,
) -> Iterator[str]:
    """Keep a forwarding program running; yields the address at which the job server is found.

    Args:
        make_command: the program for a local port (``kubectl port-forward``, ``ray dashboard``).
        environment: variables besides one's own.
        open_s: how long it may take to open, s.

    Raises:
        ClusterError: it ended, or nothing answers behind it in time.
    """
    port = free_port()
    command = list(make_command(port))
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + open_s
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    output.seek(0)
                    lines = output.read().strip().splitlines()
                    raise ClusterError(
                        f"no way to the cluster: {command[0]} {'ended' if process.poll() is not None else 'did not open'}"
                        f"{f' ({lines[-1][:200]})' if lines else ''}; is it up (make cluster-status)?",
                        command=command[0],
                    )
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
