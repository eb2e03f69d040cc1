"""`make ui`: MLflow's own UI on the tracking store, on loopback."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ray_app.commands.console import console
from ray_app.config import AppConfig
from tracking.errors import StoreError
from tracking.secrets import redact

PORT = 5000


def run(config: AppConfig) -> int:
    """Replace this process by `mlflow ui` on the store; prints where to look.

    Raises:
        StoreError: there is no store yet.
    """
    uri = config.tracking_uri
    if uri.startswith("http"):
        console.print(f"the tracking server is at {redact(uri)}; open it in a browser")
        return 0
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise StoreError(
            f"no tracking store at {uri} yet; run `make sweep` first, or name its folder with OUT=dir", uri=uri
        )
    port = os.environ.get("PORT", str(PORT))
    console.print(f"MLflow on http://127.0.0.1:{port} (Ctrl-C ends it); experiment startline/{config.arch.name}")
    # the address may hold a password, and arguments of a process are there for all to see
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_BACKEND_STORE_URI": uri}
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", port]
    os.execve(sys.executable, command, environment)
