"""How long to go on asking a hub that is busy: waits that the server names, up to a limit, else growing ones."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpx2
import huggingface_hub
from huggingface_hub.utils._http import hf_request_event_hook
from tenacity import RetryCallState, Retrying, retry_if_exception_type

BUSY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers after which the same request may succeed."""

_RATE_LIMIT = re.compile(r"\br\s*=\s*(?P<left>\d+)\s*;\s*t\s*=\s*(?P<reset>\d+)")
_DEFAULT_TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
_chance = random.Random()  # its own generator: waiting must not move the one that a caller seeded


@dataclass(frozen=True, kw_only=True)
class Patience:
    """When to ask again, and when to give up."""

    attempts: int = 6
    """Times a request is made in all while the hub answers that it is busy."""
    connect_attempts: int = 3
    """Times a request is made in all while the hub cannot be reached."""
    first_wait_s: float = 1.0
    """Upper end of the first wait; it doubles from one attempt to the next."""
    longest_wait_s: float = 30.0
    """Upper limit of a wait that the server does not name."""
    longest_named_wait_s: float = 320.0
    """Upper limit of a wait that the server names (the hub counts requests in windows of five minutes)."""
    away_s: float = 60.0
    """How long a hub that could not be reached is not asked again, whatever is wanted from it."""

    def wait_s(self, attempt: int, named_s: float | None) -> float:
        """Seconds to wait after an attempt.

        Args:
            attempt: how many attempts were made, from 1.
            named_s: seconds the server asked for, or None.

        Returns:
            The server's, up to the limit; else between half and all of ``first_wait_s * 2**(attempt - 1)``, up to the
            limit (chance keeps the requests of many threads apart).
        """
        if named_s is not None:
            return min(named_s, self.longest_named_wait_s)
        return min(self.first_wait_s * 2 ** (attempt - 1), self.longest_wait_s) * _chance.uniform(0.5, 1.0)


class HubBusyError(Exception):
    """The hub was asked as often as patience allows. Never reaches a user: `ray_app.hub.refusals` makes words of it."""

    def __init__(self, reason: str, *, status: int | None, named_wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.named_wait_s = named_wait_s


_active: ContextVar[Patience | None] = ContextVar("hub_patience", default=None)
_install_lock = threading.Lock()
_installed = False


@contextmanager
def patiently(patience: Patience) -> Iterator[None]:
    """Give the requests that this thread makes through huggingface_hub this patience."""
    _install_client()
    token = _active.set(patience)
    try:
        yield
    finally:
        _active.reset(token)


def named_wait_s(headers: httpx2.Headers) -> float | None:
    """Seconds after which the server wants to be asked again, from RateLimit or Retry-After; None where it says nothing.

    Source: IETF draft-ietf-httpapi-ratelimit-headers (``"api";r=0;t=55``); RFC 9110, section 10.2.3, delay in seconds.
    """
    limit = _RATE_LIMIT.search(headers.get("ratelimit", ""))
    if limit is not None and int(limit["left"]) == 0:
        return float(limit["reset"])
    after = headers.get("retry-after", "").strip()
    return float(after) if after.isdigit() else None


class _PatientClient(httpx2.Client):
    """Client that asks again by itself inside ``patiently``, and is a plain client everywhere else."""

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        patience = _active.get()
        if patience is None or request.method not in {"GET", "HEAD"}:
            return super().send(request, **options)
        asked = request.extensions.get("timeout") or {}
        if all(limit is None for limit in asked.values()):  # some calls of huggingface_hub would wait for ever
            request.extensions["timeout"] = _DEFAULT_TIMEOUT.as_dict()
        retrying = Retrying(
            retry=retry_if_exception_type(HubBusyError), stop=_stop(patience), wait=_wait(patience), reraise=True
        )
        return retrying(self._send_once, request, options)

    def _send_once(self, request: httpx2.Request, options: dict[str, Any]) -> httpx2.Response:
        try:
            response = super().send(request, **options)
        except (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError, httpx2.ProxyError) as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise HubBusyError(reason, status=None) from error
        if response.status_code not in BUSY_STATUS:
            return response
        wait = named_wait_s(response.headers) if response.status_code in {429, 503} else None
        response.close()
        raise HubBusyError(
            f"it answers {response.status_code} {response.reason_phrase}".strip(),
            status=response.status_code,
            named_wait_s=wait,
        )


def _stop(patience: Patience) -> Callable[[RetryCallState], bool]:
    def stop(state: RetryCallState) -> bool:
        most = patience.connect_attempts if _error_of(state).status is None else patience.attempts
        return state.attempt_number >= most

    return stop


def _wait(patience: Patience) -> Callable[[RetryCallState], float]:
    def wait(state: RetryCallState) -> float:
        return patience.wait_s(state.attempt_number, _error_of(state).named_wait_s)

    return wait


def _error_of(state: RetryCallState) -> HubBusyError:
    error = state.outcome.exception() if state.outcome is not None else None
    if not isinstance(error, HubBusyError):
        raise TypeError(f"asked again after {error!r}, which is no sign of a busy hub")
    return error


def _make_client() -> httpx2.Client:
    return _PatientClient(
        event_hooks={"request": [hf_request_event_hook]}, follow_redirects=True, timeout=_DEFAULT_TIMEOUT
    )


def _install_client() -> None:
    """Make huggingface_hub use the patient client; once a process, as it closes the connections there are."""
    global _installed
    with _install_lock:
        if not _installed:
            huggingface_hub.set_client_factory(_make_client)
            _installed = True
