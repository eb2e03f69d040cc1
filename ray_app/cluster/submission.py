"""A command of the front door sent to a cluster instead of being run here."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ray_app.cluster.launcher import Launcher, Say, make_launcher
from ray_app.commit import COMMIT_VARIABLE, code_commit
from tracking.errors import ConfigError
from tracking.secrets import holds_userinfo

if TYPE_CHECKING:
    from ray_app.config import AppConfig

SUBMITTED = ("sweep", "start", "probe", "proxies", "matrix", "select", "cold-fusion", "rank", "analyze", "backtest")
"""Commands that run on the cluster, where its storage is; the others run here."""


def is_submitted(command: str, config: AppConfig) -> bool:
    """Whether a command is run by the cluster's own job server or queue, not by this process."""
    return command in SUBMITTED and (config.cluster.jobs is not None or config.cluster.launch is not None)


def job_arguments(command: str, overrides: Sequence[str], config: AppConfig) -> list[str]:
    """The command as it is given on the cluster: the Ray that is there, everything on the storage that all nodes share."""
    cluster = config.cluster
    storage = cluster.storage
    folders = {
        "out": storage / "out" if storage else config.out.absolute(),
        "cache": storage / "cache" if storage else config.cache.expanduser().absolute(),
    }
    places = [f"{name}={_quoted(str(path))}" for name, path in folders.items()]
    here = ["cluster.address=auto", "cluster.launch=null", "cluster.jobs=null"]
    return ["python", "-m", "ray_app", command, *overrides, *here, *places]


def _quoted(text: str) -> str:
    """A path as a value of an override; in quotes only where it needs them."""
    if re.fullmatch(r"[\w./-]+", text, re.ASCII):
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def job_environment(config: AppConfig) -> dict[str, str]:
    """Variables of the job; who may use the cluster may read them.

    Raises:
        ConfigError: one of them holds a password.
    """
    found = {"MLFLOW_DISABLE_TELEMETRY": "true", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONUNBUFFERED": "1"}
    found[COMMIT_VARIABLE] = code_commit()
    uri = config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri and holds_userinfo(uri):
        raise ConfigError(
            "tracking.uri: it holds a name or password, which everybody who may use the cluster could read in the job; give the "
            "address without, and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD on the cluster's nodes"
        )
    return found | ({"MLFLOW_TRACKING_URI": uri} if uri else {})


def submit(command: str, overrides: Sequence[str], config: AppConfig, *, say: Say) -> int:
    """Send a command to the cluster and follow it; returns its exit code. A dry run says what would be sent.

    Raises:
        ConfigError: something is not filled in.
        ClusterError: the cluster cannot be reached.
    """
    arguments, environment = job_arguments(command, overrides, config), job_environment(config)
    if config.dry:
        if config.cluster.launch is not None:
            launcher_of(config, say=say).check()
        say(f"would submit to cluster {config.cluster.name}: {shlex.join(arguments)}")
        return 0
    lines = _Lines(say)
    try:
        if config.cluster.jobs is not None:
            from ray_app.cluster.jobs import JobServer, run_job

            server = JobServer(config.cluster.jobs)
            return run_job(server, arguments, environment=environment, write=lines.write, say=say)
        return launcher_of(config, say=say).run(arguments, environment=environment, write=lines.write)
    finally:
        lines.close()


def launcher_of(config: AppConfig, *, say: Say) -> Launcher:
    """What starts and reaches the cluster of a configuration.

    Raises:
        ConfigError: it is one that is not started from here.
    """
    from ray_app.cluster.launcher import require_launch

    launch = require_launch(config.cluster.launch, config.cluster.name)
    return make_launcher(launch, config.out / "cluster" / config.cluster.name, say=say)


class _Lines:
    """Pieces of text as whole lines."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._rest = ""

    def write(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._say(line.rstrip("\r"))

    def close(self) -> None:
        if self._rest:
            self._say(self._rest)
            self._rest = ""
