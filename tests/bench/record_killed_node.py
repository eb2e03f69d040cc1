"""Record a sweep on three local Ray nodes of which one is killed in the middle: asciicast v2 and plain text.

    python tests/bench/record_killed_node.py docs/recordings/killed-node

Everything is real: nodes (ray.cluster_utils), tiny models, the front door in a terminal of its own (a pty), `kill -9` of everything
on one node. Lines that begin with '[other terminal]' are what this script does meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.local_cluster import LocalCluster  # noqa: E402
from tests.tiny_study import TinyStudy, make_mirror  # noqa: E402

WIDTH, HEIGHT = 118, 30
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Recording:
    """What a terminal showed, with seconds since the beginning."""

    began: float = field(default_factory=time.monotonic)
    events: list[tuple[float, str]] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Something appeared."""
        self.events.append((round(time.monotonic() - self.began, 2), text))
        sys.stderr.write(text)

    def cast(self) -> str:
        """Asciicast v2: a header, then an event a line."""
        head = {"version": 2, "width": WIDTH, "height": HEIGHT, "title": "A sweep that survives a killed node"}
        return "\n".join([json.dumps(head), *(json.dumps([at, "o", text]) for at, text in self.events)]) + "\n"

    def text(self) -> str:
        """Plain text: every line with its second; of the live lines those whose counts are new."""
        lines, last = [], ""
        for at, text in self.events:
            for line in _ESCAPES.sub("", text).replace("\r", "\n").split("\n"):
                plain = line.rstrip()
                counts = re.sub(r"failed, .*", "failed", plain)
                if not plain or counts == last or (plain.startswith("  ") and "seed" in plain):
                    continue
                last = counts if plain.startswith("cells:") else last
                lines.append(f"{at:7.1f} s  {plain}")
        return "\n".join(lines) + "\n"


def run(command: list[str], environment: dict[str, str], recording: Recording, meanwhile: Callable[[], None]) -> int:
    """Run a command in a terminal of its own, noting what it shows."""
    main, side = pty.openpty()
    size = {"COLUMNS": str(WIDTH), "LINES": str(HEIGHT), "TERM": "xterm-256color"}
    process = subprocess.Popen(
        command, cwd=ROOT, env={**environment, **size}, stdin=side, stdout=side, stderr=side, start_new_session=True
    )
    os.close(side)
    try:
        while True:
            ready, _, _ = select.select([main], [], [], 0.1)
            if ready:
                try:
                    text = os.read(main, 65536).decode(errors="replace")
                except OSError:
                    break
                if not text:
                    break
                recording.note(text)
            meanwhile()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        os.close(main)
    return process.wait()


def main() -> None:
    """Record it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stem", type=Path)
    parser.add_argument("--rows", type=int, default=160)
    given = parser.parse_args()
    stem = given.stem
    with tempfile.TemporaryDirectory(prefix="rec") as name, LocalCluster() as cluster:
        folder = Path(name)
        study = TinyStudy(make_mirror(folder / "mirror", rows=given.rows), folder / "out", folder / "cache")
        study = replace(study, environment=cluster.environment)
        recording = Recording()
        nodes = [cluster.add_node() for _ in range(3)]
        recording.note(f"[other terminal] three Ray nodes are up at {cluster.address}, one CPU each\r\n")
        killed: list[float] = []

        def kill_one() -> None:
            if not killed and study.out.exists() and _done(study) >= 5 and cluster.workers(nodes[0]):
                pids = " ".join(str(p.pid) for p in cluster.workers(nodes[0]))
                recording.note(
                    f"\r\n[other terminal] kill -9 {cluster.raylets[nodes[0]]} {pids}   # node 1, cells and all\r\n"
                )
                cluster.kill_node(nodes[0])
                killed.append(time.monotonic())

        shown = ["make", "sweep", "CLUSTER=existing", f"ARGS=cluster.address={cluster.address} ...", "SEEDS=2"]
        more = ["SEEDS=2", f"cluster.address='{cluster.address}'", "cluster.cpus=null", "method.max_epochs=4"]
        command = [sys.executable, "-m", "ray_app", "sweep", *study.arguments(*more)]
        for _ in range(2):
            recording.note(f"$ {shlex.join(shown)}\r\n")
            code = run(command, dict(cluster.environment), recording, kill_one)
            recording.note(f"$ echo $?\r\n{code}\r\n")
        assert killed, "the sweep was over before a node could be killed"
        recording.note(
            f"[{len(study.cells())} cells in MLflow, {study.n_scored_runs()} scored runs: none lost, none twice]\r\n"
        )
    stem.with_suffix(".cast").write_text(recording.cast().replace(name, "/tmp/study"))
    stem.with_suffix(".txt").write_text(recording.text().replace(name, "/tmp/study"))
    sys.stdout.write(recording.text().replace(name, "/tmp/study"))


def _done(study: TinyStudy) -> int:
    from tests.tiny_study import _complete_runs

    database = study.out / "mlflow.db"
    return _complete_runs(database) if database.exists() else 0


if __name__ == "__main__":
    main()
