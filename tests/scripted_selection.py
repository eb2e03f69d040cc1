"""Selections on a real Ray with trials that follow a script instead of training: for what schedulers promise.

Run as a process of its own (Ray reads its settings when it is first imported): ``python -m tests.scripted_selection FOLDER NAME...``
runs one selection for every scheduler named and leaves what happened in FOLDER/NAME.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from analysis.selection.knowledge import Knowledge, RoundRules
from analysis.selection.performance import PerformanceMatrix
from analysis.selection.policies import POLICIES
from analysis.selection.rounds import RoundPolicy
from ray_app.hub.tasks import SplitRule
from ray_app.selection.rounds import Ledger, LiveRounds, StoppedLedger
from ray_app.selection.settings import ASHA
from ray_app.sweeps.materials import TaskVariant
from ray_app.sweeps.orders import Order, Storage
from ray_app.sweeps.plan import PlannedCell
from ray_app.sweeps.progress import SweepProgress
from ray_app.sweeps.settings import ClusterConfig
from ray_app.training.settings import ExecutionConfig, FinetuneConfig
from ray_app.training.tokens import Family
from tracking.cells import CellIdentity
from tracking.schema import Param

N_STAGES = 4
CURVES: dict[str, list[float]] = {
    "steady": [0.60, 0.66, 0.70, 0.72],
    "late": [0.50, 0.62, 0.74, 0.80],
    "best": [0.70, 0.75, 0.79, 0.83],
    "fails": [0.72, 0.76, 0.80, 0.84],
    "lost": [0.65, 0.68, 0.71, 0.73],
    "doomed": [0.90, 0.91, 0.92, 0.93],
    "poor": [0.30, 0.31, 0.32, 0.33],
    "equal": [0.60, 0.66, 0.70, 0.72],
}
"""Candidate -> validation scores. 'fails' reports a failure in stage 2, 'doomed' in stage 1; see ``DIES``."""
DIES = {"fine_selection": "lost,doomed", "asha": "doomed"}
"""Scheduler -> candidates whose workers die in stage 1: that of 'lost' once, that of 'doomed' every time. A new worker takes seconds, so
that not every scheduler is put through it: all but ASHA are one class."""
SLOTS = 2


def record_of(names: Sequence[str]) -> PerformanceMatrix:
    """Six benchmark tasks on which every candidate's test score is a little above its first validation score."""
    rng = np.random.default_rng(5)
    validation = np.sort(rng.uniform(0.3, 0.9, (len(names), 6, N_STAGES)), axis=2)
    tasks = tuple(f"task{index}" for index in range(6))
    return PerformanceMatrix(
        base_models=tuple(names), tasks=tasks, test=validation[:, :, -1] + 0.01, validation=validation
    )


def policy_of(name: str) -> RoundPolicy:
    """The policy as live and replay are given it."""
    return POLICIES[name](RoundRules(), Knowledge(record=record_of(list(CURVES)), n_validation=400))


def run_scripted(name: str, folder: Path) -> dict[str, Any]:
    """One selection; what happened as JSON-ready values."""
    from ray_app.selection.schedulers import scheduler_for
    from ray_app.sweeps.runner import run_cells
    from tests.scripted_trial import ScriptedTrial

    folder.mkdir(parents=True)
    cells = [_cell(candidate) for candidate in CURVES]
    ledger: Ledger = (
        StoppedLedger(names=tuple(CURVES), n_stages=N_STAGES)
        if name == ASHA
        else LiveRounds(names=tuple(CURVES), n_stages=N_STAGES, policy=policy_of(name))
    )
    heard: list[tuple[str, int]] = []

    def note(candidate: str) -> None:
        reached = (candidate, len(ledger.curves.get(candidate, ())))
        if reached not in heard:
            heard.append(reached)

    run_cells(
        cells,
        lambda cell: _order(cell, Storage(root=folder), dies=DIES.get(name, "")),
        cluster=ClusterConfig(cpus=SLOTS, max_failures=1 if "lost" in DIES.get(name, "") else 0),
        storage=Storage(root=folder),
        sweep=name,
        progress=SweepProgress(total=len(cells), total_cost=1.0, console=Console(quiet=True)),
        scheduler=lambda queue: scheduler_for(
            ledger,
            {cell.key: cell.identity.base_model for cell in cells},
            hands_again=queue.hands_again,
            look_up=lambda key: None,
            note=note,
        ),
        trainable=ScriptedTrial,
    )
    if isinstance(ledger, StoppedLedger):
        ledger.close()
    logs = [path.read_text().splitlines() for path in sorted(folder.glob("*.log"))]
    return {
        "chosen": ledger.chosen,
        "curves": ledger.curves,
        "finals": ledger.finals,
        "drops": [asdict(drop) for drop in ledger.drops],
        "counts": ledger.counts,
        "heard": heard,
        "trained": [json.loads(line) for lines in logs for line in lines],
    }


def _cell(candidate: str) -> PlannedCell:
    identity = CellIdentity(
        arch="scripted",
        base_model=candidate,
        base_revision="0",
        task="target",
        data={},
        method="finetune",
        hyperparameters={},
        seed=0,
        recipe="0",
    )
    variant = TaskVariant(name="target", split_rule=SplitRule.SITE, caps=(None, None, None))
    return PlannedCell(
        identity=identity, role="target", variant=variant, config=FinetuneConfig(), checkpoint=Path("x"), cost=1.0
    )


def _order(cell: PlannedCell, storage: Storage, *, dies: str) -> Order:
    return Order(
        key=cell.key,
        attempt="1",
        arch="scripted",
        family=Family.ENCODER,
        base=Path("x"),
        base_name=cell.identity.base_model,
        encoded=Path("x"),
        config=FinetuneConfig(),
        execution=ExecutionConfig(),
        seed=0,
        keep_model=False,
        storage=storage,
        params={"dies": dies, Param.METHOD: "finetune"},
        tags={},
        features=Path("x"),
    )


def main(folder: Path, names: Sequence[str]) -> None:
    """Run every scheduler named, on one Ray."""
    from ray_app.sweeps.runner import ray_cluster

    with ray_cluster(ClusterConfig(cpus=SLOTS)):
        for name in names:
            result = run_scripted(name, folder / name)
            (folder / f"{name}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
