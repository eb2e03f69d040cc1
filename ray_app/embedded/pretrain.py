"""Pretraining of the embedded base model: a small BERT on the docstring corpus, by masked-language modelling."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ray_app.embedded.config import EmbeddedConfig

if TYPE_CHECKING:
    from transformers import BertForMaskedLM

_MASKED_AS_MASK, _MASKED_AS_RANDOM = 0.8, 0.1
"""Devlin et al. 2019, section 3.1: of the tokens to predict 80 % become [MASK], 10 % a random one, 10 % stay."""
_REPORT_EVERY_S = 5.0
_LAST_STEPS = 50
"""Steps over which the reported training loss is the mean."""


@dataclass(frozen=True, kw_only=True)
class PretrainReport:
    """What pretraining reached."""

    n_parameters: int
    n_tokens_seen: int
    """Tokens passed through the model, repeats included."""
    n_tokens_corpus: int
    """Tokens of the text trained on."""
    heldout_loss: float
    """Cross-entropy of masked tokens on text not trained on, nats a token."""
    unigram_loss: float
    """The same for the best guess without context: cross-entropy of the training text's token frequencies, nats a token."""
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
    """Train a BERT on ``train_texts`` with the tokenizer in ``folder`` and save it there in hub format.

    AdamW with linear warm-up and decay; rows are cut from the joined texts, so that there is no padding; the vocabulary head runs
    on the tokens to be predicted only. bf16 autocast where the processor has bf16 products, else fp32.

    Cost: linear in steps x batch_rows x row_tokens.
    """
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    train_tokens = _stream(tokenizer, train_texts)
    heldout_tokens = _stream(tokenizer, heldout_texts)
    torch.manual_seed(config.seed)
    model = _new_model(len(tokenizer), config)
    rng = np.random.default_rng(config.seed)
    started = time.perf_counter()
    _train(model, _rows(train_tokens, config, tokenizer, rng), config, tokenizer=tokenizer, rng=rng, progress=progress)
    train_s = time.perf_counter() - started
    report = PretrainReport(
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
        n_tokens_seen=config.steps * config.batch_rows * config.row_tokens,
        n_tokens_corpus=len(train_tokens),
        heldout_loss=_heldout_loss(model, heldout_tokens, config, tokenizer),
        unigram_loss=unigram_loss(train_tokens, heldout_tokens, vocab_size=len(tokenizer)),
        train_s=train_s,
    )
    model.save_pretrained(folder, safe_serialization=True)
    return report


def unigram_loss(train_tokens: np.ndarray, heldout_tokens: np.ndarray, *, vocab_size: int) -> float:
    """Cross-entropy of held-out tokens under add-one smoothed training frequencies, nats a token.

    Args:
        train_tokens, heldout_tokens: (n,) token ids in [0, vocab_size).
    """
    counts = np.bincount(train_tokens, minlength=vocab_size) + 1.0
    return float(-np.log(counts / counts.sum())[heldout_tokens].mean())


def has_bf16_products() -> bool:
    """Whether this processor multiplies bf16 matrices in hardware (else autocast to bf16 is slower than fp32)."""
    import torch

    return bool(torch.cpu.get_capabilities().get("avx512_bf16") or torch.cpu.get_capabilities().get("amx_bf16"))


def mask_tokens(
    rows: np.ndarray,
    *,
    mask_share: float,
    mask_id: int,
    first_ordinary_id: int,
    vocab_size: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Corrupt rows for masked-language modelling; as many positions in every row.

    Args:
        rows: (n_rows, n_tokens) token ids; ids below ``first_ordinary_id`` are special and never chosen.
    Returns:
        the corrupted rows, and the flat positions to predict in ascending order, (n_rows * k,) with
        k = max(1, round(mask_share * (n_tokens - 2))), fewer where a row has fewer ordinary tokens.
    """
    n_chosen = max(1, round(mask_share * (rows.shape[1] - 2)))
    order = rng.random(rows.shape)
    order[rows < first_ordinary_id] = 2.0
    columns = np.argsort(order, axis=1)[:, :n_chosen]
    ordinary = np.take_along_axis(order, columns, axis=1) < 2.0
    flat = np.sort((columns + np.arange(len(rows))[:, None] * rows.shape[1])[ordinary])
    corrupted = rows.copy().reshape(-1)
    fate = rng.random(len(flat))
    corrupted[flat[fate < _MASKED_AS_MASK]] = mask_id
    as_random = flat[(fate >= _MASKED_AS_MASK) & (fate < _MASKED_AS_MASK + _MASKED_AS_RANDOM)]
    corrupted[as_random] = rng.integers(first_ordinary_id, vocab_size, size=len(as_random))
    return corrupted.reshape(rows.shape), flat


def _new_model(vocab_size: int, config: EmbeddedConfig) -> BertForMaskedLM:
    from transformers import BertConfig, BertForMaskedLM

    shape = BertConfig(
        vocab_size=vocab_size,
        hidden_size=config.hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=4 * config.hidden,
        max_position_embeddings=config.max_positions,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForMaskedLM(shape)
    # The fused CPU attention has a backward three times slower than plain products at these lengths.
    model.set_attn_implementation("eager")
    model.train()
    return model


def _stream(tokenizer: object, texts: Sequence[str]) -> np.ndarray:
    """All texts as one row of token ids, [SEP] after each."""
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]  # type: ignore[operator]
    separator = tokenizer.sep_token_id  # type: ignore[attr-defined]
    return np.array([token for ids in encoded for token in (*ids, separator)], dtype=np.int64)


def _rows(
    tokens: np.ndarray, config: EmbeddedConfig, tokenizer: object, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Batches (batch_rows, row_tokens) for ever: every pass cuts the stream at another offset and shuffles the rows."""
    width = config.row_tokens - 2
    n_rows = (len(tokens) - width) // width
    while True:
        offset = int(rng.integers(width))
        body = tokens[offset : offset + n_rows * width].reshape(n_rows, width)
        body = body[rng.permutation(n_rows)]
        for start in range(0, n_rows - config.batch_rows + 1, config.batch_rows):
            part = body[start : start + config.batch_rows]
            yield np.pad(np.pad(part, ((0, 0), (1, 0)), constant_values=2), ((0, 0), (0, 1)), constant_values=3)


def _train(model, batches, config, *, tokenizer, rng, progress) -> None:
    import torch

    decayed = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=config.learning_rate,
        betas=(0.9, 0.98),
        eps=1e-6,
        fused=True,
    )
    warmup = max(1, round(config.warmup_share * config.steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, max(0.0, (config.steps - step) / max(1, config.steps - warmup))),
    )
    recent: list[float] = []
    last = time.perf_counter()
    for step in range(config.steps):
        loss = _loss(model, next(batches), config, tokenizer=tokenizer, rng=rng)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        recent.append(loss.item())
        if time.perf_counter() - last > _REPORT_EVERY_S:
            last = time.perf_counter()
            tail = recent[-_LAST_STEPS:]
            progress(f"pretraining: step {step + 1} of {config.steps}, masked-token loss {sum(tail) / len(tail):.2f}")


def _loss(model, rows, config, *, tokenizer, rng):
    import torch

    corrupted, flat = mask_tokens(
        rows,
        mask_share=config.mask_share,
        mask_id=tokenizer.mask_token_id,
        first_ordinary_id=5,
        vocab_size=len(tokenizer),
        rng=rng,
    )
    wanted = torch.from_numpy(rows.reshape(-1)[flat])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bf16_products()):
        states = model.bert(torch.from_numpy(corrupted)).last_hidden_state.reshape(-1, config.hidden)
        logits = model.cls(states[torch.from_numpy(flat)])
    return torch.nn.functional.cross_entropy(logits.float(), wanted)


def _heldout_loss(model, tokens, config, tokenizer) -> float:
    import torch

    rng = np.random.default_rng(config.seed)
    width = config.row_tokens - 2
    n_rows = len(tokens) // width
    model.eval()
    rows = np.pad(tokens[: n_rows * width].reshape(n_rows, width), ((0, 0), (1, 0)), constant_values=2)
    rows = np.pad(rows, ((0, 0), (0, 1)), constant_values=3)
    total = count = 0.0
    with torch.no_grad():
        for start in range(0, n_rows, config.batch_rows):
            part = rows[start : start + config.batch_rows]
            total += float(_loss(model, part, config, tokenizer=tokenizer, rng=rng)) * len(part)
            count += len(part)
    return total / count
