"""`make tracking-up` as a user runs it: it serves, refuses other hosts' names, keeps what it holds, and ends clean."""

from __future__ import annotations

import http.client
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.chaos.conftest import free_port
from tests.tiny_study import ROOT
from tests.unit.tracking.test_table import cell
from tracking.errors import StoreError
from tracking.postgres import find_binaries
from tracking.server import answers
from tracking.store import TrackingStore
from tracking.table import sync_table

pytestmark = pytest.mark.slow


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path that PostgreSQL may enter under another account; skips where there is no PostgreSQL."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    try:
        find_binaries()
    except StoreError as error:
        pytest.skip(error.message)
    made = Path(tempfile.mkdtemp(prefix="startline-server-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def start(folder: Path, port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ray_app", "tracking-up", f"OUT={folder}", f"tracking.server.port={port}"]
    command.append("tracking.server.workers=1")
    process = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 90
    while not answers(f"http://127.0.0.1:{port}"):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate(timeout=5)[0]
        time.sleep(0.2)
    return process


def status(port: int, host: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/api/2.0/mlflow/experiments/search?max_results=1", headers={"Host": host})
    return connection.getresponse().status


def test_it_serves_its_own_names_only_and_keeps_what_it_holds(folder: Path) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    process = start(folder, port)
    below = psutil.Process(process.pid).children(recursive=True)
    try:
        listening = {
            c.laddr.ip
            for p in [psutil.Process(process.pid), *below]
            for c in p.net_connections("inet")
            if c.status == "LISTEN"
        }
        assert listening == {"127.0.0.1"}, "PostgreSQL has its socket, the server loopback"
        assert status(port, f"127.0.0.1:{port}") == 200 and status(port, "evil.example.org") == 403
        TrackingStore(address, "a/b", writer="w").write_cell(cell("a" * 16))
    finally:
        process.send_signal(signal.SIGTERM)
        text, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "shutting down" in text and "Traceback" not in text, text
    gone, alive = psutil.wait_procs(below, timeout=10)
    assert gone and not alive, "something was left running"
    process = start(folder, port)
    try:
        table, report = sync_table(address, "a/b", folder / "t.parquet")
        assert report.n_new == 1 and table["key"].to_pylist() == ["a" * 16]
        late = TrackingStore(address, "a/b", writer="late")
        late.write_cell(cell("b" * 16, ended=5))  # it ended long before, and waited on disk
        table, report = sync_table(address, "a/b", folder / "t.parquet")
        assert report.n_new == 1 and sorted(table["key"].to_pylist()) == ["a" * 16, "b" * 16]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
