"""What differs between the two families: loss of a micro-batch, and what the model answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ray_app.training.batches import MicroBatch
from ray_app.training.tokens import TaskFacts

INVALID = -1
"""Predicted class of a generated text that is no label."""


@dataclass(frozen=True)
class Answers:
    """What the model answers to a micro-batch."""

    values: np.ndarray
    """Class ids (int64, ``INVALID`` where the text is no label) or numbers (float64; NaN where none), shape (n_rows,)."""
    loss: float
    """Sum of the losses of the rows, in the unit of ``weight``."""


class Learner(Protocol):
    """A model with a task's way of asking it."""

    model: nn.Module

    def weight(self, labels: np.ndarray) -> float:
        """By what a batch's summed loss is divided: rows, or target tokens."""

    def loss(self, batch: MicroBatch) -> torch.Tensor:
        """Sum of the losses of the micro-batch, float32 scalar."""

    def answer(self, batch: MicroBatch) -> Answers:
        """What the model answers, and the loss."""


class EncoderLearner:
    """Cross-entropy over classes, or mean squared error for a number, on a classification head."""

    def __init__(self, model: nn.Module, facts: TaskFacts) -> None:
        self.model = model
        self.regression = facts.regression

    def weight(self, labels: np.ndarray) -> float:
        """Rows."""
        return float(len(labels))

    def _sum(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.regression:
            return F.mse_loss(logits.float().squeeze(-1), labels, reduction="sum")
        return F.cross_entropy(logits.float(), labels, reduction="sum")

    def loss(self, batch: MicroBatch) -> torch.Tensor:
        """Sum over rows."""
        return self._sum(self.model(**batch.inputs).logits, batch.labels)

    def answer(self, batch: MicroBatch) -> Answers:
        """Highest logit (non-finite ones count as lowest), or the number."""
        logits = self.model(**batch.inputs).logits.float()
        loss = float(self._sum(logits, batch.labels))
        if self.regression:
            return Answers(logits.squeeze(-1).double().cpu().numpy(), loss)
        safe = torch.nan_to_num(logits, nan=float("-inf"), posinf=float("-inf"))
        return Answers(safe.argmax(-1).cpu().numpy().astype(np.int64), loss)


class TextLearner:
    """Label words written token by token; a text that is no label word is an invalid answer."""

    def __init__(self, model: nn.Module, tokenizer: Any, facts: TaskFacts) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.regression = facts.regression
        self.words = facts.label_words
        self._class_of = {word.strip().lower(): index for index, word in enumerate(self.words)}
        targets = [f"{tenth / 10:.1f}" for tenth in range(0, 51, 2)] if self.regression else list(self.words)
        encoded = tokenizer(text_target=targets)["input_ids"]
        self._targets = [np.asarray(ids, dtype=np.int64) for ids in encoded]
        self.max_new_tokens = max(len(ids) for ids in encoded)

    def _target(self, label: float) -> np.ndarray:
        """Token ids of a label; a number is rounded to the nearest 0.2, as T5 does for STS-B (Raffel et al. 2020, 2.4)."""
        if self.regression:
            return self._targets[min(len(self._targets) - 1, max(0, round(label * 5)))]
        return self._targets[int(label)]

    def weight(self, labels: np.ndarray) -> float:
        """Target tokens."""
        return float(sum(len(self._target(label)) for label in labels))

    def _teacher_forced(self, batch: MicroBatch) -> torch.Tensor:
        targets = [self._target(float(label)) for label in batch.labels.cpu()]
        padded = np.full((len(targets), max(map(len, targets))), -100, dtype=np.int64)
        for row, target in enumerate(targets):
            padded[row, : len(target)] = target
        labels = torch.from_numpy(padded).to(batch.labels.device)
        logits = self.model(**batch.inputs, labels=labels).logits.float()
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")

    def loss(self, batch: MicroBatch) -> torch.Tensor:
        """Sum over target tokens."""
        return self._teacher_forced(batch)

    def answer(self, batch: MicroBatch) -> Answers:
        """Greedy generation, exact match with the label words after trimming and lower-casing."""
        loss = float(self._teacher_forced(batch))
        written = self.model.generate(  # type: ignore[operator]
            **batch.inputs, max_new_tokens=self.max_new_tokens, do_sample=False, num_beams=1
        )
        texts = [text.strip().lower() for text in self.tokenizer.batch_decode(written, skip_special_tokens=True)]
        if self.regression:
            return Answers(np.array([_number(text) for text in texts]), loss)
        return Answers(np.array([self._class_of.get(text, INVALID) for text in texts], dtype=np.int64), loss)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
