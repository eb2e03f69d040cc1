"""Settings of the tracking server: loopback by default, others only by name, no password in them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tracking import postgres
from tracking.errors import StoreError
from tracking.server import ServerConfig, TrackingService, answers, with_driver


def test_the_default_is_loopback_and_answers_to_its_names_only() -> None:
    config = ServerConfig()
    assert config.faults() == [] and config.host == "127.0.0.1"
    assert set(config.hosts().split(",")) == {
        "localhost", "127.0.0.1", "[::1]", "localhost:5000", "127.0.0.1:5000", "[::1]:5000",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"port": 0}, "port"),
        ({"port": 70000}, "port"),
        ({"workers": 0}, "workers"),
        ({"host": "0.0.0.0"}, "allowed_hosts"),
        ({"database": "mysql://host/db"}, "no PostgreSQL"),
        ({"database": "postgresql://ann:secret@host/db"}, "PGPASSWORD"),
        ({"database": "postgresql://[bad/db"}, "not an address"),
    ],
)
def test_faults(given: dict[str, object], told: str) -> None:
    (fault,) = ServerConfig(**given).faults()  # type: ignore[arg-type]
    assert told in fault and "secret" not in fault


def test_beyond_loopback_the_hosts_are_named() -> None:
    config = ServerConfig(host="0.0.0.0", allowed_hosts=["tracking.example.org:5000"])
    assert config.faults() == [] and "tracking.example.org:5000" in config.hosts()


def test_the_driver_is_named_once() -> None:
    assert with_driver("postgresql://h/d") == with_driver("postgresql+psycopg://h/d") == "postgresql+psycopg://h/d"


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        service = TrackingService(ServerConfig(port=port, database="postgresql://nobody@127.0.0.1:1/none"), tmp_path)
        with pytest.raises(StoreError, match=r"tracking.server.port"):
            service.start()
    assert not answers(f"http://127.0.0.1:{port}")


def test_no_postgresql_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres.shutil, "which", lambda name: None)
    monkeypatch.setattr(postgres, "_PLACES", ("/nonexistent/*/bin",))
    with pytest.raises(StoreError, match="apt-get install postgresql"):
        postgres.find_binaries()
