"""Fusing on every architecture that a tiny model is made of here: two models saved by transformers, and their mean read by transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ray_app.fusion.fuse import FusionConfig, fuse_checkpoints
from ray_app.hub.model_files import MODEL_TYPES
from ray_app.training.models import head_modules

TEXT = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
        "max_position_embeddings": 40, "pad_token_id": 0}  # fmt: skip
IMAGE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 16,
    "patch_size": 8,
}
STAGES = {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
CONVOLUTIONS = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "image_size": 32}
SETTINGS: dict[str, dict[str, Any]] = {
    **{name: TEXT for name in ("bert", "roberta", "camembert", "xlm-roberta", "electra", "ernie", "megatron-bert", "mpnet", "rembert",
                               "deberta", "deberta-v2", "roberta-prelayernorm", "data2vec-text", "xlm-roberta-xl", "mobilebert", "roformer", "convbert")},
    "albert": {**TEXT, "embedding_size": 16},
    "distilbert": {"vocab_size": 60, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 40},
    "modernbert": {**TEXT, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
    "t5": {"vocab_size": 60, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2},
    "mt5": {"vocab_size": 60, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2},
    "bart": {"vocab_size": 60, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
             "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 40},
    **{name: IMAGE for name in ("vit", "beit", "dinov2")},
    "deit": {**IMAGE, "architectures": ["DeiTForImageClassification"]},  # or its automatic class cannot choose
    "swin": STAGES,
    "swinv2": STAGES,
    "convnext": CONVOLUTIONS,
    "convnextv2": CONVOLUTIONS,
}  # fmt: skip
IMAGES = ("vit", "deit", "beit", "dinov2", "swin", "swinv2", "convnext", "convnextv2")


def _auto(name: str) -> Any:
    from transformers import AutoModelForImageClassification, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

    if name in ("t5", "mt5", "bart"):
        return AutoModelForSeq2SeqLM
    return AutoModelForImageClassification if name in IMAGES else AutoModelForSequenceClassification


def _model(name: str, folder: Path, seed: int) -> Any:
    from transformers import AutoConfig

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _auto(name).from_config(AutoConfig.for_model(name, **SETTINGS[name]), trust_remote_code=False)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter.data)
    model.save_pretrained(folder)
    return model


def test_most_architectures_are_tried() -> None:
    assert len(SETTINGS) >= 30 and set(SETTINGS) <= set(MODEL_TYPES)


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_the_mean_is_read_back_whole(name: str, tmp_path: Path) -> None:
    models = [_model(name, tmp_path / str(seed), seed) for seed in range(2)]
    fused = fuse_checkpoints(FusionConfig(), {str(seed): tmp_path / str(seed) for seed in range(2)}, tmp_path / "out")
    read, info = _auto(name).from_pretrained(tmp_path / "out", output_loading_info=True)
    heads = () if name in ("t5", "mt5", "bart") else head_modules(read, tmp_path)
    assert not [key for key in info["missing_keys"] if key.rpartition(".")[0] not in heads], info["missing_keys"]
    assert not info["unexpected_keys"] or all("pooler" in key for key in info["unexpected_keys"]), info[
        "unexpected_keys"
    ]
    assert all(tensor.rpartition(".")[0] in heads for tensor in fused.dropped), fused.dropped
    one, two, found = (model.state_dict() for model in (*models, read))
    for key, value in found.items():
        if key.rpartition(".")[0] not in heads and value.is_floating_point():
            expected = ((one[key].double() + two[key].double()) / 2).float()
            assert torch.equal(value, expected), key
