"""Models of real size with random weights, tokenised random texts of realistic length, and the work they take.

For bench_training_core.py; not a benchmark itself. Nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ray_app.training.tokens import EncodedTask, Family, TaskFacts, encode_task

SHAPES = {"roberta-base": Family.ENCODER, "t5-small": Family.TEXT_TO_TEXT}
FACTS = TaskFacts(name="made", label_names=("no", "yes"), label_words=("no", "yes"), regression=False)
TARGET_TOKENS = 2
"""Tokens a text-to-text model writes: the label's word and the end."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Lengths of texts in tokens: log-normal, cut to [6, longest].

    The defaults are the medians, over the 35 tasks of the mirror, of a task's median length and of its standard deviation
    of the logarithm.
    """

    median: float = 30.0
    log_sd: float = 0.45
    longest: int = 128
    seed: int = 0

    def draw(self, n: int) -> np.ndarray:
        """Lengths of ``n`` texts, shape (n,), int64."""
        rng = np.random.default_rng(self.seed)
        drawn = np.exp(rng.normal(np.log(self.median), self.log_sd, size=n))
        return np.clip(np.rint(drawn), 6, self.longest).astype(np.int64)


def build_checkpoint(shape: str, folder: Path, *, layers: int | None) -> Path:
    """A checkpoint in hub format: the published sizes, random weights, a tokenizer that knows one word per token id.

    Args:
        shape: one of ``SHAPES``.
        folder: where to put it.
        layers: of the encoder, and of the decoder; None: as many as the published model has.
    """
    import torch

    torch.manual_seed(0)
    model, special = _roberta(layers) if shape == "roberta-base" else _t5(layers)
    model.save_pretrained(folder)
    _tokenizer(model.config.vocab_size, special, pair=shape == "roberta-base").save_pretrained(folder)
    return folder


def _roberta(layers: int | None) -> tuple[Any, dict[str, str]]:
    from transformers import RobertaConfig, RobertaForSequenceClassification

    config = RobertaConfig(
        vocab_size=50265,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        num_hidden_layers=layers or 12,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return RobertaForSequenceClassification(config), special


def _t5(layers: int | None) -> tuple[Any, dict[str, str]]:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=32128,
        d_model=512,
        d_kv=64,
        d_ff=2048,
        num_layers=layers or 6,
        num_heads=8,
        pad_token_id=0,
        eos_token_id=1,
    )
    config.decoder_start_token_id = 0
    return T5ForConditionalGeneration(config), {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


def _tokenizer(vocab_size: int, special: dict[str, str], *, pair: bool) -> Any:
    """Words w0, w1, ... and the label words, one token each; the special tokens first."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [*special.values(), *FACTS.label_words]
    words += [f"w{number}" for number in range(vocab_size - len(words))]
    vocabulary = {word: number for number, word in enumerate(words)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=special["unk_token"]))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = [special["bos_token"], special["eos_token"]] if pair else [special["eos_token"]]
    inner.post_processor = processors.TemplateProcessing(
        single=f"{names[0]} $A {names[1]}" if pair else f"$A {names[0]}",
        special_tokens=[(name, vocabulary[name]) for name in names],
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special)


def encode_texts(shape: str, checkpoint: Path, folder: Path, *, n_rows: int, lengths: Lengths) -> EncodedTask:
    """Random texts whose tokenised lengths are those drawn, tokenised by the training core into ``folder``."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    added = 2 if SHAPES[shape] is Family.ENCODER else 3  # special tokens; the task's and the column's name and the end
    rng = np.random.default_rng(lengths.seed + 1)
    wanted = lengths.draw(n_rows) - added
    texts = [" ".join(f"w{number}" for number in rng.integers(0, 30_000, size=count)) for count in wanted]
    table = pa.table({"text": texts, "label": rng.integers(0, 2, size=n_rows)})
    few = table.slice(0, min(64, n_rows))
    return encode_task(
        folder,
        tokenizer,
        {"train": table, "validation": few, "test": few},
        FACTS,
        text_columns=["text"],
        family=SHAPES[shape],
        max_length=lengths.longest,
    )


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one example of a given length costs, forward and backward, in floating-point operations.

    6 operations for each weight outside the embeddings and each token that passes it, and 12 x width x (query length x key
    length) for each layer of attention (forward: two products of 2 operations; backward: twice that).
    """

    per_source_token: float
    per_target_token: float
    per_row: float
    self_layers: int
    target_layers: int
    width: int

    def of(self, lengths: np.ndarray) -> float:
        """Operations for texts of these lengths; padding counts for nothing."""
        tokens, squares, rows = float(lengths.sum()), float((lengths**2).sum()), len(lengths)
        written = TARGET_TOKENS if self.target_layers else 0
        linear = self.per_source_token * tokens + self.per_target_token * written * rows + self.per_row * rows
        pairs = self.self_layers * squares + self.target_layers * written * (tokens + written * rows)
        return linear + 12.0 * self.width * pairs


def work_of(model: Any, family: Family) -> Work:
    """Count a model's weights by the tokens that pass them."""
    config = model.config
    if family is Family.ENCODER:
        head = _count(model.classifier)
        layers = _count(model.base_model.encoder)
        return Work(
            per_source_token=6.0 * layers,
            per_target_token=0.0,
            per_row=6.0 * head,
            self_layers=config.num_hidden_layers,
            target_layers=0,
            width=config.hidden_size,
        )
    inner = config.num_heads * config.d_kv
    crossing = (
        config.num_decoder_layers * 2 * config.d_model * inner
    )  # keys and values of the source, made in the decoder
    return Work(
        per_source_token=6.0 * (_count(model.encoder.block) + crossing),
        per_target_token=6.0 * (_count(model.decoder.block) - crossing + config.d_model * config.vocab_size),
        per_row=0.0,
        self_layers=config.num_layers,
        target_layers=config.num_decoder_layers,
        width=inner,
    )


def _count(part: Any) -> int:
    return sum(parameter.numel() for parameter in part.parameters())
