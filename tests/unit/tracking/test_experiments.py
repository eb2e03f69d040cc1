"""Architectures of a store, read from the file and through MLflow's client alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracking import experiments
from tracking.errors import StoreError
from tracking.experiments import known_architectures
from tracking.store import open_client


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    address = f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"
    client = open_client(address)
    for name in ("startline/t5-base", "startline/google/t5-v1_1-base", "startline-other", "Default2"):
        client.create_experiment(name)
    client.delete_experiment(client.create_experiment("startline/gone"))
    return address


def test_both_ways_agree(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ["google/t5-v1_1-base", "t5-base"]
    assert known_architectures(uri) == expected and experiments._names_in_file(uri) is not None
    monkeypatch.setattr(experiments, "KNOWN_VERSIONS", frozenset())
    assert known_architectures(uri) == expected and experiments._names_in_file(uri) is None


def test_a_damaged_store_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match="cannot be opened"):
        known_architectures(f"sqlite:///{path}")
