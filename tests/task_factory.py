"""Tiny tasks that a tiny model can learn, tokenised for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ray_app.training.tokens import EncodedTask, Family, TaskFacts, encode_task

WORDS = ("river", "village", "library", "brother", "chess", "park", "spring", "story", "rains", "bread")
"""Words that every tokenizer of ``model_factory`` knows whole."""

SIGN = "film"
"""The word that decides the label."""

WORD = TaskFacts(name="sign", label_names=("absent", "present"), label_words=("dull", "delight"), regression=False)
"""Is the sign in the text?"""

COUNT = TaskFacts(name="signs", label_names=(), label_words=(), regression=True)
"""How often is the sign in the text, 0 to 5?"""


def make_task(
    folder: Path,
    tokenizer: Any,
    *,
    facts: TaskFacts = WORD,
    family: Family = Family.ENCODER,
    sizes: tuple[int, int, int] = (64, 24, 24),
    words: tuple[int, int] = (3, 16),
    seed: int = 0,
    max_length: int = 32,
) -> EncodedTask:
    """Tokenise one of the tasks above.

    Args:
        folder: where to put it.
        tokenizer: of the model.
        facts: ``WORD`` or ``COUNT``.
        family: of the model.
        sizes: rows of train, validation and test.
        words: fewest and most words of a text.
        seed: of the texts.
        max_length: most tokens of a row.
    """
    generator = np.random.default_rng(seed)
    tables = {
        split: _rows(n, generator, regression=facts.regression, words=words)
        for split, n in zip(("train", "validation", "test"), sizes, strict=True)
    }
    return encode_task(folder, tokenizer, tables, facts, text_columns=["text"], family=family, max_length=max_length)


def _rows(n: int, generator: np.random.Generator, *, regression: bool, words: tuple[int, int]) -> pa.Table:
    texts, labels = [], []
    for row in range(n):
        text = list(generator.choice(WORDS, size=generator.integers(words[0], words[1] + 1)))
        count = int(generator.integers(0, 6)) if regression else row % 2
        for _ in range(count):
            text.insert(int(generator.integers(0, len(text) + 1)), SIGN)
        texts.append(" ".join(text))
        labels.append(float(count) if regression else count)
    return pa.table({"text": texts, "label": labels})
