"""Model cards as vectors of a sentence encoder: what text similarity of base models is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ray_app.probing.backbone import load_backbone
from ray_app.training.models import load_reader, longest_input
from ray_app.training.tokens import Family
from tracking.errors import TableError

_PREFIX = "card_"
_MOST_TOKENS = 256
"""Of a card; what the encoder was trained to read (its ``max_seq_length``)."""


def find_cards(folder: Path, base_models: Sequence[str]) -> dict[str, Path]:
    """Base model -> ``card_<base model>.txt`` in a matrix folder ('/' as '--'), for those that have one."""
    paths = {name: folder / f"{_PREFIX}{name.replace('/', '--')}.txt" for name in base_models}
    return {name: path for name, path in paths.items() if path.is_file()}


def read_cards(paths: dict[str, Path]) -> dict[str, str]:
    """Base model -> text of its card.

    Raises:
        TableError: a card that is empty or not UTF-8.
    """
    texts = {}
    for name, path in paths.items():
        try:
            texts[name] = path.read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise TableError(f"{path} cannot be read ({error}); expected a UTF-8 text", path=str(path)) from error
        if not texts[name]:
            raise TableError(f"{path} is empty; expected the text of a model card, or no file", path=str(path))
    return texts


def embed_texts(texts: Sequence[str], checkpoint: Path) -> npt.NDArray[np.float64]:
    """Vectors of texts, (n_texts, width): the mean of the last hidden states over the tokens of each.

    Texts are cut at 256 tokens, or at the positions that the model has.

    Args:
        texts: at least one.
        checkpoint: folder of an encoder in hub format.

    Raises:
        CheckpointError: the encoder cannot be loaded.

    Source: Reimers & Gurevych, EMNLP 2019 (SBERT, mean pooling), which the paper takes (section V.B).
    """
    backbone = load_backbone(checkpoint, Family.ENCODER)
    tokenizer = load_reader(checkpoint, Family.ENCODER)
    limit = min(_MOST_TOKENS, longest_input(backbone.model) or _MOST_TOKENS)
    vectors = []
    with torch.inference_mode():
        for text in texts:  # cards are few; one at a time needs no padding
            inputs = tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")
            hidden = backbone.model(**inputs, output_hidden_states=True).hidden_states[-1]
            vectors.append(hidden[0].mean(dim=0).double().numpy())
    return np.stack(vectors)
