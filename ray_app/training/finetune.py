"""One finetune: train, validate, stop early, test the weights that validated best."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from ray_app.training.batches import collate, cut, in_length_order, place
from ray_app.training.learners import make_learner
from ray_app.training.memory import forget_peak, free_unused, is_out_of_memory, used_bytes
from ray_app.training.models import LoadedModel, check_task, distinct_tensors
from ray_app.training.optimization import (
    add_distance_penalty,
    count_steps,
    limit_gradients,
    make_optimizer,
    rate_factor,
    stage_end,
)
from ray_app.training.progress import CellResult, CurvePoint, Progress
from ray_app.training.randomness import DropoutPool, RowKeyedDropout, derive_seed, epoch_order
from ray_app.training.scoring import Evaluation, score_answers
from ray_app.training.settings import ExecutionConfig, FinetuneConfig, Precision
from ray_app.training.tokens import EncodedTask, Split
from tracking.errors import ConfigError, InputError

logger = logging.getLogger(__name__)

SMALLEST_MICRO_BATCH = 64
"""Padded tokens below which halving a micro-batch is given up."""


class Finetuning:
    """A finetune that can be driven from validation to validation, stored in between and taken up again.

    The number depends on base model, task, settings and seed only. ``advance`` trains up to the next validation;
    ``result`` tests the best weights. Same seed, same result, however often it was stored and resumed.

    Args:
        loaded: model in memory; it is reset to its checkpoint's weights here.
        task: tokenised task.
        config: hyperparameters, precision settled.
        execution: how to carry it out.
        seed: seed of the cell.
        device: where to train.

    Raises:
        ConfigError: the precision is not settled.
        InputError: the task cannot be trained on with this model (see ``check_task``), or has fewer steps than stages.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        task: EncodedTask,
        config: FinetuneConfig,
        execution: ExecutionConfig,
        *,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        if config.precision is Precision.AUTO:
            raise ConfigError(
                "method.precision: 'auto' came, expected fp32 or bf16; settle it first, for the number depends on it"
            )
        check_task(loaded, task)
        self.task = task
        self.config = config
        self.execution = execution
        self.seed = seed
        self.device = torch.device(device)
        forget_peak(self.device)
        loaded.reset(seed)
        self.model = loaded.model.to(self.device)
        self._choose_trained(loaded)
        self.learner = make_learner(loaded, task.facts)
        self.pool = DropoutPool(seed=derive_seed(seed, "pool"), device=self.device)
        self.progress = Progress(micro_batch_tokens=execution.micro_batch_tokens)
        self.eval_tokens = execution.eval_batch_tokens
        self.best_weights: dict[str, torch.Tensor] = {}
        """Weights that validated best, on the CPU; none where those are the model's present ones."""
        self.steps_per_epoch, self.total_steps = count_steps(len(task["train"]), config)
        if config.stages > self.total_steps:
            raise InputError(
                f"{config.stages} stages came for a training of {self.total_steps} steps on {task.facts.name}, expected a step a "
                "stage at least; set fewer with method.stages, or a smaller method.batch_size"
            )
        self.optimizer = make_optimizer(self.model, config)
        self.anchor = self._make_anchor(loaded) if config.distance_penalty else {}
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))
        self.between_batches: Callable[[], None] = _go_on
        """Called after every batch of an evaluation; what it raises ends the evaluation and leaves all else as it was before."""

    def _choose_trained(self, loaded: LoadedModel) -> None:
        """Every weight is trained, or those of the new head alone; set anew for each cell, for models are used again."""
        head = set(loaded.fresh)
        if self.config.freeze_backbone and not head:
            raise ValueError(
                "freeze_backbone leaves nothing to train: a text-to-text model answers with its own head; use `make probe`"
            )
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not self.config.freeze_backbone or name.rpartition(".")[0] in head)

    def _make_anchor(self, loaded: LoadedModel) -> dict[str, torch.Tensor]:
        names = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        return {name: tensor.to(self.device) for name, tensor in loaded.pristine.items() if name in names}

    def _arithmetic(self) -> AbstractContextManager[Any]:
        if self.config.precision is Precision.BF16:
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def advance(self, *, due: Callable[[], bool] | None = None) -> CurvePoint | None:
        """Train up to the next validation and return it; None when ``due`` asked to pause first (for a checkpoint).

        A finetune that is finished stays as it is; its last validation is returned.
        """
        progress = self.progress
        while not progress.finished:
            last = progress.step >= self.total_steps or progress.diverged
            if last or self._validation_is_due():
                return self._validate(last=last)
            started = time.perf_counter()
            self._train_step()
            progress.seconds.train += time.perf_counter() - started
            if due is not None and due():
                return None
        return progress.curve[-1]

    def _validation_is_due(self) -> bool:
        done, config = self.progress.curve, self.config
        if config.stages:
            return self.progress.step >= stage_end(len(done) + 1, n_stages=config.stages, total_steps=self.total_steps)
        validated_at = done[-1].examples_seen if done else 0
        return self.progress.examples_seen - validated_at >= config.validate_every_examples

    def _rows_of_step(self) -> np.ndarray:
        """Rows of the training set in the next batch; the order of an epoch is drawn once."""
        epoch, within = divmod(self.progress.step, self.steps_per_epoch)
        if self._order[0] != epoch:
            self._order = (epoch, epoch_order(len(self.task["train"]), seed=self.seed, epoch=epoch))
        return self._order[1][within * self.config.batch_size : (within + 1) * self.config.batch_size]

    def _train_step(self) -> None:
        progress = self.progress
        rows = self._rows_of_step()
        self.model.train()
        loss = self._accumulate(self.task["train"], rows)
        norm = limit_gradients(self.model, self.config.max_grad_norm)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            logger.warning("diverged at step %d (loss %s, gradient norm %s)", progress.step, loss, norm)
            progress.diverged = True
            self.optimizer.zero_grad(set_to_none=True)
            return
        factor = rate_factor(progress.step, total_steps=self.total_steps, warmup_fraction=self.config.warmup_fraction)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * factor
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        progress.examples_seen += len(rows)
        self._note_memory()

    def _accumulate(self, split: Split, rows: np.ndarray) -> float:
        """Gradients of the mean loss of a batch; where memory runs out, in smaller micro-batches from the start."""
        while True:
            loss = self._try_batch(split, rows)
            if loss is not None:
                return loss
            self.progress.micro_batch_tokens //= 2
            logger.warning(
                "out of memory: micro-batches of at most %d tokens from here on", self.progress.micro_batch_tokens
            )
            free_unused(self.device)

    def _try_batch(self, split: Split, rows: np.ndarray) -> float | None:
        """Gradients and mean loss of a batch in micro-batches; None, and no gradients, where memory ran out."""
        weight = self.learner.weight(split.labels[rows])
        try:
            total = add_distance_penalty(self.model, self.anchor, self.config.distance_penalty)
            for piece in cut(rows, split.lengths, max_tokens=self.progress.micro_batch_tokens):
                batch = place(collate(split, piece, pad_id=self.task.pad_id), self.device)
                keyed = RowKeyedDropout(
                    self.pool,
                    step=self.progress.step,
                    rows=piece,
                    stride=self.config.max_length,
                    windows=self.task.pixels is not None,
                )
                with keyed, self._arithmetic():
                    loss = self.learner.loss(batch) / weight
                loss.backward()
                total = total + loss.detach()
            return float(total)
        except (RuntimeError, MemoryError) as error:
            self.optimizer.zero_grad(set_to_none=True)
            if not is_out_of_memory(error) or self.progress.micro_batch_tokens // 2 < SMALLEST_MICRO_BATCH:
                raise
        return None

    def _validate(self, *, last: bool) -> CurvePoint:
        progress, config = self.progress, self.config
        started = time.perf_counter()
        outcome = self.evaluate("validation")
        progress.seconds.validate += time.perf_counter() - started
        point = CurvePoint(progress.examples_seen, outcome.score, outcome.loss)
        progress.curve.append(point)
        if not math.isfinite(outcome.loss):
            logger.warning("diverged at step %d (validation loss %s)", progress.step, outcome.loss)
            progress.diverged = last = True
        if outcome.score > progress.best_score:
            progress.best_score = outcome.score
            self._keep_weights(needed=not last)
        if outcome.score > progress.progress_score + config.early_stop_epsilon:
            progress.progress_score, progress.progress_at = outcome.score, progress.examples_seen
        out_of_patience = progress.examples_seen - progress.progress_at >= config.patience_examples
        progress.finished = last or (out_of_patience and not config.stages)
        return point

    def _keep_weights(self, *, needed: bool) -> None:
        """Copy the present weights aside; after the last validation they are still in the model when they are tested."""
        if not needed:
            self.best_weights = {}
            return
        for name, tensor in distinct_tensors(self.model).items():
            if name in self.best_weights:
                self.best_weights[name].copy_(tensor)
            else:
                self.best_weights[name] = tensor.to("cpu", copy=True)

    def evaluate(self, split_name: str) -> Evaluation:
        """Score the present weights on a split."""
        split = self.task[split_name]
        facts = self.task.facts
        answers = np.zeros(len(split), dtype=np.float64 if facts.regression else np.int64)
        self.model.eval()
        loss = 0.0
        with torch.inference_mode(), self._arithmetic():
            for rows in self._batches_of(split):
                answered = self._answer(split, rows)
                answers[rows], loss = answered[0], loss + answered[1]
                self.between_batches()
        self._note_memory()
        answers, loss = self._joined(answers, loss)
        return score_answers(answers, split.labels, facts, mean_loss=loss / self.learner.weight(split.labels))

    def _batches_of(self, split: Split) -> Iterator[np.ndarray]:
        """Rows of a split that this process answers, batch by batch: all of them."""
        return in_length_order(split, max_tokens=self.eval_tokens)

    def _joined(self, answers: np.ndarray, loss: float) -> tuple[np.ndarray, float]:
        """Answers and summed loss of the whole split, from those of this process."""
        return answers, loss

    def labels(self, split_name: str) -> np.ndarray:
        """Labels of a split, in the order of its answers."""
        return np.asarray(self.task[split_name].labels)

    def _answer(self, split: Split, rows: np.ndarray) -> tuple[np.ndarray, float]:
        """Answers and summed loss of one micro-batch; out of memory asks for its halves."""
        try:
            answered = self.learner.answer(place(collate(split, rows, pad_id=self.task.pad_id), self.device))
            return answered.values, answered.loss
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or len(rows) == 1:
                raise
        self.eval_tokens = max(SMALLEST_MICRO_BATCH, self.eval_tokens // 2)  # from the next pass on
        free_unused(self.device)
        first, second = (self._answer(split, half) for half in np.array_split(rows, 2))
        return np.concatenate([first[0], second[0]]), first[1] + second[1]

    def result(self) -> CellResult:
        """Test the weights that validated best (after a divergence: those the model has)."""
        progress = self.progress
        if self.best_weights and not progress.diverged:
            self.model.load_state_dict(self.best_weights, strict=False)  # tied weights have one name here
        started = time.perf_counter()
        outcome = self.evaluate("test")
        progress.seconds.test += time.perf_counter() - started
        return CellResult(
            test=outcome,
            best_validation_score=progress.curve[-1].score if progress.diverged else progress.best_score,
            diverged=progress.diverged,
            curve=tuple(progress.curve),
            examples_seen=progress.examples_seen,
            seconds=progress.seconds,
            peak_mem_bytes=progress.peak_mem_bytes,
        )

    def _note_memory(self) -> None:
        self.progress.peak_mem_bytes = max(self.progress.peak_mem_bytes, used_bytes(self.device))


def _go_on() -> None:
    """Nothing to see to."""


def finetune(
    loaded: LoadedModel,
    task: EncodedTask,
    config: FinetuneConfig,
    execution: ExecutionConfig,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    report: Callable[[CurvePoint], bool] | None = None,
) -> CellResult:
    """Finetune a base model on a task and test it: the whole protocol in one call, for notebooks and tests.

    Args:
        loaded: model in memory (``models.load_model``).
        task: tokenised task.
        config: hyperparameters, precision settled.
        execution: how to carry it out.
        seed: seed of the cell.
        device: where to train.
        report: called with every validation; returns False to end training there.
    """
    run = Finetuning(loaded, task, config, execution, seed=seed, device=device)
    while not run.progress.finished:
        point = run.advance()
        if report is not None and point is not None and not report(point):
            break
    return run.result()
