"""Sizes are checked all at once."""

import pytest

from ray_app.embedded.config import EmbeddedConfig


def test_the_defaults_are_without_fault():
    assert EmbeddedConfig().faults() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("libraries", []),
        ("libraries", ["scipy", "scipy"]),
        ("max_bytes", 0),
        ("vocab_size", 100),
        ("layers", 0),
        ("heads", 0),
        ("heads", 3),
        ("hidden", 63),
        ("row_tokens", 4),
        ("row_tokens", 1000),
        ("steps", 0),
        ("batch_rows", -1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("weight_decay", -0.1),
        ("warmup_share", 1.0),
        ("mask_share", 0.0),
        ("replace_share", float("nan")),
        ("detection_weight", -1.0),
        ("initializer_range", 0.0),
        ("seed", -1),
        ("source_rows", {"train": 10}),
        ("target_rows", {"train": 10, "validation": 0, "test": 10}),
    ],
)
def test_a_wrong_value_is_named(field, value):
    faults = EmbeddedConfig(**{field: value}).faults()
    assert any(fault.startswith((f"{field}:", "hidden:")) for fault in faults)


def test_all_faults_come_together():
    assert len(EmbeddedConfig(steps=0, layers=0, seed=-1, vocab_size=5).faults()) == 4
