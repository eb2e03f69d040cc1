"""Addresses of stores that cannot be opened: one sentence at once, and no password in it."""

from __future__ import annotations

import socket
import time

import pytest

from tracking.client import check_address, open_client
from tracking.errors import StoreError

PASSWORD = "correct/horse@battery"


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_database_that_is_away_is_told_at_once() -> None:
    """MLflow asks fifteen times, for two minutes."""
    begun = time.monotonic()
    with pytest.raises(StoreError, match="refused") as caught:
        check_address(f"postgresql://ann:correct@127.0.0.1:{unused_port()}/db")
    assert time.monotonic() - begun < 5 and "correct" not in caught.value.message


@pytest.mark.parametrize(
    "address", ["http://ann:{}@127.0.0.1:99999", "http://[ann:{}@x", "postgresql://ann:{}@127.0.0.1:x/db"]
)
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(StoreError, match="cannot be opened") as caught:
        check_address(address.format("correct"))
    assert "correct" not in caught.value.message


def test_other_addresses_are_left_to_mlflow() -> None:
    for address in (
        "sqlite:////tmp/x.db",
        "http://host.invalid:5000",
        "postgresql:///db?host=/run/postgresql",
        "file:///tmp/x",
    ):
        check_address(address)


def test_a_database_without_its_driver_is_one_sentence() -> None:
    with pytest.raises(StoreError, match="MySQLdb") as caught:
        open_client(f"mysql://ann:{PASSWORD}@127.0.0.1/db")
    assert "horse" not in caught.value.message
