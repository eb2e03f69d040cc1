"""Clusters on virtual machines through Ray's own launcher (`ray up`): AWS, GCP."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ray_app.cluster.jobs import JobServer, run_job
from ray_app.cluster.launcher import PROJECT, Launcher, Say
from ray_app.cluster.programs import find_program, run_program
from ray_app.cluster.template import read_documents
from ray_app.cluster.token import cluster_token, use_token
from ray_app.cluster.tunnel import tunnel
from tracking.errors import ClusterError, ConfigError, StorageError
from tracking.records import write_atomically

_CLIENTS = {"aws": ("boto3", "boto3"), "gcp": ("googleapiclient", "google-api-python-client")}
"""Provider -> module that Ray's launcher needs, and the package that has it."""
_WITH_TOKEN = "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/startline/auth_token"
"""What a Ray command on the head needs before it, as the templates start Ray there."""
_TRAVELS = ("pyproject.toml", "constraints.txt")


class RayUp(Launcher):
    """A cluster that `ray up` makes; its dashboard is reached through ssh, on loopback at both ends."""

    own = ("zone",)

    @property
    def config_path(self) -> Path:
        """The template with everything filled in; `ray up`, `ray attach` and `ray exec` take it by hand too."""
        return self.folder / "cluster.yaml"

    def write_config(self, zone: str | None = None) -> dict[str, Any]:
        """Fill in the template, check it by Ray's own schema and store it with the files that travel to the nodes.

        Raises:
            ConfigError: something is missing, or Ray would refuse it.
        """
        given = {"zone": zone} if zone else {}
        (config,) = read_documents(self.filled_in(**given), where=self.where)
        _check(config, where=self.where)
        files = self.folder / "files"
        cluster_token(files / "auth_token")
        try:
            for name in _TRAVELS:
                shutil.copyfile(PROJECT / name, files / name)
        except OSError as error:
            raise StorageError(f"cannot write {files} ({error.strerror}); choose OUT=dir", path=str(files)) from error
        config["file_mounts"] = {**(config.get("file_mounts") or {}), "~/startline": str(files)}
        write_atomically(self.config_path, yaml.safe_dump(config, sort_keys=False).encode())
        return config

    def _ray(self, *arguments: str, shown: bool = True) -> str:
        ray = find_program("ray", hint="pip install 'ray[default]'")
        return run_program([ray, *arguments], shown=shown)

    def up(self) -> None:
        """`ray up` in the first zone that has room (AWS tries its zones by itself)."""
        zones: list[str | None] = [*self.launch.zones] or [None]
        for number, zone in enumerate(zones, 1):
            provider = self.write_config(zone)["provider"]["type"]
            _require_client(provider)
            try:
                self.say(f"ray up in {zone}" if zone else "ray up")
                self._ray("up", "--yes", str(self.config_path))
                return
            except ClusterError:
                if number == len(zones):
                    raise
                self.say(f"no cluster in {zone}; trying {zones[number]}")

    def _started(self) -> Path:
        if not self.config_path.exists():
            raise ClusterError(
                f"no cluster was started from here ({self.config_path} is missing); run make cluster-up first"
            )
        use_token(cluster_token(self.folder / "files" / "auth_token"))
        return self.config_path

    def _way(self, port: int) -> list[str]:
        ray = find_program("ray", hint="pip install 'ray[default]'")
        return [ray, "dashboard", str(self.config_path), "--port", str(port)]

    def status(self) -> str:
        """Ray's own report on nodes and demand, and the commands submitted."""
        path = self._started()
        report = self._ray("exec", str(path), f"{_WITH_TOKEN} ray status", shown=False)
        with tunnel(self._way) as address:
            return f"{report.strip()}\n{JobServer(address).report()}"

    def down(self) -> None:
        """`ray down`: every machine of the cluster is terminated."""
        self._ray("down", "--yes", str(self._started()))

    def run(self, arguments: Sequence[str], *, environment: dict[str, str], write: Say) -> int:
        """Submit a command as a Ray job through an ssh tunnel and follow it."""
        self._started()
        with tunnel(self._way) as address:
            return run_job(JobServer(address), arguments, environment=environment, write=write, say=self.say)


def _check(config: dict[str, Any], *, where: str) -> None:
    import jsonschema
    from ray.autoscaler._private.util import prepare_config, validate_config

    try:
        validate_config(prepare_config({**config}))
    except (jsonschema.ValidationError, ValueError, AssertionError, KeyError, ImportError) as error:
        reason = str(getattr(error, "message", error)).splitlines()[0]
        raise ConfigError(f"{where}: `ray up` would refuse it ({reason[:300]}); put right what was changed") from error


def _require_client(provider: str) -> None:
    module, package = _CLIENTS.get(provider, ("ray", "ray"))
    if importlib.util.find_spec(module) is None:
        raise ClusterError(
            f"`ray up` on {provider} needs the package {package}; run: .venv/bin/pip install {package}", package=package
        )
