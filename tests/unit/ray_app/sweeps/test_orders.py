"""Orders: a cell that is not ready is no order."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ray_app.hub.tasks import SplitCaps, SplitRule
from ray_app.sweeps.materials import TaskVariant
from ray_app.sweeps.orders import Order, Storage, make_order
from ray_app.sweeps.plan import PlannedCell
from ray_app.training.settings import ExecutionConfig, FinetuneConfig, Precision
from ray_app.training.tokens import Family
from tracking.cells import CellIdentity

CELL = PlannedCell(
    identity=CellIdentity(
        arch="tiny", base_model="org/base", base_revision="r", task="rte", data={}, method="finetune", hyperparameters={}, seed=0,
        recipe="1",
    ),
    role="target",
    variant=TaskVariant.of("rte", SplitRule.SITE, SplitCaps()),
    config=FinetuneConfig(precision=Precision.FP32),
    checkpoint=Path("/models/base"),
    encoded=Path("/tokens/rte"),
)  # fmt: skip


def order(cell: PlannedCell) -> Order:
    return make_order(
        cell,
        family=Family.ENCODER,
        execution=ExecutionConfig(),
        storage=Storage(root=Path("/storage")),
        sweep="s",
        attempt="a",
        tags={},
        features=Path("/features"),
    )


def test_an_order_names_the_folder_of_its_base_model() -> None:
    assert order(CELL).base == Path("/models/base")
    made = dataclasses.replace(CELL, checkpoint=None, requires="0123456789abcdef")
    assert order(made).base == Path("/storage/models/0123456789abcdef")


@pytest.mark.parametrize(
    ("lacking", "said"),
    [({"encoded": None}, "no tokenised task"), ({"checkpoint": None}, "neither a checkpoint nor a cell")],
)
def test_a_cell_that_is_not_ready_is_no_order(lacking: dict[str, None], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        order(dataclasses.replace(CELL, **lacking))
