"""A cell that is given notice at any moment stores what it has, and the next attempt ends with the same record."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from ray_app.sweeps.attempt import Attempt
from ray_app.sweeps.notice import Preempted
from ray_app.training.finetune import Finetuning
from ray_app.training.models import ModelPool
from ray_app.training.settings import ExecutionConfig
from tests.integration.test_attempt import make_order, run
from tracking.records import CellRecord
from tracking.schema import Metric


def essence(record: CellRecord) -> tuple[object, ...]:
    names = (Metric.SCORE, Metric.BEST_VALIDATION_SCORE, Metric.N_CORRECT, Metric.EXAMPLES_SEEN)
    return record.state, record.curve, *(record.metrics[name] for name in names)


def interrupt_at(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Send SIGTERM to this process in the third training step, the second validation or the test."""
    seen = []
    name = "_train_step" if moment == "train" else "evaluate"
    plain = getattr(Finetuning, name)

    def noted(self: Finetuning, *given: str) -> object:
        seen.append(given)
        wanted = {"train": len(seen) == 3, "validation": len(seen) == 2, "test": given == ("test",)}[moment]
        if wanted:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, *given)

    monkeypatch.setattr(Finetuning, name, noted)


@pytest.mark.parametrize("moment", ["train", "validation", "test"])
def test_nothing_is_lost_and_nothing_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    execution = ExecutionConfig(checkpoint_every_s=1e6, eval_batch_tokens=64)
    undisturbed = run(replace(make_order(tmp_path / "undisturbed"), execution=execution))
    order = replace(make_order(tmp_path / "told"), execution=execution)
    attempt = Attempt(order, ModelPool())
    assert attempt.notice is not None
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch, pytest.raises(Preempted):
        interrupt_at(patch, moment)
        while True:
            with attempt.notice.heeded():
                attempt.step()
    assert signal.getsignal(signal.SIGTERM) == before
    assert len(list((order.storage.checkpoints / order.key).glob("step-*"))) == 1
    steps = []
    plain = Finetuning._train_step
    monkeypatch.setattr(Finetuning, "_train_step", lambda self: (steps.append(self.progress.step), plain(self))[1])
    assert essence(run(order)) == essence(undisturbed)
    assert steps == list(range({"train": 3, "validation": 6, "test": 10}[moment], 10)), (
        "5 steps an epoch, 2 epochs, validated every 3 steps"
    )
