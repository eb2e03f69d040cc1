"""Following a job through connections that break, with a stand-in for Ray's client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import ServerDisconnectedError

from ray_app.cluster import jobs
from ray_app.cluster.jobs import JobServer
from tracking.errors import ClusterError


class Status(Enum):
    RUNNING = "RUNNING"
    FAILED = "FAILED"

    def is_terminal(self) -> bool:
        return self is Status.FAILED


class Client:
    """Each connection yields what it was given, then breaks with an error, or ends."""

    def __init__(self, connections: list[tuple[list[str], Exception | None]], *, code: int | None = 7) -> None:
        self.connections = connections
        self.code = code

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        texts, error = self.connections.pop(0) if self.connections else ([], ConnectionError("gone"))
        for text in texts:
            yield text
        if error is not None:
            raise error

    def get_job_info(self, job: str) -> Any:
        status = Status.RUNNING if self.connections else Status.FAILED
        return SimpleNamespace(status=status, driver_exit_code=self.code)


def server(client: Client, monkeypatch: pytest.MonkeyPatch) -> JobServer:
    made = object.__new__(JobServer)
    made.address, made.client = "http://127.0.0.1:1", client  # type: ignore[assignment]
    monkeypatch.setattr(jobs.time, "sleep", lambda seconds: None)
    return made


def test_every_character_comes_out_once_however_often_the_line_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "one\ntwo\nthree\nfour\n"
    client = Client(
        [
            (["one\nt"], ServerDisconnectedError()),
            ([], OSError("no route")),
            (["on", "e\ntwo\nth"], RuntimeError("closed")),
            (["one\ntwo\n", "three\n"], None),
            ([text], None),
        ]
    )
    written: list[str] = []
    assert server(client, monkeypatch).follow("j", written.append) == 7
    assert "".join(written) == text


def test_a_server_that_stays_away_is_given_up_and_the_job_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "PATIENCE_S", 0.0)
    client = Client([(["a\n"], None), ([], OSError("x")), ([], OSError("x")), ([], OSError("x"))])
    with pytest.raises(ClusterError, match="may still run"):
        server(client, monkeypatch).follow("j", lambda text: None)
