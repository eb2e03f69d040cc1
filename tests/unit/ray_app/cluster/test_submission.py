"""What is sent to a cluster: the command as it is given there, and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_app.__main__ import COMMANDS
from ray_app.cluster.submission import SUBMITTED, _Lines, is_submitted, job_arguments, job_environment, submit
from ray_app.config import AppConfig, load_config
from tracking.errors import ConfigError


def test_submitted_commands_exist() -> None:
    assert set(SUBMITTED) <= set(COMMANDS)


def test_a_command_as_it_is_given_on_the_cluster() -> None:
    config = load_config(["cluster=aws", "seeds=[0,1]"])
    words = job_arguments("sweep", ["cluster=aws", "seeds=[0,1]", "mirror='/a b'"], config)
    assert words == [
        "python", "-m", "ray_app", "sweep", "cluster=aws", "seeds=[0,1]", "mirror='/a b'", "cluster.address=auto",
        "cluster.launch=null", "cluster.jobs=null", "out=/mnt/startline/out", "cache=/mnt/startline/cache",
    ]  # fmt: skip
    there = load_config([word for word in words[4:] if not word.startswith("mirror")])
    assert (there.cluster.address, there.cluster.launch, there.out) == ("auto", None, Path("/mnt/startline/out"))
    assert there.storage == Path("/mnt/startline") and not is_submitted("sweep", there)


def test_which_commands_are_sent() -> None:
    aws, local = load_config(["cluster=aws"]), load_config([])
    assert is_submitted("sweep", aws) and not is_submitted("cluster-up", aws) and not is_submitted("ui", aws)
    assert not is_submitted("sweep", local)


def test_a_job_carries_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    found = job_environment(load_config(["cluster=aws"]))
    assert found["MLFLOW_TRACKING_URI"] == "http://mlflow:5000" and "HF_TOKEN" not in found
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@mlflow:5000")
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        job_environment(load_config(["cluster=aws"]))
    assert "secret@" not in caught.value.message


def ready(*more: str) -> AppConfig:
    return load_config(["cluster=aws", "cluster.launch.account.filesystem=fs-1.efs.amazonaws.com", "dry=true", *more])


def test_a_dry_run_says_what_would_be_sent() -> None:
    said: list[str] = []
    assert submit("sweep", ["cluster=aws"], ready(), say=said.append) == 0
    assert said[0].startswith("would submit to cluster aws: python -m ray_app sweep cluster=aws")
    with pytest.raises(ConfigError, match="filesystem: not filled in"):
        submit("sweep", [], load_config(["cluster=aws", "dry=true"]), say=said.append)


def test_pieces_come_out_as_lines() -> None:
    said: list[str] = []
    lines = _Lines(said.append)
    for piece in ("a", "b\nc\r\n", "", "d"):
        lines.write(piece)
    lines.close()
    assert said == ["ab", "c", "d"]
