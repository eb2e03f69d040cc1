"""Pretraining of the embedded base model: a small BERT on the docstring corpus.

Three parts, each measured in docs/embedded.md: token vectors from neighbour counts as the start, masked-language modelling, and
replaced-token detection on the tokens that are not masked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ray_app.embedded.config import EmbeddedConfig
from ray_app.embedded.corruption import Corrupted, corrupt_rows
from ray_app.embedded.spectral import spectral_embeddings
from ray_app.embedded.tokenizer import CLS_ID, FIRST_ORDINARY_ID, SEP_ID, encode_texts
from tracking.errors import InputError

if TYPE_CHECKING:
    import torch
    from transformers import BertConfig, BertForMaskedLM

HELDOUT_MASK_SHARE = 0.15
"""Share of the tokens predicted in the held-out measurement, whatever the training's share: comparable between configs."""
_ADAM_BETAS, _ADAM_EPSILON, _MAX_GRAD_NORM = (0.9, 0.98), 1e-6, 1.0
_SMOOTHED_STEPS = 100
"""Steps over which a reported training loss is the mean."""


@dataclass(frozen=True, kw_only=True)
class PretrainReport:
    """What pretraining reached."""

    n_parameters: int
    """Parameters of the model, its masked-language head included."""
    n_tokens_corpus: int
    """Tokens of the text trained on."""
    n_tokens_seen: int
    """Tokens passed through the model, repeats included."""
    heldout_loss: float
    """Cross-entropy of masked tokens on text not trained on, nats a token."""
    unigram_loss: float
    """The same without context: from the token frequencies of the training text, nats a token."""
    bf16: bool
    """Forward and backward products ran in bfloat16."""
    train_s: float
    """Wall seconds of the steps."""


def pretrain(
    train_texts: Sequence[str],
    heldout_texts: Sequence[str],
    config: EmbeddedConfig,
    *,
    folder: Path,
    progress: Callable[[str], None],
) -> PretrainReport:
    """Train a BERT on ``train_texts`` with the tokenizer in ``folder``, and save it there in hub format (safetensors).

    AdamW, linear warm-up and decay, one process, torch's own number of threads; rows are cut from the joined text, so that there is
    no padding; the vocabulary head runs on the tokens to be predicted only. bfloat16 where the processor multiplies it, else float32.
    Same texts, config, processor and threads: same weights. Global random state is left as it was.

    Args:
        train_texts: passages to learn from.
        heldout_texts: passages to measure on; none of them is learned from.
        config: sizes.
        folder: holds the tokenizer; gets config.json and model.safetensors.
        progress: gets a line of text every tenth of the steps.

    Raises:
        InputError: the texts are shorter than one batch (train) or one row (held out).

    Cost: linear in steps x batch_rows x row_tokens.
    """
    import torch

    train_tokens = encode_texts(train_texts, folder=folder)
    heldout_rows = cut_rows(encode_texts(heldout_texts, folder=folder), row_tokens=config.row_tokens)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        pretrainer = _Pretrainer(config, train_tokens, vocab_size=_vocab_size(folder))
        started = time.perf_counter()
        pretrainer.train(progress)
        train_s = time.perf_counter() - started
    ordinary = heldout_rows[heldout_rows >= FIRST_ORDINARY_ID]
    report = PretrainReport(
        n_parameters=sum(parameter.numel() for parameter in pretrainer.model.parameters()),
        n_tokens_corpus=len(train_tokens),
        n_tokens_seen=config.steps * config.batch_rows * config.row_tokens,
        heldout_loss=pretrainer.heldout_loss(heldout_rows),
        unigram_loss=unigram_loss(pretrainer.frequencies, ordinary),
        bf16=pretrainer.bf16,
        train_s=train_s,
    )
    pretrainer.model.save_pretrained(folder)
    return report


def unigram_loss(frequencies: NDArray[np.float64], tokens: NDArray[np.int64]) -> float:
    """Mean of -log((f_t + 1) / sum(f + 1)) over the tokens t, nats: what guessing by training frequencies costs.

    Args:
        frequencies: (vocab_size,) occurrences in the training text, 0 for special tokens, which no guess is spent on.
        tokens: (n,) ordinary token ids.
    """
    smoothed = frequencies[FIRST_ORDINARY_ID:] + 1.0
    return float(-np.log(smoothed / smoothed.sum())[tokens - FIRST_ORDINARY_ID].mean())


def cut_rows(tokens: NDArray[np.int64], *, row_tokens: int, offset: int = 0) -> NDArray[np.int64]:
    """(n_rows, row_tokens) rows: [CLS], row_tokens - 2 consecutive tokens, [SEP]; without padding, a shorter rest is left out.

    Args:
        tokens: (n,) the joined text.
        row_tokens: at least 3.
        offset: tokens left out at the start.
    """
    width = row_tokens - 2
    n_rows = max(0, (len(tokens) - offset) // width)
    body = tokens[offset : offset + n_rows * width].reshape(n_rows, width)
    return np.pad(np.pad(body, ((0, 0), (1, 0)), constant_values=CLS_ID), ((0, 0), (0, 1)), constant_values=SEP_ID)


def multiplies_bf16() -> bool:
    """Whether this processor has bfloat16 products in hardware; without, bfloat16 is slower than float32."""
    import torch

    able = torch.cpu.get_capabilities()
    return any(bool(able.get(name)) for name in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16"))


class _Pretrainer:
    """The model being trained with all that a step needs."""

    def __init__(self, config: EmbeddedConfig, tokens: NDArray[np.int64], *, vocab_size: int) -> None:
        import torch

        self.config = config
        self.tokens = tokens
        self.rng = np.random.default_rng(config.seed)
        self.bf16 = multiplies_bf16()
        self.frequencies = np.bincount(tokens, minlength=vocab_size).astype(np.float64)
        self.frequencies[:FIRST_ORDINARY_ID] = 0.0
        self.model = _new_model(_shape(config, vocab_size), tokens, self.rng)
        self.detector = torch.nn.Sequential(
            torch.nn.Linear(config.hidden, config.hidden), torch.nn.GELU(), torch.nn.Linear(config.hidden, 1)
        )
        self.parameters = [*self.model.parameters(), *self.detector.parameters()]

    def train(self, progress: Callable[[str], None]) -> None:
        """All steps."""
        import torch

        config = self.config
        optimizer = self._optimizer()
        warmup = max(1, round(config.warmup_share * config.steps))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / warmup, (config.steps - step) / max(1, config.steps - warmup))
        )
        batches = self._batches()
        losses: list[tuple[float, float]] = []
        for step in range(1, config.steps + 1):
            original = next(batches)
            predict_loss, detect_loss = self._losses(self._corrupt(original), original)
            (predict_loss + config.detection_weight * detect_loss).backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, _MAX_GRAD_NORM)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            losses.append((predict_loss.item(), detect_loss.item()))
            if step % max(1, config.steps // 10) == 0:
                predicted, detected = np.mean(losses[-_SMOOTHED_STEPS:], axis=0)
                progress(
                    f"pretraining: step {step} of {config.steps}, loss of masked tokens {predicted:.2f}, "
                    f"of replaced-token detection {detected:.3f}"
                )

    def heldout_loss(self, rows: NDArray[np.int64]) -> float:
        """Masked-token cross-entropy on rows, nats a token; the same masks whatever the training."""
        import torch

        rng = np.random.default_rng(self.config.seed)
        self.model.eval()
        total = count = 0.0
        with torch.no_grad():
            for start in range(0, len(rows), self.config.batch_rows):
                part = rows[start : start + self.config.batch_rows]
                corrupted = corrupt_rows(
                    part, mask_share=HELDOUT_MASK_SHARE, replace_share=0.0, frequencies=self.frequencies, rng=rng
                )
                total += self._losses(corrupted, part)[0].item() * len(corrupted.predicted)
                count += len(corrupted.predicted)
        if not count:
            raise InputError("the held-out text is shorter than one row; give more of it, or make row_tokens smaller")
        return total / count

    def _corrupt(self, rows: NDArray[np.int64]) -> Corrupted:
        return corrupt_rows(
            rows,
            mask_share=self.config.mask_share,
            replace_share=self.config.replace_share,
            frequencies=self.frequencies,
            rng=self.rng,
        )

    def _losses(self, corrupted: Corrupted, original: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy of the predicted tokens, and binary cross-entropy of the judged ones."""
        import torch
        from torch.nn import functional

        predicted, judged = torch.from_numpy(corrupted.predicted), torch.from_numpy(corrupted.judged)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            states = self.model.bert(torch.from_numpy(corrupted.rows)).last_hidden_state.flatten(0, 1)
            logits = self.model.cls(states[predicted])
            verdicts = self.detector(states)[:, 0]
        wanted = torch.from_numpy(original.reshape(-1))[predicted]
        replaced = torch.from_numpy(corrupted.replaced).float()
        return (
            functional.cross_entropy(logits.float(), wanted),
            functional.binary_cross_entropy_with_logits(verdicts.float()[judged], replaced),
        )

    def _optimizer(self) -> torch.optim.Optimizer:
        """AdamW; biases and norms are not decayed."""
        import torch

        groups = [
            {"params": [item for item in self.parameters if item.ndim >= 2], "weight_decay": self.config.weight_decay},
            {"params": [item for item in self.parameters if item.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.config.learning_rate, betas=_ADAM_BETAS, eps=_ADAM_EPSILON, fused=True)

    def _batches(self) -> Iterator[NDArray[np.int64]]:
        """Batches (batch_rows, row_tokens) for ever: every pass cuts the text at another offset and shuffles the rows."""
        config = self.config
        while True:
            offset = int(self.rng.integers(config.row_tokens - 2))
            rows = cut_rows(self.tokens, row_tokens=config.row_tokens, offset=offset)
            if len(rows) < config.batch_rows:
                raise InputError(
                    f"the text makes {len(rows)} rows, fewer than one batch of {config.batch_rows}; raise max_bytes"
                )
            rows = rows[self.rng.permutation(len(rows))]
            for start in range(0, len(rows) - config.batch_rows + 1, config.batch_rows):
                yield rows[start : start + config.batch_rows]


def _vocab_size(folder: Path) -> int:
    from transformers import AutoTokenizer

    return len(AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True))


def _shape(config: EmbeddedConfig, vocab_size: int) -> BertConfig:
    from transformers import BertConfig

    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=config.hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=4 * config.hidden,
        max_position_embeddings=config.max_positions,
        initializer_range=config.initializer_range,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def _new_model(shape: BertConfig, tokens: NDArray[np.int64], rng: np.random.Generator) -> BertForMaskedLM:
    """A BERT in training mode whose token vectors come from counts and whose positions are sinusoids, both at the usual scale."""
    import torch
    from transformers import BertForMaskedLM

    model = BertForMaskedLM(shape)
    # At these lengths the fused attention's backward on CPU takes three times as long as plain products.
    model.set_attn_implementation("eager")
    vectors = spectral_embeddings(
        tokens, vocab_size=shape.vocab_size, width=shape.hidden_size, scale=shape.initializer_range, rng=rng
    )
    waves = sinusoids(shape.max_position_embeddings, shape.hidden_size) * np.sqrt(2.0) * shape.initializer_range
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight.copy_(torch.from_numpy(vectors))
        model.bert.embeddings.position_embeddings.weight.copy_(torch.from_numpy(waves))
    model.train()
    return model


def sinusoids(n_positions: int, width: int) -> NDArray[np.float32]:
    """(n_positions, width) sines (even columns) and cosines (odd columns) of wavelengths from 2 pi to 200 x 2 pi positions.

    Source: Vaswani et al. 2017, section 3.5. Differs: 200 in place of 10,000, for inputs of at most some hundred tokens.
    """
    angles = np.arange(n_positions)[:, None] / 200.0 ** (np.arange(0, width, 2) / width)
    table = np.zeros((n_positions, width), dtype=np.float32)
    table[:, 0::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles[:, : width // 2])
    return table
