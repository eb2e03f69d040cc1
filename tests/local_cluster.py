"""Several real Ray nodes on this machine (ray.cluster_utils.Cluster), in a process of their own that takes orders.

Run as a program it is that process; ``LocalCluster`` starts it and gives the orders. A process of its own, for what Ray listens
on and whether it asks for a token is settled when Ray is imported.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import psutil

ROOT = Path(__file__).resolve().parent.parent


class LocalCluster:
    """A head that runs no cells, and nodes that come and go.

    Use as a context; ``environment`` is for the processes that shall reach it.

    Args:
        more: further variables of its nodes and of whoever reaches it.
    """

    def __init__(self, more: Mapping[str, str] | None = None) -> None:
        self.more = dict(more or {})
        self.token = secrets.token_hex(32)
        self.address = ""
        self.raylets: dict[int, int] = {}
        """Node number -> process id of its raylet."""

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
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [self.more.get("PYTHONPATH")])]),
            "RAY_health_check_period_ms": "1000",  # a node that is gone is known to be gone after 5 s, not 15
        }
        return {**os.environ, **self.more, **own}

    def __enter__(self) -> LocalCluster:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env=self.environment, start_new_session=True,
        )  # fmt: skip
        self.address = str(self._answer()["address"])
        return self

    def _answer(self) -> dict[str, object]:
        assert self._process.stdout is not None
        while True:
            line = self._process.stdout.readline()
            if not line:
                raise AssertionError("the cluster's process ended")
            if line.startswith("{"):
                return dict(json.loads(line))

    def _order(self, text: str) -> dict[str, object]:
        assert self._process.stdin is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()
        return self._answer()

    def add_node(self, *, cpus: int = 1) -> int:
        """Start a node; returns its number."""
        answer = self._order(f"add {cpus}")
        number = int(str(answer["node"]))
        self.raylets[number] = int(str(answer["raylet"]))
        return number

    def workers(self, node: int) -> list[psutil.Process]:
        """Processes that run cells on a node."""
        try:
            children = psutil.Process(self.raylets[node]).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [child for child in children if _is_trial(child)]

    def kill_node(self, node: int) -> None:
        """kill -9 of everything on a node, its cells' processes first: what a machine that vanishes looks like."""
        for process in [*self.workers(node), psutil.Process(self.raylets[node])]:
            process.kill()
        self._order(f"forget {node}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        started = psutil.Process(self._process.pid).children(recursive=True) if self._process.poll() is None else []
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
        for process in started:
            if process.is_running():
                process.send_signal(signal.SIGKILL)


def _is_trial(process: psutil.Process) -> bool:
    try:
        return any("CellTrial" in part or "ResourceTrainable" in part for part in process.cmdline())
    except psutil.Error:
        return False


def serve() -> None:
    """Take orders from standard input until it closes."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    say({"address": cluster.address})
    nodes = []
    for line in sys.stdin:
        verb, number = line.split()
        if verb == "add":
            node = cluster.add_node(num_cpus=int(number))
            nodes.append(node)
            say({"node": len(nodes) - 1, "raylet": node.all_processes["raylet"][0].process.pid})
        else:
            cluster.remove_node(nodes[int(number)], allow_graceful=False)
            say({"node": int(number)})
    cluster.shutdown()


def say(answer: dict[str, object]) -> None:
    """A line of JSON to whoever gave the order."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve()
