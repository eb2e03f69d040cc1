"""Which architectures have results, and where a run is in MLflow's UI."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from urllib.parse import urlsplit, urlunsplit

from tracking.client import open_client
from tracking.errors import StoreError
from tracking.schema import PREFIX
from tracking.secrets import redact
from tracking.sqlite_runs import KNOWN_VERSIONS, sqlite_path

_HEAD = f"{PREFIX}/"


def known_architectures(uri: str) -> list[str]:
    """Architectures with an experiment in the store, by name; deleted experiments are left out.

    Raises:
        StoreError: the store cannot be read.
    """
    names = _names_in_file(uri)
    if names is None:
        names = _names_by_client(uri)
    return sorted(name.removeprefix(_HEAD) for name in names if name.startswith(_HEAD))


def _names_in_file(uri: str) -> list[str] | None:
    """Experiments of an SQLite file of a known version, without importing MLflow; None elsewhere."""
    path = sqlite_path(uri)
    if path is None or not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30.0)) as connection:
            versions = {row[0] for row in connection.execute("select version_num from alembic_version")}
            if not versions or not versions <= KNOWN_VERSIONS:
                return None
            return [
                row[0] for row in connection.execute("select name from experiments where lifecycle_stage = 'active'")
            ]
    except sqlite3.Error:
        return None  # MLflow's client says what is wrong with the file


def _names_by_client(uri: str) -> list[str]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    client = open_client(uri)
    names: list[str] = []
    token: str | None = None
    try:
        while True:
            page = client.search_experiments(filter_string=f"name LIKE '{_HEAD}%'", max_results=1000, page_token=token)
            names += [str(experiment.name) for experiment in page]
            token = page.token
            if not token:
                return names
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise StoreError(
            f"the tracking store {redact(uri)} does not list its experiments ({str(error).splitlines()[0][:200]}); "
            "check tracking.uri, or that its server is up",
            uri=redact(uri),
        ) from error


def run_address_prefix(uri: str) -> str:
    """What stands before a run id in its address in the UI of a tracking server; empty for a store that is no server.

    A name and password in the URI are left out: the address goes into pages for others.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = f"{host}:{parts.port}" if parts.port else host
    return urlunsplit((parts.scheme, place, parts.path.rstrip("/") + "/", "", "/runs/"))
