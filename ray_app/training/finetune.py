"""One finetune: train, validate, stop early, test the weights that validated best."""

from __future__ import annotations

import gc
import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
import torch

from ray_app.training.batches import MicroBatch, collate, cut, in_length_order
from ray_app.training.learners import EncoderLearner, Learner, TextLearner
from ray_app.training.models import LoadedModel
from ray_app.training.randomness import DropoutPool, RowKeyedDropout, derive_seed, epoch_order
from ray_app.training.scoring import Evaluation, score_answers
from ray_app.training.settings import ExecutionConfig, FinetuneConfig, Precision
from ray_app.training.tokens import EncodedSplit, EncodedTask, Family

logger = logging.getLogger(__name__)

SMALLEST_MICRO_BATCH = 64
"""Padded tokens below which halving a micro-batch is given up."""


@dataclass(frozen=True)
class CurvePoint:
    """One validation."""

    examples_seen: int
    score: float
    loss: float


@dataclass
class Seconds:
    """Where the time of a cell went, summed over attempts."""

    load: float = 0.0
    train: float = 0.0
    validate: float = 0.0
    test: float = 0.0


@dataclass
class Progress:
    """All state of a finetune besides weights and optimiser; small and plain, so that it can be stored as JSON."""

    step: int = 0
    """Optimiser steps done."""
    examples_seen: int = 0
    finished: bool = False
    diverged: bool = False
    best_score: float = -math.inf
    """Validation score of the kept weights."""
    progress_score: float = -math.inf
    """Score that the next progress is measured against."""
    progress_at: int = 0
    """Examples seen at the last progress."""
    curve: list[CurvePoint] = field(default_factory=list)
    seconds: Seconds = field(default_factory=Seconds)
    peak_mem_bytes: int = 0
    micro_batch_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """What a finetune is worth."""

    test: Evaluation
    best_validation_score: float
    diverged: bool
    curve: tuple[CurvePoint, ...]
    examples_seen: int
    seconds: Seconds
    peak_mem_bytes: int


def make_learner(loaded: LoadedModel, task: EncodedTask) -> Learner:
    """The way to ask a model of this family for this task."""
    if loaded.family is Family.TEXT_TO_TEXT:
        return TextLearner(loaded.model, loaded.tokenizer, task.facts)
    return EncoderLearner(loaded.model, task.facts)


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
        self.task = task
        self.config = config
        self.execution = execution
        self.seed = seed
        self.device = torch.device(device)
        loaded.reset(seed)
        self.model = loaded.model.to(self.device)
        self._choose_trained(loaded)
        self.learner = make_learner(loaded, task)
        self.pool = DropoutPool(seed=derive_seed(seed, "pool"), device=self.device)
        self.progress = Progress(micro_batch_tokens=execution.micro_batch_tokens)
        self.best_weights: dict[str, torch.Tensor] = {}
        n_rows = len(task["train"])
        self.steps_per_epoch = math.ceil(n_rows / config.batch_size)
        self.total_steps = max(1, math.ceil(self.steps_per_epoch * config.max_epochs))
        self.optimizer = self._make_optimizer()
        self.anchor = self._make_anchor(loaded) if config.distance_penalty else {}

    def _choose_trained(self, loaded: LoadedModel) -> None:
        """Every weight is trained, or those of the new head alone; set anew for each cell, for models are used again."""
        head = set(loaded.fresh)
        if self.config.freeze_backbone and not head:
            raise ValueError(
                "freeze_backbone leaves nothing to train: a text-to-text model answers with its own head; use `make probe`"
            )
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not self.config.freeze_backbone or name.rpartition(".")[0] in head)

    def _make_optimizer(self) -> torch.optim.AdamW:
        spared = [
            p for n, p in self.model.named_parameters() if p.requires_grad and (p.ndim < 2 or "norm" in n.lower())
        ]
        ids = {id(p) for p in spared}
        decayed = [p for p in self.model.parameters() if p.requires_grad and id(p) not in ids]
        groups = [
            {"params": decayed, "weight_decay": self.config.weight_decay},
            {"params": spared, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.config.learning_rate, fused=True)

    def _make_anchor(self, loaded: LoadedModel) -> dict[str, torch.Tensor]:
        names = {name for name, _ in self.model.named_parameters()}
        return {name: tensor.to(self.device) for name, tensor in loaded.pristine.items() if name in names}

    def rate_factor(self, step: int) -> float:
        """Share of the peak learning rate at an optimiser step: linear rise, then linear fall to 0 after the last.

        Differs: transformers' schedule gives the very first step a rate of 0; a task of ten steps would lose one.
        """
        warmup = math.ceil(self.config.warmup_fraction * self.total_steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return max(0.0, (self.total_steps - step) / max(1, self.total_steps - warmup))

    def _arithmetic(self) -> AbstractContextManager[Any]:
        if self.config.precision is Precision.BF16:
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def _place(self, batch: MicroBatch) -> MicroBatch:
        if self.device.type == "cpu":
            return batch
        inputs = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.inputs.items()}
        return MicroBatch(rows=batch.rows, inputs=inputs, labels=batch.labels.to(self.device), n_tokens=batch.n_tokens)

    def advance(self, *, due: Callable[[], bool] | None = None) -> CurvePoint | None:
        """Train up to the next validation and return it; None when ``due`` asked to pause first (for a checkpoint)."""
        progress, config = self.progress, self.config
        while True:
            last = progress.step >= self.total_steps or progress.diverged
            validated_at = progress.curve[-1].examples_seen if progress.curve else 0
            if last or progress.examples_seen - validated_at >= config.validate_every_examples:
                return self._validate(last=last)
            started = time.perf_counter()
            self._train_step()
            progress.seconds.train += time.perf_counter() - started
            if due is not None and due():
                return None

    def _train_step(self) -> None:
        progress = self.progress
        split = self.task["train"]
        epoch, within = divmod(progress.step, self.steps_per_epoch)
        order = epoch_order(len(split), seed=self.seed, epoch=epoch)
        rows = order[within * self.config.batch_size : (within + 1) * self.config.batch_size]
        self.model.train()
        loss = self._accumulate(split, rows)
        limit = self.config.max_grad_norm or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            logger.warning("diverged at step %d (loss %s, gradient norm %s)", progress.step, loss, norm)
            progress.diverged = True
            self.optimizer.zero_grad(set_to_none=True)
            return
        rate = self.config.learning_rate * self.rate_factor(progress.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        progress.examples_seen += len(rows)
        self._note_memory()

    def _accumulate(self, split: EncodedSplit, rows: np.ndarray) -> float:
        """Gradients of the mean loss of a batch, in micro-batches; out of memory halves them and starts the batch again."""
        weight = self.learner.weight(split.labels[rows])
        while True:
            try:
                total = self._penalty()
                for piece in cut(rows, split.lengths, max_tokens=self.progress.micro_batch_tokens):
                    batch = self._place(collate(split, piece, pad_id=self.task.pad_id))
                    keyed = RowKeyedDropout(
                        self.pool, step=self.progress.step, rows=piece, stride=self.config.max_length
                    )
                    with keyed, self._arithmetic():
                        loss = self.learner.loss(batch) / weight
                    loss.backward()
                    total += float(loss.detach())
                return total
            except (torch.OutOfMemoryError, MemoryError) as error:
                self.optimizer.zero_grad(set_to_none=True)
                self._halve(error)

    def _halve(self, error: BaseException) -> None:
        progress = self.progress
        if progress.micro_batch_tokens // 2 < SMALLEST_MICRO_BATCH:
            raise error
        progress.micro_batch_tokens //= 2
        logger.warning("out of memory: micro-batches of at most %d tokens from here on", progress.micro_batch_tokens)
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _penalty(self) -> float:
        """Add the gradient of the distance penalty; returns its value."""
        if not self.anchor:
            return 0.0
        total = torch.zeros((), device=self.device)
        for name, parameter in self.model.named_parameters():
            if name in self.anchor:
                total = total + (parameter - self.anchor[name]).square().sum()
        penalty = total * (self.config.distance_penalty / 2)
        penalty.backward()
        return float(penalty.detach())

    def _validate(self, *, last: bool) -> CurvePoint:
        progress, config = self.progress, self.config
        started = time.perf_counter()
        outcome = self.evaluate("validation")
        progress.seconds.validate += time.perf_counter() - started
        point = CurvePoint(progress.examples_seen, outcome.score, outcome.loss)
        progress.curve.append(point)
        if outcome.score > progress.best_score:
            progress.best_score = outcome.score
            self.best_weights = {} if last else self._copy_weights()
        if outcome.score > progress.progress_score + config.early_stop_epsilon:
            progress.progress_score, progress.progress_at = outcome.score, progress.examples_seen
        out_of_patience = progress.examples_seen - progress.progress_at >= config.patience_examples
        progress.finished = last or out_of_patience
        return point

    def _copy_weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in self.model.state_dict().items()}

    def evaluate(self, split_name: str) -> Evaluation:
        """Score the present weights on a split."""
        split = self.task[split_name]
        facts = self.task.facts
        answers = np.zeros(len(split), dtype=np.float64 if facts.regression else np.int64)
        self.model.eval()
        loss = 0.0
        with torch.inference_mode(), self._arithmetic():
            for rows in in_length_order(split, max_tokens=self.execution.eval_batch_tokens):
                answered = self._answer(split, rows)
                answers[rows], loss = answered[0], loss + answered[1]
        self._note_memory()
        return score_answers(answers, split.labels, facts, mean_loss=loss / self.learner.weight(split.labels))

    def _answer(self, split: EncodedSplit, rows: np.ndarray) -> tuple[np.ndarray, float]:
        """Answers and summed loss of one micro-batch; out of memory asks for its halves."""
        try:
            answered = self.learner.answer(self._place(collate(split, rows, pad_id=self.task.pad_id)))
            return answered.values, answered.loss
        except (torch.OutOfMemoryError, MemoryError):
            if len(rows) == 1:
                raise
        gc.collect()
        first, second = (self._answer(split, half) for half in np.array_split(rows, 2))
        return np.concatenate([first[0], second[0]]), first[1] + second[1]

    def result(self) -> CellResult:
        """Test the weights that validated best (after a divergence: those the model has)."""
        progress = self.progress
        if self.best_weights and not progress.diverged:
            self.model.load_state_dict(self.best_weights)
        started = time.perf_counter()
        outcome = self.evaluate("test")
        progress.seconds.test += time.perf_counter() - started
        return CellResult(
            test=outcome,
            best_validation_score=progress.best_score,
            diverged=progress.diverged,
            curve=tuple(progress.curve),
            examples_seen=progress.examples_seen,
            seconds=progress.seconds,
            peak_mem_bytes=progress.peak_mem_bytes,
        )

    def _note_memory(self) -> None:
        if self.device.type == "cuda":
            used = torch.cuda.max_memory_allocated(self.device)
        else:
            used = psutil.Process().memory_info().rss
        self.progress.peak_mem_bytes = max(self.progress.peak_mem_bytes, used)


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
