"""Which architectures have results, and where a run is in MLflow's UI."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from tracking.errors import StoreError
from tracking.schema import PREFIX
from tracking.store import open_client, redact


def known_architectures(uri: str) -> list[str]:
    """Architectures with an experiment in the store, by name; deleted experiments are left out.

    Raises:
        StoreError: the store cannot be read.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    client = open_client(uri)
    head = f"{PREFIX}/"
    names: list[str] = []
    token: str | None = None
    try:
        while True:
            page = client.search_experiments(filter_string=f"name LIKE '{head}%'", max_results=1000, page_token=token)
            names += [experiment.name for experiment in page if experiment.name.startswith(head)]
            token = page.token
            if not token:
                return sorted(name.removeprefix(head) for name in names)
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
