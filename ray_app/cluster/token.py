"""The token of a cluster: what everybody who may use it knows, and nobody else."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from tracking.errors import StorageError


def cluster_token(path: Path) -> str:
    """The token in a file that only its owner can read; made where there is none.

    Raises:
        StorageError: the file cannot be written or read.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return path.read_text().strip()
        token = secrets.token_hex(32)
        with os.fdopen(handle, "w") as file:
            file.write(token)
        return token
    except OSError as error:
        raise StorageError(
            f"the cluster's token {path} cannot be kept ({error.strerror}); choose OUT=dir", path=str(path)
        ) from error


def use_token(token: str) -> None:
    """From here on this process shows this token to Ray."""
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = token
