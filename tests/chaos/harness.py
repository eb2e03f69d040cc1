"""A tiny study whose every training step is noted, and what can be done to it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from tests.tiny_study import TinyStudy, make_mirror
from tracking.client import open_client
from tracking.schema import Kind, Tag, experiment_name

ESSENCE = ("score", "n_correct", "n_eval", "curve", "class_counts", "best_validation_score", "base_revision")
INTERVAL_S = 0.3
"""Checkpoint interval of these studies, s."""
STEP_S = 0.05
"""How long a training step is made to take, s."""
SLOTS = 2
"""Cells that run at the same time."""
_HOOKS = Path(__file__).resolve().parent / "hooks"


def make_study(
    folder: Path, like: ChaosStudy | None = None, *, step_s: float = STEP_S, more: tuple[str, ...] = ()
) -> ChaosStudy:
    """A study in ``folder``, with its own mirror and cache, or those of ``like``."""
    folder.mkdir(parents=True, exist_ok=True)
    mirror = like.study.mirror if like else make_mirror(folder / "mirror")
    cache = like.study.cache if like else folder / "cache"
    study = TinyStudy(mirror, folder / "out", cache, more=(f"execution.checkpoint_every_s={INTERVAL_S}", *more))
    environment = {
        "PYTHONPATH": str(_HOOKS),
        "CHAOS_STEPS": str(folder / "steps.log"),
        "CHAOS_STEP_S": str(step_s),
        "CHAOS_CLOCK": str(folder / "clock"),
    }
    return ChaosStudy(study=replace(study, environment=environment), folder=folder)


@dataclass(frozen=True)
class ChaosStudy:
    """A study, and the folder in which its steps and its clock are kept."""

    study: TinyStudy
    folder: Path

    def on(self, out: Path) -> ChaosStudy:
        """The same study with another output folder."""
        plain = tuple(text for text in self.study.more if not text.startswith("out="))
        return replace(self, study=replace(self.study, out=out, more=plain))

    def against(self, uri: str, name: str) -> ChaosStudy:
        """The same study under another name on a tracking server that others use too."""
        return replace(self, study=replace(self.study, uri=uri, arch=f"tiny-{name}"))

    def steps(self) -> list[tuple[str, int, float]]:
        """Training steps so far, of all attempts: key, step, seconds."""
        path = self.folder / "steps.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(key, int(step), float(seconds)) for key, step, seconds in (line.split() for line in lines)]

    def repeated_s(self) -> float:
        """Seconds of training steps that had been made before."""
        times: dict[tuple[str, int], list[float]] = defaultdict(list)
        for key, step, seconds in self.steps():
            times[key, step].append(seconds)
        return sum(sum(sorted(of_step)[1:]) for of_step in times.values())

    def wait_for_steps(self, process: subprocess.Popen[str], n: int, *, timeout_s: float = 120) -> None:
        """Wait until ``n`` steps were made in all, or the sweep ended."""
        deadline = time.monotonic() + timeout_s
        while process.poll() is None and len(self.steps()) < n and time.monotonic() < deadline:
            time.sleep(0.02)

    def essence(self) -> dict[str, tuple[object, ...]]:
        """What must not depend on any disturbance, by key."""
        return {key: tuple(row[name] for name in ESSENCE) for key, row in self.study.cells().items()}

    def stale_runs(self) -> int:
        """Runs left RUNNING in MLflow, of any kind."""
        client = open_client(self.study.store)
        experiment = client.get_experiment_by_name(experiment_name(self.study.arch))
        return len(client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'"))

    def failed_runs(self) -> int:
        """Failed cells in MLflow."""
        client = open_client(self.study.store)
        experiment = client.get_experiment_by_name(experiment_name(self.study.arch))
        found = client.search_runs(
            [experiment.experiment_id], f"attributes.status = 'FAILED' and tags.`{Tag.KIND}` = '{Kind.CELL}'"
        )
        return len(found)

    def assert_alike(self, undisturbed: ChaosStudy) -> None:
        """Compare with a study of another name, whose keys differ: the same scores of the same cells, each once."""
        assert self.named_scores() == undisturbed.named_scores()
        assert self.study.n_scored_runs() == len(self.study.cells()), "two scored runs of one key"
        assert self.stale_runs() == 0, "a run was left RUNNING"
        assert not list((self.study.out / "storage" / "records").glob("*.record.json")), "a record was not uploaded"

    def named_scores(self) -> dict[tuple[str, ...], tuple[object, ...]]:
        """What must not depend on any disturbance, by base model, task and role; without what holds a key or the study's name."""
        plain = [name for name in ESSENCE if name != "base_revision"]
        scores = {}
        for row in self.study.cells().values():
            base = str(row["base_model"]).replace(f"startline/{self.study.arch}-", "startline/")
            scores[base, str(row["task"]), str(row["role"]), str(row["seed"])] = tuple(row[name] for name in plain)
        return scores

    def assert_as_undisturbed(self, undisturbed: ChaosStudy, *, disturbances: int = 1, resume: bool = True) -> float:
        """Run to the end, then compare everything that a disturbance must not change; returns the seconds repeated."""
        if resume:
            code, text = self.study.run("sweep")
            assert code == 0, text
        assert self.essence() == undisturbed.essence()
        assert self.study.n_scored_runs() == len(self.study.cells()), "two scored runs of one key"
        assert self.stale_runs() == 0, "a run was left RUNNING"
        storage = self.study.out / "storage"
        assert not list((storage / "records").glob("*.record.json")), "a record was not uploaded"
        assert not list((storage / "checkpoints").glob("*/step-*")), "a finished cell left a checkpoint"
        assert {step[:2] for step in self.steps()} == {step[:2] for step in undisturbed.steps()}, (
            "other steps were made"
        )
        longest = max(seconds for _, _, seconds in self.steps())
        allowed = disturbances * SLOTS * (INTERVAL_S + 2 * longest)
        assert self.repeated_s() <= allowed, (
            f"{self.repeated_s():.2f} s of training repeated, at most {allowed:.2f} s are allowed"
        )
        return self.repeated_s()


def cells_under_way(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Workers of a sweep that are training right now."""
    return [child for child in _below(process.pid) if _command(child)[:1] and _command(child)[0].endswith(".train")]


def wait_for_cells(process: subprocess.Popen[str], *, timeout_s: float = 60) -> list[psutil.Process]:
    """Workers that are training, as soon as there are any."""
    deadline = time.monotonic() + timeout_s
    while process.poll() is None and time.monotonic() < deadline:
        if found := cells_under_way(process):
            return found
        time.sleep(0.05)
    return []


def raylets(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Raylets of a sweep's own Ray."""
    return [child for child in _below(process.pid) if any(part.endswith("/raylet") for part in _command(child)[:1])]


def kill_session(process: subprocess.Popen[str]) -> None:
    """What a machine that goes down does to a sweep: everything in its session at once."""
    os.killpg(process.pid, signal.SIGKILL)


def end(process: subprocess.Popen[str], *, timeout_s: float = 240) -> tuple[int, str]:
    """Wait for a sweep; exit code and what it printed."""
    text, _ = process.communicate(timeout=timeout_s)
    return process.returncode, text


def _below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
