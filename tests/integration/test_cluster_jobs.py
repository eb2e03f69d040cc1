"""Commands submitted to a real Ray head with its job server: followed, found again, stopped, their exit code brought home."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray_head import HAS_JOB_SERVER, ROOT, RayHead
from tests.tiny_study import TinyStudy, make_mirror

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not HAS_JOB_SERVER, reason="ray[default] is not installed")]

FOLLOWER = """
import sys
from ray_app.cluster.jobs import JobServer, run_job
write = lambda text: (sys.stdout.write(text), sys.stdout.flush())
sys.exit(run_job(JobServer(sys.argv[1]), sys.argv[2:], environment={}, write=write, say=lambda text: write(text + "\\n")))
"""
SLOW = [
    "python",
    "-c",
    "import time\nfor i in range(14): print('line', i, flush=True); time.sleep(0.5)\nraise SystemExit(5)",
]


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder, RayHead(Path(folder)) as started:
        yield started


def follow(head: RayHead, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FOLLOWER, head.jobs, *words], env=head.environment, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def test_a_sweep_runs_on_the_cluster_and_its_end_is_told_here(head: RayHead, tmp_path: Path) -> None:
    """make sweep with cluster.jobs: planned, trained, ranked and stored there, told here."""
    study = TinyStudy(
        make_mirror(tmp_path / "mirror"), tmp_path / "unused", tmp_path / "unused-cache", environment=head.environment
    )
    storage = tmp_path / "storage"
    there = (f"cluster.jobs={head.jobs}", f"cluster.storage='{storage}'", "candidates.models=[]", "candidates.sources=[]")
    code, text = study.run("sweep", *there, "suite.tasks=[rte]", "cluster.cpus=null")
    assert code == 0, text
    assert "submitted; Ctrl-C stops following" in text and "1 cells complete, 0 failed" in text
    assert "tiny/base" in text, "the ranking is printed here"
    done = TinyStudy(study.mirror, storage / "out", storage / "cache")
    assert len(done.cells()) == 1
    assert not study.out.exists(), "nothing is written here"


def test_who_stops_following_finds_the_job_again(head: RayHead) -> None:
    """Ctrl-C ends the follower only; the same command then follows the same job from its first line and gets its exit code."""
    first = follow(head, *SLOW)
    assert first.stdout is not None
    seen = ""
    while "line 1\n" not in seen:
        seen += first.stdout.readline()
    os.killpg(first.pid, signal.SIGINT)
    first.communicate(timeout=20)
    assert first.returncode != 0
    again = follow(head, *SLOW)
    text, _ = again.communicate(timeout=60)
    assert "is under way" in text
    assert [line for line in text.splitlines() if line.startswith("line ")] == [f"line {i}" for i in range(14)]
    assert again.returncode == 5


def test_a_wrong_token_is_told(head: RayHead) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ray_app", "cluster-status", f"cluster.jobs={head.jobs}", "cluster.storage=/tmp"],
        env={**head.environment, "RAY_AUTH_TOKEN": "0" * 64}, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3
    assert "its token" in done.stderr and "Traceback" not in done.stderr


def test_nobody_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ray_app", "sweep", "cluster.jobs=http://127.0.0.1:9", f"cluster.storage={tmp_path}"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3
    assert "job server at http://127.0.0.1:9" in done.stderr and "Traceback" not in done.stderr


def test_status_names_the_jobs(head: RayHead) -> None:
    quick = follow(head, "python", "-c", "print('quick')")
    quick.communicate(timeout=60)
    deadline, text = time.monotonic() + 10, ""
    while "print('quick')" not in text.replace("\\", "") and time.monotonic() < deadline:
        done = subprocess.run(
            [sys.executable, "-m", "ray_app", "cluster-status", f"cluster.jobs={head.jobs}", "cluster.storage=/tmp"],
            env=head.environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        text = done.stdout
        if "quick" in text:
            break
    assert quick.returncode == 0 and "SUCCEEDED" in text


def test_everything_listens_on_loopback(head: RayHead) -> None:
    import psutil

    ours = psutil.Process(head._process.pid)
    pids = [ours.pid, *(child.pid for child in ours.children(recursive=True))]
    listening = [
        connection.laddr.ip
        for pid in pids
        for connection in psutil.Process(pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) > 5
    assert {address.removeprefix("::ffff:") for address in listening} <= {"127.0.0.1", "::1"}
