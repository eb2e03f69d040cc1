"""The study that nothing disturbs, once for all tests, and a tracking server of their own."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.harness import ChaosStudy, make_study
from tracking.errors import StoreError
from tracking.postgres import find_binaries
from tracking.server import ServerConfig, TrackingService


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> ChaosStudy:
    """The tiny study, run to its end."""
    made = make_study(tmp_path_factory.mktemp("undisturbed"))
    code, text = made.study.run("sweep")
    assert code == 0, text
    assert made.repeated_s() == 0 and made.steps()
    return made


@pytest.fixture(scope="session")
def service() -> Iterator[TrackingService]:
    """An MLflow server on PostgreSQL; skips where this machine has no PostgreSQL."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    try:
        find_binaries()
    except StoreError as error:
        pytest.skip(error.message)
    folder = Path(tempfile.mkdtemp(prefix="startline-chaos-"))
    folder.chmod(0o755)  # PostgreSQL may run under another account
    made = TrackingService(ServerConfig(port=free_port(), workers=2), folder / "tracking")
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
