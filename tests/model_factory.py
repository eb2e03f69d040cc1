"""Tiny checkpoints in hub format, made at random from a fixed seed: real architectures, real tokenizers, real files."""

from __future__ import annotations

import functools
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

SENTENCES = (
    "The film was a delight from the first scene to the last.",
    "A dull and lifeless story, badly told and badly acted.",
    "Two men are playing chess in the park while it rains.",
    "Nobody in the village had seen the river so high before.",
    "Does the premise follow from what the witness said?",
    "She bought three apples, four pears and a loaf of bread.",
    "The new library opens in spring and will be free for all.",
    "He never answered the letters that his brother sent him.",
)
"""Text the tokenizers are built from."""

KINDS = ("bert", "roberta", "t5")
"""Architectures of text that can be made."""

IMAGE_KINDS = ("vit", "deit", "beit", "swin", "poolformer")
"""Architectures of images of 32 x 32 pixels that can be made."""

_CHARACTERS = "abcdefghijklmnopqrstuvwxyz.,?"

_scratch: list[tempfile.TemporaryDirectory[str]] = []


def tiny_model(kind: str, *, seed: int = 0) -> Path:
    """Folder of a tiny checkpoint, made once a test session. Read only: copy it to change it.

    Args:
        kind: one of `KINDS` or `IMAGE_KINDS`.
        seed: of its weights.
    """
    return _cached_model(kind, seed)


def copy_model(kind: str, folder: Path, *, seed: int = 0) -> Path:
    """A copy of a tiny checkpoint that a test may damage."""
    return Path(shutil.copytree(tiny_model(kind, seed=seed), folder, dirs_exist_ok=True))


@functools.cache
def _cached_model(kind: str, seed: int) -> Path:
    scratch = tempfile.TemporaryDirectory(prefix="startline-tiny-")
    _scratch.append(scratch)
    return build_model(kind, Path(scratch.name) / f"tiny-{kind}-{seed}", seed=seed)


def build_model(kind: str, folder: Path, *, seed: int = 0, max_shard_size: str = "1GB") -> Path:
    """Make a tiny checkpoint: two layers of width 32, its own vocabulary of a few hundred tokens.

    Args:
        kind: one of `KINDS` or `IMAGE_KINDS`.
        folder: where to put it.
        seed: of its weights; the random state of the caller is left as it was.
        max_shard_size: as of ``save_pretrained``; small values make several files and an index.
    """
    import torch

    makers = {"bert": _bert, "roberta": _roberta, "t5": _t5}
    tokenizer, model_class, config = makers[kind]() if kind in makers else _of_images(kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config)
    if config.is_encoder_decoder:
        model.generation_config.decoder_start_token_id = 0
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    return folder


def _bert() -> tuple[Any, Any, Any]:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*special, *_CHARACTERS, *(f"##{character}" for character in _CHARACTERS), *_words(lower=True)]
    core = Tokenizer(models.WordPiece({token: at for at, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = BertTokenizer(tokenizer_object=core, model_max_length=64)
    config = BertConfig(**_size(len(tokenizer)), max_position_embeddings=64, pad_token_id=0)
    return tokenizer, BertForMaskedLM, config


def _roberta() -> tuple[Any, Any, Any]:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import RobertaConfig, RobertaForMaskedLM, RobertaTokenizer

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        SENTENCES,
        trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    core.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    tokenizer = RobertaTokenizer(tokenizer_object=core, model_max_length=64)
    config = RobertaConfig(
        **_size(len(tokenizer)),
        max_position_embeddings=66,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        type_vocab_size=1,
    )
    return tokenizer, RobertaForMaskedLM, config


def _t5() -> tuple[Any, Any, Any]:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

    pieces = {"<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0}
    pieces |= {"▁": -5.0} | dict.fromkeys(_CHARACTERS, -8.0) | dict.fromkeys(_CHARACTERS.upper(), -8.0)
    pieces |= {f"▁{word}": -4.0 for word in _words(lower=False)}
    core = Tokenizer(models.Unigram(list(pieces.items()), unk_id=2))
    core.normalizer = normalizers.NFKC()
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    core.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer = T5Tokenizer(tokenizer_object=core, extra_ids=0, model_max_length=64)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=16,
        d_ff=64,
        num_layers=2,
        num_heads=2,
        pad_token_id=0,
        eos_token_id=1,
    )
    config.decoder_start_token_id = 0  # stands in the config.json of every published T5
    return tokenizer, T5ForConditionalGeneration, config


def _of_images(kind: str) -> tuple[Any, Any, Any]:
    """An image processor in place of the tokenizer; BEiT resamples otherwise, PoolFormer crops."""
    import transformers as t

    size = {**_size(0), "image_size": 32, "patch_size": 8}
    del size["vocab_size"]
    configs = {
        "vit": lambda: t.ViTConfig(**size),
        "deit": lambda: t.DeiTConfig(**size),
        "beit": lambda: t.BeitConfig(
            **size, vocab_size=64, use_relative_position_bias=True, use_absolute_position_embeddings=False
        ),
        "swin": lambda: t.SwinConfig(
            image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 2], window_size=4
        ),
        "poolformer": lambda: t.PoolFormerConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32]),
    }
    processor = {
        "deit": t.DeiTImageProcessorPil,
        "beit": t.BeitImageProcessorPil,
        "poolformer": t.PoolFormerImageProcessorPil,
    }.get(kind, t.ViTImageProcessorPil)
    names = {"vit": "ViT", "deit": "DeiT", "beit": "Beit", "swin": "Swin", "poolformer": "PoolFormer"}
    model_class = getattr(t, f"{names[kind]}ForImageClassification")
    square = {"height": 32, "width": 32}
    given = {
        "deit": {"size": {"height": 36, "width": 36}, "crop_size": square},
        "poolformer": {"crop_size": square, "size": {"shortest_edge": 32}},
    }
    return processor(**given.get(kind, {"size": square})), model_class, configs[kind]()


def _words(*, lower: bool) -> list[str]:
    """Words of the sentences, in the order of the alphabet. Trainers of tokenizers break ties by chance, sorting does not."""
    text = " ".join(SENTENCES)
    words = set(re.findall(r"[a-z]{2,}", text.lower()) if lower else re.findall(r"[A-Za-z]{2,}", text))
    return sorted(words)


def _size(vocab_size: int) -> dict[str, Any]:
    return {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
