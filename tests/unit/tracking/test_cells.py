"""Identity: equal cells have equal keys in every process; anything that may change the number changes the key."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest

from tracking.cells import CellIdentity, canonical_json, digest

CELL = CellIdentity(
    arch="a",
    base_model="org/m",
    base_revision="r1",
    task="rte",
    data={"revision": "x", "split_rule": "site", "caps": {"train": None}},
    method="finetune",
    hyperparameters={"learning_rate": 5e-5, "batch_size": 256},
    seed=0,
    recipe="1",
)


def test_the_key_is_the_hash_of_the_canonical_json() -> None:
    by_hand = json.dumps(dataclasses.asdict(CELL), sort_keys=True, separators=(",", ":"))
    assert CELL.key == hashlib.sha256(by_hand.encode()).hexdigest()[:16]


def test_the_key_is_known_for_ever() -> None:
    """Fixed by hand once; a change of it would orphan every stored result."""
    assert (
        digest({"b": 1, "a": [1.5, "x", None, True]})
        == hashlib.sha256(b'{"a":[1.5,"x",null,true],"b":1}').hexdigest()[:16]
    )


@pytest.mark.parametrize(
    "change",
    [
        {"arch": "b"},
        {"base_model": "org/n"},
        {"base_revision": "r2"},
        {"task": "cb"},
        {"data": {"revision": "y"}},
        {"method": "probe"},
        {"hyperparameters": {"learning_rate": 4e-5, "batch_size": 256}},
        {"seed": 1},
        {"recipe": "2"},
    ],
)
def test_every_part_of_the_identity_changes_the_key(change: dict[str, object]) -> None:
    assert dataclasses.replace(CELL, **change).key != CELL.key  # type: ignore[arg-type]


def test_order_of_settings_does_not_matter() -> None:
    turned = dataclasses.replace(CELL, hyperparameters={"batch_size": 256, "learning_rate": 5e-5})
    assert turned.key == CELL.key


def test_settings_are_shared_by_cells_that_may_be_compared() -> None:
    other = dataclasses.replace(CELL, base_model="org/n", base_revision="q", task="cb", seed=4)
    assert other.settings == CELL.settings
    assert dataclasses.replace(CELL, recipe="2").settings != CELL.settings
    assert dataclasses.replace(CELL, data={**CELL.data, "caps": {"train": 50}}).settings != CELL.settings


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        canonical_json({"x": float("nan")})
