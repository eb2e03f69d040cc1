"""Cells that share a GPU: each keeps to its share, and one that needs more is tried again alone, with the same number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ray_app.sweeps.attempt import Attempt, run_attempt
from ray_app.sweeps.traces import Traces
from ray_app.training.memory import CONTEXT_BYTES, cap_memory, free_unused
from ray_app.training.models import ModelPool
from tests.integration.test_attempt import KEY, make_order
from tracking.records import pending_records
from tracking.schema import Metric

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

GPU = torch.device("cuda")
TOO_SMALL = 1e-5
"""Share of the card that holds no model (half of it is what is left at least)."""


@pytest.fixture(autouse=True)
def whole_card() -> Iterator[None]:
    yield
    free_unused(GPU)
    cap_memory(GPU, 0)


def test_a_share_is_kept() -> None:
    torch.zeros(1, device=GPU)
    total = torch.cuda.get_device_properties(GPU).total_memory
    cap_memory(GPU, 0.25)
    held = torch.empty(int(0.25 * total - CONTEXT_BYTES - 2**28), dtype=torch.uint8, device=GPU)
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(2**29, dtype=torch.uint8, device=GPU)
    del held
    cap_memory(GPU, 1.0)
    torch.empty(int(0.5 * total), dtype=torch.uint8, device=GPU)


def test_what_a_process_holds_besides_its_tensors_is_left_out_of_its_share() -> None:
    """A step of a real model, so that kernels and workspaces are loaded."""
    layer = torch.nn.TransformerEncoderLayer(768, 12, batch_first=True, device=GPU)
    layer(torch.randn(8, 128, 768, device=GPU)).sum().backward()
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info(GPU)
    besides = total - free - torch.cuda.memory_reserved(GPU)
    assert besides < CONTEXT_BYTES, f"{besides / 2**20:.0f} MiB"


def test_a_cell_that_outgrows_its_share_is_no_failure_and_goes_on_alone(tmp_path: Path) -> None:
    alone = run_attempt(make_order(tmp_path / "alone", gpus=1.0), ModelPool(), device="cuda")
    order = make_order(tmp_path / "shared", gpus=0.25)
    free_unused(GPU)
    cap_memory(GPU, TOO_SMALL)
    with pytest.raises(torch.OutOfMemoryError):
        Attempt(order, ModelPool(), device="cuda").step()
    assert Traces(order.storage).outgrew_share(KEY)
    assert not list(pending_records(order.storage.records)), "a share that is too small is no result"
    free_unused(GPU)
    cap_memory(GPU, 1.0)
    again = run_attempt(make_order(tmp_path / "shared", gpus=1.0), ModelPool(), device="cuda")
    assert again.metrics[Metric.SCORE] == alone.metrics[Metric.SCORE] and again.curve == alone.curve
    assert not Traces(order.storage).outgrew_share(KEY), "a finished cell leaves nothing"
