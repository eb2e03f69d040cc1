"""Ten thousand cells through everything but training: planned, scheduled over four local nodes, logged to a server by 16 writers.

The sweep is the real one with debug=empty_cells (every cell is handed out by Ray Tune to a warm worker, leaves a record, and
becomes an MLflow run), on a Ray of four nodes with one CPU each (ray.cluster_utils) and an MLflow server on PostgreSQL as
`make tracking-up` starts it. Asked for: no lost and no double run, the driver's memory and the cost of a cell flat (issue 8).
The database itself is asked how many runs there are, so that the server's own API need not answer for itself.

Command: PYTHONPATH=. python tests/bench/bench_load.py [--cells 10000] [--writers 16] [--server-workers 2]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from bench_report import OUT, ROOT, markdown, publish

from tests.tiny_study import ARCH, make_mirror
from tracking.records import pending_records
from tracking.schema import Tag
from tracking.server import ServerConfig, TrackingService

NODES = 4
BASES = ("one", "two", "three", "four")
"""Base models besides the pretrained one."""
_LOOK_S = 2.0


def start_nodes() -> Any:
    """Four Ray nodes on this machine, one CPU each."""
    os.environ |= {
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    os.environ["PYTHONPATH"] = str(ROOT)
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    for _ in range(NODES - 1):
        cluster.add_node(**node)
    cluster.wait_for_nodes()
    return cluster


def sweep_command(folder: Path, n_cells: int, *, ray: str, uri: str, writers: int) -> list[str]:
    """Five base models on two tasks, with a tenth as many seeds as cells."""
    models = ",".join(f"{{id: tiny/{name}}}" for name in BASES)
    return [
        sys.executable, "-m", "ray_app", "sweep", f"ARCH={ARCH}", f"MIRROR={folder / 'mirror'}", f"OUT={folder / 'out'}",
        "debug=empty_cells", "candidates=pretrained", "arch.name=load", "arch.pretrained.id=tiny/base", f"candidates.models=[{models}]",
        "suite.tasks=[rte,cola]",
        f"cache='{folder / 'cache'}'", f"SEEDS={n_cells // 10}", "method.precision=fp32", "method.max_length=32",
        "cluster=existing", "cluster.gpus_per_cell=0", f"cluster.address={ray}", f"tracking.uri={uri}", f"tracking.n_writers={writers}",
        "tracking.patience_s=3600", "cluster.min_free_gb=0.1",
    ]  # fmt: skip


class Database:
    """What PostgreSQL itself says of the runs."""

    def __init__(self, uri: str) -> None:
        import psycopg

        self._connection = psycopg.connect(uri.replace("postgresql+psycopg://", "postgresql://"), autocommit=True)

    def one(self, query: str, *values: object) -> int:
        """One number."""
        found = self._connection.execute(query, values).fetchone()
        return int(found[0]) if found else 0

    def cells(self) -> int:
        """Runs with an end that hold a key."""
        query = "select count(*) from runs join tags using (run_uuid) where key = %s and end_time is not null"
        return self.one(query, Tag.KEY)

    def verdict(self) -> dict[str, int]:
        """Runs, keys and what was left RUNNING."""
        return {
            "runs": self.cells(),
            "keys": self.one("select count(distinct value) from tags where key = %s", Tag.KEY),
            "attempts": self.one("select count(distinct value) from tags where key = %s", Tag.ATTEMPT),
            "running": self.one("select count(*) from runs where status = 'RUNNING' and lifecycle_stage = 'active'"),
            "deleted": self.one("select count(*) from runs where lifecycle_stage <> 'active'"),
        }


def cpu_s(processes: list[psutil.Process]) -> float:
    """CPU seconds of processes that still live."""
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
            total += times.user + times.system
        except psutil.Error:
            continue
    return total


def watch(
    process: subprocess.Popen[bytes], database: Database, records: Path, server: psutil.Process
) -> list[dict[str, float]]:
    """Samples until the sweep ends: seconds, cells ended, runs written, driver memory and CPU, server CPU."""
    driver, started = psutil.Process(process.pid), time.monotonic()
    samples = []
    while process.poll() is None:
        try:
            written, waiting = database.cells(), sum(1 for _ in pending_records(records))
            samples.append({
                "s": time.monotonic() - started, "ended": written + waiting, "written": written,
                "driver_mb": driver.memory_info().rss / 2**20, "driver_cpu_s": cpu_s([driver]),
                "server_cpu_s": cpu_s([server, *server.children(recursive=True)]),
            })  # fmt: skip
        except psutil.Error:
            pass
        time.sleep(_LOOK_S)
    return samples


def at(samples: list[dict[str, float]], name: str, n: int) -> dict[str, float]:
    """The first sample in which a count has reached ``n``; the last where none has."""
    return next((sample for sample in samples if sample[name] >= n), samples[-1])


def rows(samples: list[dict[str, float]], marks: list[int]) -> list[list[object]]:
    """One line a mark: what a cell cost since the mark before it."""
    lines: list[list[object]] = []
    before_ended = before_written = at(samples, "ended", 1)
    done = 1
    for mark in marks:
        ended, written = at(samples, "ended", mark), at(samples, "written", mark)
        n = max(mark - done, 1)
        lines.append([
            f"{done - 1:,}-{mark:,}", f"{1000 * (ended['s'] - before_ended['s']) / n:.0f}",
            f"{1000 * (written['s'] - before_written['s']) / n:.0f}",
            f"{1000 * (ended['driver_cpu_s'] - before_ended['driver_cpu_s']) / n:.0f}",
            f"{1000 * (written['server_cpu_s'] - before_written['server_cpu_s']) / n:.0f}",
            f"{ended['driver_mb']:.0f}", f"{ended['s']:.0f}", f"{written['s']:.0f}",
        ])  # fmt: skip
        before_ended, before_written, done = ended, written, mark
    return lines


def measure(given: argparse.Namespace, folder: Path) -> tuple[list[dict[str, float]], dict[str, int], int]:
    """Run the sweep on its cluster and its server."""
    models = make_mirror(folder / "mirror") / "models" / "tiny"
    for name in BASES:
        shutil.copytree(models / "base", models / name, dirs_exist_ok=True)
    service = TrackingService(ServerConfig(port=given.port, workers=given.server_workers), folder / "tracking")
    cluster = None
    try:
        service.start()
        cluster = start_nodes()
        command = sweep_command(folder, given.cells, ray=cluster.address, uri=service.address, writers=given.writers)
        with (folder / "sweep.log").open("w") as log:
            process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
            assert service.server_pid is not None
            database = Database(service.database)
            samples = watch(
                process, database, folder / "out" / "storage" / "records", psutil.Process(service.server_pid)
            )
        return samples, database.verdict(), process.returncode
    finally:
        if cluster is not None:
            cluster.shutdown()
        service.stop()


def main() -> None:
    """Run, check that nothing was lost or doubled, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000, help="a multiple of 10")
    parser.add_argument("--writers", type=int, default=16)
    parser.add_argument("--server-workers", type=int, default=2)
    parser.add_argument("--port", type=int, default=5077)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="startline-load-"))
    folder.chmod(0o755)
    try:
        samples, verdict, code = measure(given, folder)
        log = (folder / "sweep.log").read_text()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if code != 1:  # empty cells are recorded as failed
        raise SystemExit(f"the sweep ended with code {code}\n{log[-3000:]}")
    marks = sorted({min(mark, given.cells) for mark in (1_000, 5_000, 10_000)})
    columns = ["cells", "ms a cell, scheduled", "ms a cell, in MLflow", "driver CPU ms a cell", "server CPU ms a cell",
               "driver MB", "scheduled after s", "in MLflow after s"]  # fmt: skip
    whole = verdict["runs"] == verdict["keys"] == verdict["attempts"] == given.cells and not verdict["running"]
    notes = [f"{given.writers} writers, {given.server_workers} server processes, {NODES} Ray nodes: {verdict}; "
             f"{'no run lost or doubled' if whole else 'RUNS LOST OR DOUBLED'}"]  # fmt: skip
    publish(
        "load",
        markdown(columns, rows(samples, marks)),
        {"samples": samples, "verdict": verdict},
        out=given.out,
        notes=notes,
    )
    if not whole:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
