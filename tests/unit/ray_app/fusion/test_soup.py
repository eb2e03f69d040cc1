"""The greedy soup against a walk through Wortsman et al.'s recipe by hand, with a made-up score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ray_app.fusion.fuse import FusionConfig, Rule, fuse_checkpoints
from tests.model_factory import copy_model
from tracking.errors import CheckpointError

BIAS = "embeddings.LayerNorm.bias"


def _model(folder: Path, value: float) -> Path:
    """A tiny BERT whose first bias is ``value``; the score below reads nothing else."""
    copy_model("bert", folder)
    tensors = load_file(folder / "model.safetensors")
    tensors[f"bert.{BIAS}"][:] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _value(folder: Path) -> float:
    tensors = load_file(folder / "model.safetensors")
    return float(tensors.get(BIAS, tensors.get(f"bert.{BIAS}"))[0])  # type: ignore[index]


def test_ingredients_are_taken_in_best_first_while_the_soup_gets_no_worse(tmp_path: Path) -> None:
    """Score: minus the distance of the mean to 2. Alone: b (1.5) -0.5, c (3) -1, a (0) -2, d (8) -6.

    b; with c the mean is 2.25: -0.25, taken; with a 1.5: -0.5, not taken; with d (1.5 + 3 + 8) / 3 = 4.17: not taken.
    """
    sources = {name: _model(tmp_path / name, value) for name, value in {"a": 0.0, "b": 1.5, "c": 3.0, "d": 8.0}.items()}
    asked: list[float] = []

    def score(folder: Path) -> float:
        asked.append(_value(folder))
        return -abs(_value(folder) - 2)

    fused = fuse_checkpoints(FusionConfig(rule=Rule.GREEDY_SOUP), sources, tmp_path / "out", score=score)
    assert fused.used == ("b", "c") and fused.weights == {"b": 0.5, "c": 0.5}
    assert fused.scores == {"a": -2.0, "b": -0.5, "c": -1.0, "d": -6.0} and fused.score == -0.25
    assert dict(fused.left_out) == {
        "a": "the soup scores -0.5 with it and -0.25 without",
        "d": "the soup scores -2.16667 with it and -0.25 without",
    }
    assert np.allclose(asked, [0, 1.5, 3, 8, 2.25, 1.5, 12.5 / 3])
    assert _value(tmp_path / "out") == 2.25
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "d", "out"]


def test_equal_scores_are_taken_by_name_and_a_soup_no_worse_is_taken(tmp_path: Path) -> None:
    sources = {name: _model(tmp_path / name, value) for name, value in {"z": 1.0, "y": 2.0}.items()}
    fused = fuse_checkpoints(FusionConfig(rule=Rule.GREEDY_SOUP), sources, tmp_path / "out", score=lambda folder: 0.5)
    assert fused.used == ("z", "y") and not fused.left_out


def test_a_model_without_a_score_is_left_out_and_one_of_no_numbers_is_not_scored(tmp_path: Path) -> None:
    sources = {name: _model(tmp_path / name, value) for name, value in {"a": 1.0, "b": 2.0, "c": np.nan}.items()}

    def score(folder: Path) -> float:
        assert not np.isnan(_value(folder))
        return float("nan") if _value(folder) == 2 else 1.0

    fused = fuse_checkpoints(FusionConfig(rule=Rule.GREEDY_SOUP), sources, tmp_path / "out", score=score)
    assert fused.used == ("a",)
    assert (
        fused.left_out["b"] == "its held-out score is no number" and "no numbers in embeddings" in fused.left_out["c"]
    )


def test_no_score_at_all_is_an_error(tmp_path: Path) -> None:
    sources = {"a": _model(tmp_path / "a", 1.0)}
    with pytest.raises(CheckpointError, match="no model has a held-out score"):
        fuse_checkpoints(
            FusionConfig(rule=Rule.GREEDY_SOUP), sources, tmp_path / "out", score=lambda folder: float("nan")
        )
    assert not (tmp_path / "out").exists()
