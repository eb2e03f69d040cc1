"""What every kind of cluster can do, and which kinds there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from ray_app.cluster.settings import LaunchConfig, LaunchKind
from ray_app.cluster.template import fill_in, read_template
from tracking.errors import ConfigError

PROJECT = Path(__file__).resolve().parent.parent.parent
TEMPLATES = PROJECT / "conf" / "launch"
NAME = "startline"
"""Name of the cluster in the templates."""
Say = Callable[[str], None]


class Launcher(ABC):
    """Starts, shows and ends a cluster, and runs commands on it.

    Args:
        launch: template and account.
        folder: for the filled-in template and the token.
        say: told in a line what happens.
    """

    own: tuple[str, ...] = ()
    """Names that are filled in here, not by the user."""

    def __init__(self, launch: LaunchConfig, folder: Path, *, say: Say) -> None:
        self.launch = launch
        self.folder = folder.absolute()
        self.say = say

    @property
    def where(self) -> str:
        """What the template is called in messages."""
        return f"conf/launch/{self.launch.template}.yaml"

    def filled_in(self, **given: str) -> str:
        """The template with the account, and with what is given here.

        Raises:
            ConfigError: something is not filled in.
        """
        text = read_template(TEMPLATES, self.launch.template)
        return fill_in(text, self.launch.account, where=self.where, given=given)

    def check(self) -> None:
        """See whether everything is filled in, without doing anything.

        Raises:
            ConfigError: with all that is not.
        """
        self.filled_in(**dict.fromkeys(self.own, "later"))

    @abstractmethod
    def up(self) -> None:
        """Start the cluster, or bring a running one up to date."""

    @abstractmethod
    def status(self) -> str:
        """Nodes and commands, as text for people."""

    @abstractmethod
    def down(self) -> None:
        """End the cluster and everything on it; results on its storage stay."""

    @abstractmethod
    def run(self, arguments: Sequence[str], *, environment: dict[str, str], write: Say) -> int:
        """Run a command on the cluster and pass on what it prints; returns its exit code."""


def make_launcher(launch: LaunchConfig, folder: Path, *, say: Say) -> Launcher:
    """The launcher of a kind."""
    from ray_app.cluster.kuberay import KubeRayCluster, KubeRayJob
    from ray_app.cluster.ray_up import RayUp
    from ray_app.cluster.slurm import SlurmJob

    kinds: dict[LaunchKind, type[Launcher]] = {
        LaunchKind.RAY_UP: RayUp,
        LaunchKind.KUBERAY: KubeRayCluster,
        LaunchKind.RAYJOB: KubeRayJob,
        LaunchKind.SLURM: SlurmJob,
    }
    return kinds[launch.kind](launch, folder, say=say)


def require_launch(launch: LaunchConfig | None, name: str) -> LaunchConfig:
    """The way a cluster is started.

    Raises:
        ConfigError: it is one that is not started from here.
    """
    if launch is None:
        raise ConfigError(
            f"cluster: {name!r} is not started from here; CLUSTER=aws, gcp, kuberay, rayjob and slurm are (conf/cluster)"
        )
    return launch
