"""Cells that share a GPU and run out of memory on their share: tried again alone on a whole one, and nothing else changes.

Ray is told of one GPU; the cells train on the CPU, and the hook takes memory from one task's cells as long as they share.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.harness import ChaosStudy, make_study

pytestmark = pytest.mark.chaos


def test_what_does_not_fit_a_share_runs_alone(undisturbed: ChaosStudy, tmp_path: Path) -> None:
    chaos = make_study(tmp_path / "study", undisturbed)
    study = replace(chaos.study, environment={**chaos.study.environment, "CHAOS_OUTGROW": "rte"})
    code, text = study.run("sweep", "cluster.gpus=1", "cluster.gpus_per_cell=0.5", "cluster.max_failures=0")
    assert code == 0, text
    assert chaos.failed_runs() == 0, "memory that a neighbour has is no failure of the cell"
    assert chaos.repeated_s() == 0
    chaos.assert_as_undisturbed(undisturbed, resume=False)
