"""No token in a message; how long a busy hub is waited for."""

from __future__ import annotations

import errno
from pathlib import Path

import httpx2
import pytest

from ray_app.hub.patience import HubBusyError, Patience, named_wait_s
from ray_app.hub.refusals import RepoKind, explain, scrub
from tracking.errors import StorageError, UnreachableError


def test_scrubbing_reaches_what_an_error_was_raised_from() -> None:
    inner = ValueError("hf_abcdefghijklmnop", 7)
    middle = RuntimeError("plain")
    middle.__cause__ = inner
    inner.__context__ = middle  # chains of errors may be circles
    assert scrub(middle) is middle
    assert inner.args == ("***", 7)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_trouble_with_the_disk_is_no_trouble_with_the_hub(code: int) -> None:
    error = explain(
        OSError(code, "words of the system"),
        kind=RepoKind.DATASET,
        repo_id="org/x",
        wanted="a file",
        endpoint="https://hub",
        cache=Path("/cache"),
    )
    assert isinstance(error, StorageError)
    assert error.message.startswith("/cache ")


@pytest.mark.parametrize(
    "raised",
    [HubBusyError("it is slow", status=None), ConnectionResetError(104, "it is slow"), httpx2.ReadError("it is slow")],
)
def test_trouble_with_the_line_is_named(raised: Exception) -> None:
    error = explain(
        raised, kind=RepoKind.MODEL, repo_id="org/x", wanted="w", endpoint="https://me:pw@hub/x", cache=Path("/cache")
    )
    assert isinstance(error, UnreachableError)
    assert "hub at https://hub/x could not be used (" in error.message
    assert "it is slow" in error.message


def test_waits() -> None:
    assert named_wait_s(httpx2.Headers({"RateLimit": '"api";r=0;t=55'})) == 55
    assert named_wait_s(httpx2.Headers({"RateLimit": '"api";r=3;t=55', "Retry-After": "7"})) == 7
    assert named_wait_s(httpx2.Headers({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})) is None
    assert named_wait_s(httpx2.Headers({})) is None
    patience = Patience(first_wait_s=2.0, longest_wait_s=10.0, longest_named_wait_s=60.0)
    assert patience.wait_s(1, 30.0) == 30.0
    assert patience.wait_s(1, 3600.0) == 60.0
    for attempt, (low, high) in enumerate([(1, 2), (2, 4), (4, 8), (5, 10), (5, 10)], start=1):
        assert low <= patience.wait_s(attempt, None) <= high
