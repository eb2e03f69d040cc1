"""Secrets that must reach no message, log, record or run: told by their form, and by the environment that holds them."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import MutableMapping
from typing import Any

HUB_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN")
"""Environment variables that hold a token of the hub."""
TRACKING_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
"""Environment variables that hold what opens a tracking server."""
_OTHER_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD", "RAY_AUTH_TOKEN")
_SHORTEST = 6
"""Characters below which the value of a variable is no secret worth the damage that replacing it everywhere does."""
HIDDEN = "***"

_TOKEN = re.compile(r"\bhf_(?:oauth_|jwt_)?[A-Za-z0-9]{16,}")
_CREDENTIAL = re.compile(
    r"(?<=[Bb]earer )\S+|(?<=uthorization: Basic )\S+|(?<=X-Amz-Signature=)[^&\s]+|(?<=[?&]Signature=)[^&\s]+"
    r"|(?i:(?<=password=)|(?<=token=)|(?<=secret=)|(?<=api_key=))[^&\s'\",;)]+"
)
_USERINFO = re.compile(r"(?<=://)(?:[^/?#\s@'\"]*:[^\s'\"]*|[^/?#\s'\"]*)@")
"""Name and password before the host; a password may hold '@' and '/' as it does in addresses of databases."""


def redact(text: str) -> str:
    """The text with tokens, passwords and signatures of links replaced by '***'.

    Told by their form: tokens of the hub (``hf_`` and 16 characters or more), what follows ``Bearer``, ``password=`` and the like,
    and name and password in an address. Told by the environment: the values of ``HF_TOKEN`` and the other variables named above.

    >>> redact("postgresql://ann:wo@rd/x@host/db refused")
    'postgresql://***@host/db refused'
    """
    for value in _held((*HUB_VARIABLES, *TRACKING_VARIABLES, *_OTHER_VARIABLES)):
        text = text.replace(value, HIDDEN)
    return redact_forms(text)


def redact_forms(text: str) -> str:
    """As ``redact``, by form alone: for values that are kept as data, where a password that is a plain word must not replace it."""
    return _USERINFO.sub(f"{HIDDEN}@", _CREDENTIAL.sub(HIDDEN, _TOKEN.sub(HIDDEN, text)))


def redacted(value: Any) -> Any:
    """JSON-ready values with ``redact_forms`` applied to every text in them."""
    if isinstance(value, str):
        return redact_forms(value)
    if isinstance(value, dict):
        return {key: redacted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    return value


def _held(names: tuple[str, ...]) -> list[str]:
    """Secrets that the environment holds, the longest first, so that one within another is hidden whole."""
    values = {os.environ.get(name, "").strip() for name in names}
    return sorted((value for value in values if len(value) >= _SHORTEST), key=len, reverse=True)


def holds_token(text: str) -> bool:
    """Whether a text holds a token of the hub, by its form or because it is the one in the environment."""
    return _TOKEN.search(text) is not None or any(value in text for value in _held(HUB_VARIABLES))


def holds_userinfo(text: str) -> bool:
    """Whether a text holds an address with a name or password in it."""
    return _USERINFO.search(text) is not None


def forget_secrets(environment: MutableMapping[str, str] | None = None) -> None:
    """Take the hub's and the tracking server's secrets out of an environment (None: this process): a worker needs neither."""
    held = os.environ if environment is None else environment
    for name in (*HUB_VARIABLES, *TRACKING_VARIABLES):
        held.pop(name, None)


class RedactingFormatter(logging.Formatter):
    """A log format through which no secret passes, not in tracebacks either."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, redacted."""
        return redact(super().format(record))
