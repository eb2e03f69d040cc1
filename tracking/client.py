"""Opening MLflow's client on any store, and what it raises as one error of ours."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tracking.errors import StoreError
from tracking.secrets import redact
from tracking.sqlite import is_damaged, pace_sqlite
from tracking.sqlite_runs import sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}
"""MLflow's own patience with a server that is away is four minutes a call; the uploader waits by itself, and commands say so."""

_DATABASES = ("postgresql", "mysql", "mssql")
_CONNECT_S = 10.0
"""How long a database may take to answer at all."""


def open_client(uri: str) -> MlflowClient:
    """MLflow client of a tracking URI, with telemetry off.

    Raises:
        StoreError: the store cannot be opened.
    """
    path = sqlite_path(uri)
    if path is not None and is_damaged(path):
        raise StoreError(
            f"the tracking store {uri} cannot be opened: {path} is no SQLite database; put its last good copy there, or choose "
            "another folder with OUT=dir",
            uri=uri,
        )
    check_address(uri)
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it tells of every try
    from mlflow import MlflowClient

    pace_sqlite()
    with speaking(uri, "opened", "check tracking.uri, or that its server is up (`make tracking-up`)"):
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


def check_address(uri: str) -> None:
    """Refuse an address that is none, and a database behind which nothing listens: MLflow would ask it for two minutes.

    Raises:
        StoreError: with what is wrong.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        if uri.startswith(_DATABASES):  # a password may hold what would end the address of a page
            host, port = make_url(uri).host, make_url(uri).port
        else:
            host, port = urlsplit(uri).hostname, urlsplit(uri).port
        if host and port and uri.startswith(_DATABASES):
            socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except (ValueError, OSError, ArgumentError) as error:
        raise StoreError(
            f"the tracking store {redact(uri)} cannot be opened ({redact(str(error))}); check tracking.uri, or that its server is up",
            uri=redact(uri),
        ) from error


@contextlib.contextmanager
def speaking(uri: str, what: str, advice: str = "is it up?") -> Iterator[None]:
    """Turn whatever MLflow raises when a store is away or refuses into a StoreError.

    Args:
        uri: the store.
        what: what cannot be done with it: 'opened', 'read', 'written to'.
        advice: what to do.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (
        MlflowException,
        SQLAlchemyError,
        OSError,
        ImportError,
    ) as error:  # ImportError: a database without its driver
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise StoreError(
            f"the tracking store {redact(uri)} cannot be {what} ({redact(lines[0])[:300]}); {advice}",
            uri=redact(uri),
        ) from error
