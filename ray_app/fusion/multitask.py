"""The multitask baseline as a cell: the pretrained model trained on the datasets of all contributors at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ray_app.fusion.contributors import Workshop
from ray_app.sweeps.multitask_attempt import write_joint
from ray_app.sweeps.plan import PlannedCell
from ray_app.training.tokens import EncodedTask
from tracking.cells import CellIdentity, digest

TASK = "multitask"
"""Name of the task of such a cell."""
_VALIDATIONS = 20
"""Validations over the whole of the training; it does not stop early, for its budget is what it is compared by."""


def multitask_cell(workshop: Workshop, tasks: Sequence[str], *, seed: int, epochs: float) -> PlannedCell:
    """The training of one model on several datasets for so many passes; its model is kept under its key."""
    parts = [workshop.contribution(workshop.pretrained, task, seed=seed) for task in tasks]
    folders = [part.encoded for part in parts if part.encoded is not None]
    fingerprints = [dict(part.identity.data) for part in parts]
    n_rows = sum(len(EncodedTask(folder)["train"]) for folder in folders)
    every = max(workshop.method.validate_every_examples, int(n_rows * epochs / _VALIDATIONS))
    config = dataclasses.replace(
        workshop.method,
        max_epochs=epochs,
        validate_every_examples=every,
        patience_examples=max(1, int(n_rows * epochs)) + every,
    )
    first = parts[0].identity
    shared = {name: first.data[name] for name in ("split_rule", "caps") if name in first.data}
    data = {**shared, "metric": "mean", "revision": digest(fingerprints), "tasks": fingerprints}
    folder = workshop.session.cache / "tokens" / f"{TASK}-{digest([folder.name for folder in folders])}"
    identity = CellIdentity(
        arch=first.arch,
        base_model=first.base_model,
        base_revision=first.base_revision,
        task=TASK,
        data=data,
        method=first.method,
        hyperparameters=config.hyperparameters(),
        seed=seed,
        recipe=first.recipe,
    )
    cost = sum(part.cost for part in parts) * epochs / workshop.method.max_epochs
    return dataclasses.replace(
        parts[0], identity=identity, config=config, encoded=write_joint(folder, folders), cost=cost
    )
