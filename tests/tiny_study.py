"""A study small enough for a test: a mirror with tiny models and tasks, and the front door run as a user runs it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.model_factory import SENTENCES, copy_model
from tracking.table import scored_cells, sync_table

ROOT = Path(__file__).resolve().parent.parent
ARCH = "bert-base-uncased"
_COLUMNS = {"rte": ("sentence1", "sentence2"), "cola": ("sentence",), "sst2": ("sentence",)}


def make_mirror(folder: Path, *, rows: int = 48) -> Path:
    """A mirror with models tiny/base, tiny/other (BERT) and tiny/t5, and three tasks whose label is a word of the text."""
    for name, kind, seed in (("base", "bert", 0), ("other", "bert", 1), ("t5", "t5", 0)):
        copy_model(kind, folder / "models" / "tiny" / name, seed=seed)
    for task, columns in _COLUMNS.items():
        for split, n_rows in (("train", rows), ("validation", rows // 2), ("test", rows // 2)):
            table = _table(columns, n_rows, seed=f"{task}-{split}")
            path = folder / "tasks" / task / f"{split}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path)
    return folder


def _table(columns: tuple[str, ...], n_rows: int, *, seed: str) -> pa.Table:
    chance = random.Random(seed)
    labels = [row % 2 for row in range(n_rows)]
    texts = {
        name: [
            f"{'four pears' if label else 'three apples'} {row} {chance.choice(SENTENCES)}"
            for row, label in enumerate(labels)
        ]
        for name in columns
    }
    return pa.table({**texts, "label": labels})


@dataclass(frozen=True)
class TinyStudy:
    """Arguments of a tiny sweep, and what came out of it."""

    mirror: Path
    out: Path
    cache: Path
    arch: str = "tiny"
    uri: str | None = None
    """Tracking server; None: the SQLite file of ``out``."""
    more: tuple[str, ...] = ()
    """Further arguments of every command."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of every command."""

    @property
    def store(self) -> str:
        """Tracking URI."""
        return self.uri or f"sqlite:///{self.out}/mlflow.db"

    def arguments(self, *more: str) -> list[str]:
        """Front-door arguments: two base models and one made here, two tasks, one seed."""
        return [
            f"ARCH={ARCH}", f"MIRROR={self.mirror}", f"OUT={self.out}", "candidates=pretrained", f"cache='{self.cache}'",
            f"arch.name={self.arch}", "arch.pretrained.id=tiny/base", "candidates.models=[{id: tiny/other}]",
            "candidates.sources=[{tasks: [sst2]}]", "suite.tasks=[rte,cola]", "method.batch_size=8", "method.max_epochs=2",
            "method.learning_rate=1e-3", "method.max_length=32", "method.validate_every_examples=32", "method.precision=fp32",
            "cluster.cpus=2", "cluster.min_free_gb=0.01",
            *([f"tracking.uri={self.uri}", "tracking.n_writers=4"] if self.uri else []), *self.more, *more,
        ]  # fmt: skip

    def start(self, command: str, *more: str) -> subprocess.Popen[str]:
        """Start a command; the caller waits for it or ends it."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **self.environment}
        return subprocess.Popen(
            [sys.executable, "-m", "ray_app", command, *self.arguments(*more)],
            cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=_hear_interrupts,
        )  # fmt: skip

    def run(self, command: str, *more: str, timeout_s: float = 240) -> tuple[int, str]:
        """Run a command to its end: exit code and what it printed."""
        process = self.start(command, *more)
        try:
            text, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            text, _ = process.communicate()
            raise AssertionError(f"{command} did not end within {timeout_s} s:\n{text}") from None
        return process.returncode, text

    def cells(self) -> dict[str, dict[str, object]]:
        """Scored cells in MLflow by key, read anew."""
        table, _ = sync_table(self.store, self.arch, self.out / "check.parquet", rebuild=True)
        rows = scored_cells(table).to_pylist()
        assert len(rows) == len({row["key"] for row in rows})
        return {str(row["key"]): row for row in rows}

    def n_scored_runs(self) -> int:
        """Scored cell runs in MLflow, whatever their key."""
        table, _ = sync_table(self.store, self.arch, self.out / "check.parquet", rebuild=True)
        return sum(state in ("complete", "diverged") for state in table["state"].to_pylist())

    def wait_for_records(self, process: subprocess.Popen[str], n: int, *, timeout_s: float = 120) -> None:
        """Wait until a running sweep has scored ``n`` cells (records seen or uploaded), or ended."""
        folder, database = self.out / "storage" / "records", self.out / "mlflow.db"
        deadline = time.monotonic() + timeout_s
        while process.poll() is None and time.monotonic() < deadline:
            waiting = len(list(folder.glob("*.record.json"))) if folder.is_dir() else 0
            if waiting + (_complete_runs(database) if database.exists() else 0) >= n:
                return
            time.sleep(0.05)

    def summary(self) -> dict[str, object]:
        """The newest summary.json."""
        newest = max((self.out / "sweep").glob("*/summary.json"), key=lambda path: path.stat().st_mtime_ns)
        return dict(json.loads(newest.read_text()))


def _hear_interrupts() -> None:
    """A test run started in the background ignores SIGINT, and its children would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _complete_runs(database: Path) -> int:
    import sqlite3

    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=1) as connection:
            query = "select count(*) from tags where key = 'startline.complete'"
            return int(connection.execute(query).fetchone()[0])
    except sqlite3.Error:
        return 0
