"""A sweep on a cluster without workers: Ray's autoscaler brings them on demand and takes them away when they are idle."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.autoscaled_sweep import ROOT
from tests.chaos.harness import ChaosStudy
from tests.tiny_study import TinyStudy

pytestmark = pytest.mark.chaos

INSIDE = ["unshare", "--net", "--pid", "--fork", "--mount-proc"]
"""Of its own, for `ray stop --force` ends every Ray process in sight."""


def can_unshare() -> bool:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    return subprocess.run([*INSIDE, "ip", "link", "set", "lo", "up"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="needs unshare and the right to use it")
def test_from_no_worker_up_and_down_again(undisturbed: ChaosStudy, tmp_path: Path) -> None:
    like = undisturbed.study
    program = [
        sys.executable,
        str(ROOT / "tests" / "autoscaled_sweep.py"),
        *map(str, (tmp_path, like.mirror, like.cache)),
    ]
    done = subprocess.run(
        [*INSIDE, "sh", "-c", f"ip link set lo up; exec {shlex.join(program)}"],
        capture_output=True, text=True, timeout=280, check=False, cwd=ROOT,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stdout + done.stderr
    found = json.loads(lines[-1])
    assert found["code"] == 0, found["printed"]
    workers = [n for _, n in found["counts"]]
    assert workers[0] == 0, "it began without a worker"
    assert max(workers) == 2, f"both workers came on demand, {found['counts']}"
    assert workers[-1] == 0, f"idle workers went, {found['counts']}"
    study = TinyStudy(like.mirror, tmp_path / "out", like.cache)
    scores = {key: row["score"] for key, row in study.cells().items()}
    assert scores == {key: row["score"] for key, row in like.cells().items()}
