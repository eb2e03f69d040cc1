"""The long run of the chaos suite: seeded random kills at random moments for as many minutes as wanted, and a log of them.

Rounds of a study with an MLflow server on PostgreSQL, both killed too. A round ends when the study does; what kills a sweep off is
followed by starting it again, as a user would. Then its table is compared with that of an undisturbed run, bit for bit.

Command: make chaos MINUTES=20 [SEED=0]   (writes outputs/chaos-log.md)
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.conftest import free_port
from tests.chaos.harness import INTERVAL_S, SLOTS, ChaosStudy, cells_under_way, kill_session, make_study, raylets
from tracking.errors import StoreError
from tracking.server import ServerConfig, TrackingService

SEEDS = "[0,1,2,3,4,5,6,7]"
PAUSE_S = (1.0, 5.5)
"""Shortest and longest pause between two kills, s."""
WEIGHTS = {"worker": 6.0, "preempted worker": 3.0, "MLflow server": 2.0, "PostgreSQL": 2.0, "driver": 0.6, "machine": 0.6,
           "preempted driver": 0.4, "raylet": 0.4}  # fmt: skip
"""How often what is drawn; what ends a sweep comes seldom enough for one to get going in between (its start takes some 20 s)."""


@dataclass
class Tally:
    """What was done, and what came of it."""

    chance: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    events: list[str] = field(default_factory=list)
    rounds: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def note(self, text: str) -> None:
        """One line of the log."""
        line = f"{time.monotonic() - self.started:7.1f} s  {text}"
        self.events.append(line)
        print(line, flush=True)


class Killer:
    """Kills something at random moments until told to stop."""

    def __init__(self, chaos: ChaosStudy, service: TrackingService, tally: Tally) -> None:
        self.chaos, self.service, self.tally = chaos, service, tally
        self.process: subprocess.Popen[str] | None = None

    def strike(self) -> None:
        """Kill one thing that is there."""
        assert self.process is not None
        kind = self.tally.chance.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))[0]
        if self._kill(kind, self.process):
            self.tally.kills[kind] += 1
            self.tally.note(f"kill {sum(self.tally.kills.values()):3d}: {kind} (step {len(self.chaos.steps())})")

    def _kill(self, kind: str, process: subprocess.Popen[str]) -> bool:
        workers = cells_under_way(process)
        if kind in ("worker", "preempted worker"):
            if not workers:
                return False
            self.tally.chance.choice(workers).send_signal(signal.SIGKILL if kind == "worker" else signal.SIGTERM)
        elif kind == "raylet":
            if not (found := raylets(process)):
                return False
            found[0].kill()
        elif kind == "MLflow server":
            if (group := self.service.server_pid) is None:
                return False
            os.killpg(group, signal.SIGKILL)
        elif kind == "PostgreSQL":
            pid = self.service.postgres.pid if self.service.postgres else None
            if pid is None:
                return False
            os.kill(pid, signal.SIGKILL)
        elif kind == "machine":
            kill_session(process)
        else:
            process.send_signal(signal.SIGKILL if kind == "driver" else signal.SIGTERM)
        return True


def keep_up(service: TrackingService, stop: threading.Event) -> None:
    """What `make tracking-up` does: start again what died."""
    while not stop.wait(1.0):
        try:
            service.watch()
        except StoreError as error:
            print(f"tracking: {error.message}", flush=True)


def run_round(chaos: ChaosStudy, undisturbed: ChaosStudy, killer: Killer, *, until: float) -> None:
    """Run the study to its end, killing as it goes; then compare."""
    tally, n_starts = killer.tally, 0
    first, killed_before = time.monotonic(), sum(tally.kills.values())
    while True:
        process, n_starts = chaos.study.start("sweep"), n_starts + 1
        killer.process = process
        reader = threading.Thread(target=_read, args=(process, chaos.folder / f"sweep-{n_starts}.log"), daemon=True)
        reader.start()
        while process.poll() is None:
            try:
                process.wait(tally.chance.uniform(*PAUSE_S))
            except subprocess.TimeoutExpired:
                if time.monotonic() < until:
                    killer.strike()
        if process.returncode == 0:
            break
        tally.note(f"sweep ended with code {process.returncode}, started again")
        if n_starts > 200:
            tally.wrong.append("a round did not end")
            return
    n_kills = sum(tally.kills.values()) - killed_before
    try:
        chaos.assert_alike(undisturbed)
        verdict = "as undisturbed, bit for bit"
    except AssertionError as error:
        verdict = f"DIFFERS: {str(error).splitlines()[0]}"
        tally.wrong.append(verdict)
    repeated, allowed = (
        chaos.repeated_s(),
        n_kills * SLOTS * (INTERVAL_S + 2 * max(seconds for _, _, seconds in chaos.steps())),
    )
    if repeated > allowed:
        tally.wrong.append(f"{repeated:.1f} s repeated, at most {allowed:.1f} s are allowed")
    trained = sum(seconds for _, _, seconds in chaos.steps())
    tally.rounds.append(
        f"| {len(tally.rounds) + 1} | {len(chaos.study.cells())} | {n_kills} | {n_starts} | {time.monotonic() - first:.0f} | "
        f"{trained:.0f} | {repeated:.1f} | {repeated / max(n_kills, 1):.2f} | {verdict} |"
    )
    tally.note(f"round {len(tally.rounds)}: {n_kills} kills, {verdict}")


def _read(process: subprocess.Popen[str], log: Path) -> None:
    """Keep the pipe empty; a line of a traceback is worth the run's log."""
    assert process.stdout is not None
    with log.open("w") as file:
        for line in process.stdout:
            file.write(line)
            if line.startswith("Traceback"):
                print(f"TRACEBACK in {log}", flush=True)


def report(tally: Tally, seed: int) -> str:
    """The log as Markdown."""
    minutes = (time.monotonic() - tally.started) / 60
    kills = ", ".join(f"{kind} {n}" for kind, n in tally.kills.most_common())
    head = [
        "# Chaos: the log of a long run", "", f"    make chaos MINUTES=n SEED={seed}", "",
        f"{datetime.now(UTC):%Y-%m-%d}, {minutes:.0f} minutes, **{sum(tally.kills.values())} kills** (seed {seed}): {kills}. kill -9 each, but "
        "'preempted', which is SIGTERM. After each round the sweep's table in MLflow is compared with that of an undisturbed run: scores, counts "
        "and curves bit for bit, no run twice, none left RUNNING, no record left on disk.", "",
        f"**{'Nothing differed.' if not tally.wrong else 'WRONG: ' + '; '.join(tally.wrong)}** "
        f"Checkpoint interval {INTERVAL_S} s, {SLOTS} cells at a time.", "",
        "| round | cells | kills | starts | s | s trained | s repeated | s repeated a kill | table |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|", *tally.rounds, "", "## Events", "", "```", *tally.events, "```", "",
    ]  # fmt: skip
    return "\n".join(head)


def main() -> int:
    """Run rounds until time is up; returns 1 where anything differed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("outputs/chaos-log.md"))
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="startline-chaos-"))
    folder.chmod(0o755)
    service = TrackingService(ServerConfig(port=free_port(), workers=1), folder / "tracking")
    stop = threading.Event()
    tally = Tally(chance=random.Random(given.seed))
    try:
        undisturbed = make_study(folder / "undisturbed", step_s=0.02, more=(f"seeds={SEEDS}", "tracking.n_writers=4"))
        code, text = undisturbed.study.run("sweep", timeout_s=600)
        assert code == 0, text
        service.start()
        threading.Thread(target=keep_up, args=(service, stop), daemon=True).start()
        tally.started = time.monotonic()
        until = tally.started + 60 * given.minutes
        while time.monotonic() < until and not tally.wrong:
            number = len(tally.rounds) + 1
            chaos = make_study(folder / f"round{number}", undisturbed, step_s=0.1, more=(f"seeds={SEEDS}",))
            chaos = replace(chaos, study=replace(chaos.study, uri=service.address, arch=f"tiny-{number}"))
            run_round(chaos, undisturbed, Killer(chaos, service, tally), until=until)
            given.out.parent.mkdir(parents=True, exist_ok=True)
            given.out.write_text(report(tally, given.seed))
    finally:
        stop.set()
        service.stop()
        if not tally.wrong:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"written: {given.out}")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
