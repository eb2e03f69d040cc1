"""The token of a cluster: made once, readable by its owner only."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ray_app.cluster.token import cluster_token
from tracking.errors import StorageError


def test_a_token_is_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "token"
    token = cluster_token(path)
    assert len(token) == 64 and cluster_token(path) == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert cluster_token(tmp_path / "other") != token


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="OUT=dir"):
        cluster_token(tmp_path / "file" / "token")
