"""A tokenised task of a few sentences, for the tests of probing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from ray_app.training.tokens import SPLITS, EncodedTask, Family, TaskFacts, encode_task
from tests.model_factory import SENTENCES

FACTS = TaskFacts(name="mood", label_names=("bad", "good"), label_words=("bad", "good"), regression=False)
NUMBERS = TaskFacts(name="grade", label_names=(), label_words=(), regression=True)


def tiny_task(folder: Path, model: Path, family: Family, *, n_rows: int = 12, facts: TaskFacts = FACTS) -> EncodedTask:
    """Rows of different lengths; every split has the same ones."""
    from transformers import AutoTokenizer

    texts = [" ".join(SENTENCES[row % 8].split()[: 2 + row % 7]) for row in range(n_rows)]
    labels = np.arange(n_rows) % 2 if not facts.regression else np.arange(n_rows) / 10
    tables = {split: pa.table({"text": texts, "label": labels}) for split in SPLITS}
    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    return encode_task(folder, tokenizer, tables, facts, text_columns=["text"], family=family, max_length=32)
