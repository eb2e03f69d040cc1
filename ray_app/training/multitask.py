"""One model trained on many tasks at once: a shared backbone, a head for each task; a batch is of one task.

The multitask baseline of Don-Yehiya et al. (ACL 2023, section 4): all datasets in one place, which fusing does without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ray_app.training.finetune import Finetuning
from ray_app.training.learners import make_learner
from ray_app.training.models import LoadedModel, check_task, load_model
from ray_app.training.optimization import count_steps
from ray_app.training.randomness import derive_seed, epoch_order
from ray_app.training.scoring import Evaluation
from ray_app.training.settings import ExecutionConfig, FinetuneConfig
from ray_app.training.tokens import EncodedTask, Family
from tracking.errors import InputError

__all__ = ["JointModel", "MultitaskFinetuning", "load_joint"]


@dataclass
class JointModel(LoadedModel):
    """Models that share one backbone, each with the head of its task."""

    parts: list[LoadedModel] = field(default_factory=list)
    """In the order of the tasks; a text-to-text model has no heads, its parts are one model."""

    def reset(self, seed: int) -> None:
        """Put the base model's weights back and draw every head, each from the seed and its place."""
        for place, part in enumerate(self.parts):
            part.reset(derive_seed(seed, "task", place))
        self.model.zero_grad(set_to_none=True)


def load_joint(path: Path, tasks: Sequence[EncodedTask], family: Family) -> JointModel:
    """Load a checkpoint for several tasks; the backbone is in memory once.

    Raises:
        InputError: no task.
        CheckpointError: files are missing or damaged.
    """
    if not tasks:
        raise InputError("no task to train on, expected at least one")
    parts = [load_model(path, tasks[0].facts, family)]
    for task in tasks[1:]:
        if family is Family.TEXT_TO_TEXT:
            parts.append(parts[0])
            continue
        part = load_model(path, task.facts, family)
        prefix = part.model.base_model_prefix
        setattr(part.model, prefix, getattr(parts[0].model, prefix))
        part.pristine = parts[0].pristine
        parts.append(part)
    models = nn.ModuleDict({f"task{place}": part.model for place, part in enumerate(parts)})
    first = parts[0]
    return JointModel(model=models, tokenizer=first.tokenizer, family=family, pristine={}, fresh=(), parts=parts)


class MultitaskFinetuning(Finetuning):
    """A finetune on several tasks: every batch is of one task, tasks come in proportion to their rows, in seeded order.

    Validation and test scores are means over tasks, each task counting once; the weights that validate best are kept. Once
    trained, the shared backbone is the base model; ``loaded.parts[0].model`` holds it with the first task's head.

    Args:
        loaded: from ``load_joint`` of the same tasks in the same order.
        tasks: tokenised tasks.
        config, execution, seed, device: as for ``Finetuning``; an epoch is one pass over all tasks.

    Raises:
        InputError: settings that have no meaning for several tasks, or a task that cannot be trained on.
    """

    def __init__(
        self,
        loaded: JointModel,
        tasks: Sequence[EncodedTask],
        config: FinetuneConfig,
        execution: ExecutionConfig,
        *,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        if config.freeze_backbone or config.distance_penalty:
            raise InputError(
                "freeze_backbone or a distance_penalty came for a multitask training, expected neither: its backbone is what is made"
            )
        self.tasks = list(tasks)
        for part, task in zip(loaded.parts, self.tasks, strict=True):
            check_task(part, task)
        super().__init__(loaded, self.tasks[0], config, execution, seed=seed, device=device)
        parts = zip(loaded.parts, self.tasks, strict=True)
        self.learners = [make_learner(part, task.facts) for part, task in parts]
        self.learner = self.learners[0]
        per_task = [count_steps(len(task["train"]), config)[0] for task in self.tasks]
        self.steps_per_epoch = sum(per_task)
        self.total_steps = max(1, int(np.ceil(round(self.steps_per_epoch * config.max_epochs, 6))))
        self._mixed: tuple[int, list[tuple[int, np.ndarray]]] = (-1, [])

    def _rows_of_step(self) -> np.ndarray:
        epoch, within = divmod(self.progress.step, self.steps_per_epoch)
        if self._mixed[0] != epoch:
            self._mixed = (epoch, self._mixed_batches(epoch))
        place, rows = self._mixed[1][within]
        self._turn_to(place)
        return rows

    def _mixed_batches(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        """Every batch of every task once: (place of the task, its rows)."""
        size = self.config.batch_size
        batches = []
        for place, task in enumerate(self.tasks):
            order = epoch_order(len(task["train"]), seed=derive_seed(self.seed, "task", place), epoch=epoch)
            batches += [(place, order[start : start + size]) for start in range(0, len(order), size)]
        mixed = epoch_order(len(batches), seed=derive_seed(self.seed, "batches"), epoch=epoch)
        return [batches[index] for index in mixed]

    def _turn_to(self, place: int) -> None:
        """Make one task the one that batches are read from and answered for."""
        self.task, self.learner = self.tasks[place], self.learners[place]

    def evaluate(self, split_name: str) -> Evaluation:
        """Score the present weights on a split of every task: mean score and loss, answers one task after the other."""
        found = []
        for place in range(len(self.tasks)):
            self._turn_to(place)
            found.append(super().evaluate(split_name))
        return Evaluation(
            score=float(np.mean([one.score for one in found])),
            loss=float(np.mean([one.loss for one in found])),
            n_eval=sum(one.n_eval for one in found),
            n_correct=None,  # the score is a mean over tasks, not over rows
            n_invalid=sum(one.n_invalid for one in found),
            class_counts={},
            predictions=np.concatenate([np.asarray(one.predictions, dtype=np.float64) for one in found]),
        )

    def labels(self, split_name: str) -> np.ndarray:
        """Labels of a split of all tasks, in the order of its answers."""
        return np.concatenate([np.asarray(task[split_name].labels, dtype=np.float64) for task in self.tasks])
