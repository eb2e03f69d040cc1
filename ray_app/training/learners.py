"""What differs between a head and generated text: loss of a micro-batch, and what the model answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ray_app.training.batches import MicroBatch
from ray_app.training.models import LoadedModel
from ray_app.training.tokens import Family, TaskFacts
from tracking.errors import InputError, TaskDataError

INVALID = -1
"""Predicted class of a generated text that is no label."""
_IGNORED = -100
"""Target that no loss is taken of, by the convention of torch and transformers."""
_HIGHEST_NUMBER = 5
"""Numbers that a text-to-text model writes go from 0 to this, as in STS-B."""


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


def make_learner(loaded: LoadedModel, facts: TaskFacts) -> Learner:
    """The way to ask a model of this family for this task."""
    if loaded.family is Family.TEXT_TO_TEXT:
        return TextLearner(loaded.model, loaded.tokenizer, facts)
    return EncoderLearner(loaded.model, facts)


class EncoderLearner:
    """Cross-entropy over classes, or mean squared error for a number, on a classification head over text or images."""

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
        loss = float(self._sum(logits, batch.labels).detach())
        if self.regression:
            return Answers(logits.squeeze(-1).double().cpu().numpy(), loss)
        safe = torch.nan_to_num(logits, nan=float("-inf"), posinf=float("-inf"))
        return Answers(safe.argmax(-1).cpu().numpy().astype(np.int64), loss)


class TextLearner:
    """Label words written token by token; a text that is no label word is an invalid answer.

    Raises:
        InputError: two labels are written alike, or one cannot be written with this tokenizer.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, facts: TaskFacts) -> None:
        self.model: Any = model
        self.tokenizer = tokenizer
        self.regression = facts.regression
        words = (
            [f"{fifth / 5:.1f}" for fifth in range(_HIGHEST_NUMBER * 5 + 1)] if self.regression else facts.label_words
        )
        encoded = tokenizer(text_target=list(words))["input_ids"]
        self._targets = [np.asarray(ids, dtype=np.int64) for ids in encoded]
        self._class_of = _spellings(facts, words, self._texts(encoded))
        self.max_new_tokens = max(len(ids) for ids in encoded)

    def _texts(self, written: Any) -> list[str]:
        texts = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        return [text.strip().lower() for text in texts]

    def _target(self, label: float) -> np.ndarray:
        """Token ids of a label; a number is rounded to the nearest 0.2, as T5 does for STS-B (Raffel et al. 2020, 2.4)."""
        if not self.regression:
            return self._targets[int(label)]
        if not 0 <= label <= _HIGHEST_NUMBER:
            raise TaskDataError(
                f"label {label} came, expected a number from 0 to {_HIGHEST_NUMBER} (a text-to-text model writes numbers as for "
                "STS-B); leave this task out",
                label=label,
            )
        return self._targets[round(float(np.float32(label) * np.float32(5)))]  # in float32, as labels of a batch are

    def weight(self, labels: np.ndarray) -> float:
        """Target tokens."""
        return float(sum(len(self._target(label)) for label in labels.tolist()))

    def loss(self, batch: MicroBatch) -> torch.Tensor:
        """Sum over target tokens."""
        return self._teacher_forced(batch, batch.inputs)

    def _teacher_forced(self, batch: MicroBatch, given: dict[str, Any]) -> torch.Tensor:
        """Loss of the labels' tokens, each given those before it; ``given`` is the input, or the encoder's output."""
        targets = [self._target(label) for label in batch.labels.tolist()]
        padded = np.full((len(targets), max(map(len, targets))), _IGNORED, dtype=np.int64)
        for row, target in enumerate(targets):
            padded[row, : len(target)] = target
        labels = torch.from_numpy(padded).to(batch.labels.device)
        before = self.model.prepare_decoder_input_ids_from_labels(labels)
        logits = self.model(**given, decoder_input_ids=before, use_cache=False).logits.float()
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=_IGNORED, reduction="sum")

    def answer(self, batch: MicroBatch) -> Answers:
        """Greedy generation, exact match with the label words after trimming and lower-casing; the text is read once."""
        given = {
            "encoder_outputs": self.model.get_encoder()(**batch.inputs),
            "attention_mask": batch.inputs["attention_mask"],
        }
        loss = float(self._teacher_forced(batch, given).detach())
        written = self.model.generate(**given, max_new_tokens=self.max_new_tokens, do_sample=False, num_beams=1)
        texts = self._texts(written)
        if self.regression:
            return Answers(np.array([_number(text) for text in texts]), loss)
        return Answers(np.array([self._class_of.get(text, INVALID) for text in texts], dtype=np.int64), loss)


def _spellings(facts: TaskFacts, words: Sequence[str], texts: Sequence[str]) -> dict[str, int]:
    """Class by what its label word reads like once written with the tokenizer (an unknown character is lost on the way)."""
    found: dict[str, int] = {}
    for index, (word, text) in enumerate(zip(words, texts, strict=True)):
        if not text:
            raise InputError(
                f"label word {word!r} of task {facts.name} has no text in this tokenizer, expected one it can write; set "
                "label_words in the task's YAML",
                task=facts.name,
            )
        if text in found:
            raise InputError(
                f"label words {words[found[text]]!r} and {word!r} of task {facts.name} are both written {text!r}, expected "
                "words that differ; set label_words in the task's YAML",
                task=facts.name,
            )
        found[text] = index
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
