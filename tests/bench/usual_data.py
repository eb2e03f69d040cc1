"""What the usual recipe is given to run on: the very rows of Startline's splits; not a benchmark itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ray_app.config import CONF, load_config
from ray_app.hub.checkpoints import find_checkpoints
from ray_app.hub.task_yaml import read_task_config
from ray_app.sweeps.materials import TaskShelf, TaskVariant


def write_usual_data(overrides: Sequence[str], folder: Path, *, slots: int) -> dict[str, Any]:
    """The very rows of Startline's splits as plain Parquet, and what else the usual recipe is told (this is not timed)."""
    config = load_config(overrides)
    configs = {name: read_task_config(CONF / "task" / f"{name}.yaml") for name in config.suite.tasks}
    shelf = TaskShelf(configs, mirror=config.mirror, cache=folder, offline=True)
    variants = [TaskVariant.of(name, config.suite.split_rule, config.suite.caps) for name in config.suite.tasks]
    found, errors = find_checkpoints(
        [config.arch.pretrained],
        mirror=config.mirror,
        cache_dir=folder,
        expected_model_types=config.arch.model_types,
        offline=True,
        min_free_bytes=0,
    )
    if errors:
        raise errors[0]
    tasks = {}
    for variant in variants:
        data = shelf.read(variant)
        columns = list(data.text_columns)
        for split, table in data.splits.items():
            path = folder / variant.name / f"{split}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table.select([*columns, "label"]), path)
        tasks[variant.name] = {"columns": columns, "n_labels": shelf.facts(variant.name).n_outputs}
    names = (
        "max_length",
        "batch_size",
        "learning_rate",
        "weight_decay",
        "warmup_fraction",
        "max_epochs",
        "max_grad_norm",
    )
    return {
        "data": str(folder),
        "tasks": tasks,
        "model": str(found[0].path),
        "seeds": config.seeds,
        "slots": slots,
        **{name: getattr(config.method, name) for name in names},
    }
