"""A lower-case WordPiece tokenizer trained on the corpus, saved in hub format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""BERT's special tokens; their ids are their places here."""
CLS_ID, SEP_ID, MASK_ID, FIRST_ORDINARY_ID = 2, 3, 4, 5
"""Ids that pretraining needs; all from ``FIRST_ORDINARY_ID`` on are pieces of words."""
PRINTABLE = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
"""Characters that are in the vocabulary even where the corpus lacks them."""


def train_tokenizer(texts: Iterable[str], *, vocab_size: int, max_tokens: int, folder: Path) -> int:
    """Train WordPiece on ``texts`` and save it as a fast BERT tokenizer that AutoTokenizer loads; return its vocabulary size.

    The same texts in the same order give the same file: the trainer numbers continuing letters ('##a') in the order of a
    hash map and breaks ties by number (tokenizers issue 1794), so they are numbered beforehand, as if special.

    Args:
        texts: sentences or passages.
        vocab_size: most entries, special tokens included; fewer where the texts are too few.
        max_tokens: longest input of the model that will use it.
        folder: gets tokenizer.json and tokenizer_config.json; made if absent.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import BertTokenizer

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[*SPECIAL_TOKENS, *(f"##{character}" for character in PRINTABLE)],
        initial_alphabet=PRINTABLE,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    vocabulary = tokenizer.get_vocab()
    saved = BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=max_tokens)
    folder.mkdir(parents=True, exist_ok=True)
    saved.save_pretrained(folder)
    return len(vocabulary)


def encode_texts(texts: Sequence[str], *, folder: Path) -> NDArray[np.int64]:
    """All texts as one row of token ids, [SEP] after each.

    Args:
        texts: any.
        folder: holds a tokenizer made by ``train_tokenizer``.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    encoded = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return np.array([token for text in encoded for token in (*text.ids, SEP_ID)], dtype=np.int64)
