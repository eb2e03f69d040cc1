"""Which files of a model repository count: what is fetched, what makes its identity, which architectures are taken."""

from __future__ import annotations

VOCABULARY_FILES = frozenset(
    {
        "tokenizer.json",
        "vocab.txt",
        "vocab.json",
        "spiece.model",
        "sentencepiece.bpe.model",
        "spm.model",
        "tokenizer.model",
    }
)
"""A tokenizer is there when one of these is: without any, transformers may build an empty one without a word."""

TOKENIZER_FILES = VOCABULARY_FILES | {
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "bpe.codes",
}
"""All files a tokenizer is made of."""

PROCESSOR_FILES = frozenset({"preprocessor_config.json", "processor_config.json"})
"""All files an image processor is made of; transformers prefers what the second says of images, where it is there."""

IDENTITY_FILES = TOKENIZER_FILES | PROCESSOR_FILES | {"config.json", "model.safetensors.index.json"}
"""Files besides the weights that decide the numbers."""

FETCHED_FILES = IDENTITY_FILES | {"generation_config.json", "README.md"}
"""Files besides the weights that are fetched; README.md is the model card."""

VISION_TYPES = frozenset(
    {"vit", "deit", "beit", "swin", "swinv2", "convnext", "convnextv2", "dinov2", "poolformer", "vit_msn"}
)
"""Architectures that read images: an image processor takes the place of the tokenizer."""

MODEL_TYPES = VISION_TYPES | {
    "albert",
    "bart",
    "bert",
    "big_bird",
    "camembert",
    "convbert",
    "data2vec-text",
    "deberta",
    "deberta-v2",
    "distilbert",
    "electra",
    "ernie",
    "eurobert",
    "gte",
    "longformer",
    "longt5",
    "mbart",
    "megatron-bert",
    "mobilebert",
    "modernbert",
    "mpnet",
    "mt5",
    "nomic_bert",
    "rembert",
    "roberta",
    "roberta-prelayernorm",
    "roformer",
    "t5",
    "umt5",
    "xlm-roberta",
    "xlm-roberta-xl",
}
"""Architectures taken: encoders and text-to-text models whose code is part of transformers and loads safetensors alone."""


def is_identity_file(name: str) -> bool:
    """True for a file whose content is part of a base model's identity."""
    return name in IDENTITY_FILES or name.endswith(".safetensors")
