"""Launchers with stand-ins for the programs they call (ray, kubectl, sbatch): what is called, in which order, and what is said."""

from __future__ import annotations

import base64
import os
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ray_app.cluster import kuberay, ray_up
from ray_app.cluster.kuberay import KubeRayCluster, KubeRayJob
from ray_app.cluster.ray_up import RayUp
from ray_app.cluster.settings import LaunchConfig, LaunchKind
from ray_app.cluster.tunnel import tunnel
from tests.ray_head import ROOT
from tracking.errors import ClusterError

GCP: dict[str, str | None] = {
    "region": "us-central1",
    "project_id": "p-1",
    "filesystem": "10.0.0.2:/s",
    "gpu_image": "image",
}
KUBERNETES: dict[str, str | None] = {
    "namespace": "team", "image": "me/startline", "claim": "startline", "spot_label": "spot", "spot_value": "yes",
}  # fmt: skip


class StandIn:
    """A program that notes what it is called with and answers as told."""

    def __init__(self, folder: Path, name: str, body: str) -> None:
        self.path = folder / name
        self.log = folder / f"{name}.log"
        self.path.write_text(f'#!/bin/bash\nprintf "%s\\n" "$*" >> {self.log}\n{body}\n')
        self.path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture(autouse=True)
def own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "")


def up(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> tuple[RayUp, StandIn, list[str]]:
    ray, said = StandIn(folder, "ray", body), list[str]()
    monkeypatch.setattr(ray_up, "find_program", lambda name, hint: str(ray.path))
    monkeypatch.setattr(ray_up, "_require_client", lambda provider: None)
    launch = LaunchConfig(kind=LaunchKind.RAY_UP, template="gcp", account=GCP, zones=["z-a", "z-b", "z-c"])
    return RayUp(launch, folder / "cluster", say=said.append), ray, said


def test_a_zone_without_room_is_followed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher, ray, said = up(tmp_path, monkeypatch, "[ $1 = down ] || grep -q z-b ${@: -1}")
    launcher.up()
    assert ray.calls == [f"up --yes {launcher.config_path}"] * 2
    assert yaml.safe_load(launcher.config_path.read_text())["provider"]["availability_zone"] == "z-b"
    assert said == ["ray up in z-a", "no cluster in z-a; trying z-b", "ray up in z-b"]
    launcher.down()
    assert ray.calls[-1] == f"down --yes {launcher.config_path}"


def test_no_zone_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher, ray, _ = up(tmp_path, monkeypatch, "exit 1")
    with pytest.raises(ClusterError, match="ended with code 1"):
        launcher.up()
    assert len(ray.calls) == 3


def test_a_cluster_that_was_never_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher, ray, _ = up(tmp_path, monkeypatch, "exit 0")
    for act in (launcher.status, launcher.down, lambda: launcher.run(["true"], environment={}, write=print)):
        with pytest.raises(ClusterError, match="make cluster-up first"):
            act()
    assert not ray.calls


def test_a_package_that_is_missing_is_named() -> None:
    with pytest.raises(ClusterError, match="pip install google-api-python-client"):
        ray_up._require_client("gcp")


def kubectl(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> StandIn:
    program = StandIn(folder, "kubectl", f"shift 2\n{body}")
    monkeypatch.setattr(kuberay, "find_program", lambda name, hint: str(program.path))
    monkeypatch.setattr(kuberay, "_LOOK_S", 0.05)
    return program


def test_kuberay_is_applied_waited_for_and_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = kubectl(tmp_path, monkeypatch, f"[ $1 = apply ] && cat > {tmp_path}/applied.yaml; exit 0")
    launch = LaunchConfig(kind=LaunchKind.KUBERAY, template="kuberay", account=KUBERNETES)
    launcher = KubeRayCluster(launch, tmp_path / "cluster", say=lambda text: None)
    launcher.up()
    kinds = [document["kind"] for document in yaml.safe_load_all((tmp_path / "applied.yaml").read_text())]
    assert kinds == ["RayCluster", "NetworkPolicy"]
    assert program.calls[0] == "--namespace team apply -f -"
    assert program.calls[1].startswith("--namespace team wait pod -l ray.io/cluster=startline,ray.io/node-type=head")
    launcher.down()
    assert [call.split()[2:5] for call in program.calls[2:]] == [
        ["delete", "raycluster", "startline"],
        ["delete", "networkpolicy", "startline"],
    ]


def test_the_operators_token_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl(tmp_path, monkeypatch, f"echo {base64.b64encode(b'secret-token').decode()}")
    launch = LaunchConfig(kind=LaunchKind.KUBERAY, template="kuberay", account=KUBERNETES)
    KubeRayCluster(launch, tmp_path / "cluster", say=lambda text: None)._use_token()
    assert (os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"]) == ("token", "secret-token")


def test_a_rayjob_is_followed_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The submitter's log grows, then the job has failed; what was printed comes out once."""
    body = (
        f"case $1 in get) n=$(cat {tmp_path}/n 2>/dev/null || echo 0); echo $((n + 1)) > {tmp_path}/n; "
        '[ $n -ge 3 ] && echo "FAILED Complete" || echo "RUNNING Running";; '
        f"logs) for i in $(seq $(cat {tmp_path}/n)); do echo line $i; done;; esac"
    )
    program = kubectl(tmp_path, monkeypatch, body)
    launch = LaunchConfig(kind=LaunchKind.RAYJOB, template="rayjob", account=KUBERNETES)
    written: list[str] = []
    launcher = KubeRayJob(launch, tmp_path / "cluster", say=lambda text: None)
    assert launcher.run(["python", "-m", "ray_app", "sweep"], environment={}, write=written.append) == 1
    assert "".join(written).split() == ["line", "1", "line", "2", "line", "3", "line", "4"]
    assert program.calls[0] == "--namespace team apply -f -"


def test_a_tunnel_opens_and_closes() -> None:
    """The program is a server here; when the work is done it is gone."""
    program = "import http.server, sys; http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), http.server.BaseHTTPRequestHandler).serve_forever()"
    with tunnel(lambda port: [sys.executable, "-c", program, str(port)], open_s=20) as address:
        assert address.startswith("http://127.0.0.1:")
        port = int(address.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_a_tunnel_that_does_not_open_says_why() -> None:
    with (
        pytest.raises(ClusterError, match="no way to the cluster: sh ended \\(Error: no such service\\)"),
        tunnel(lambda port: ["sh", "-c", "echo 'Error: no such service' >&2; exit 1"], open_s=10),
    ):
        pass


# --- Slurm: the real `ray symmetric-run`, the real script, stand-ins for Slurm on one node -----------------------------------

INSIDE = ["unshare", "--net", "--pid", "--fork", "--mount-proc"]
"""Of its own, for `ray symmetric-run` ends with `ray stop`, which ends every Ray process in sight."""
SLURM = """
import sys
from pathlib import Path
from ray_app.cluster.settings import LaunchConfig, LaunchKind
from ray_app.cluster.slurm import SlurmJob
account = dict(account="lab", partition="gpu", nodes="1", gpus="0", cpus="2", time="10:00")
launch = LaunchConfig(kind=LaunchKind.SLURM, template="slurm", account=account)
program = "import os, ray; ray.init('auto', logging_level=40); print('CPUs', ray.cluster_resources()['CPU'], os.environ['RAY_AUTH_MODE'])"
job = SlurmJob(launch, Path(sys.argv[1]) / "cluster", say=print)
code = job.run(["python", "-c", program + "; raise SystemExit(4)"], environment={}, write=lambda text: print(text, end=""))
print("code", code)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*INSIDE, "true"], capture_output=True, check=False).returncode != 0,
    reason="needs unshare and the right to use it",
)
def test_a_slurm_job_starts_ray_runs_the_command_and_brings_its_exit_code_home(tmp_path: Path) -> None:
    StandIn(
        tmp_path,
        "sbatch",
        "export SLURM_JOB_ID=7 SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=n SLURM_CPUS_PER_TASK=2\n"
        f"log=$(sed -n 's/^#SBATCH --output=//p' ${{@: -1}})\n"
        f"( bash ${{@: -1}} > $log 2>&1; echo $? > {tmp_path}/code ) > /dev/null 2>&1 &\necho 7",
    )
    StandIn(tmp_path, "srun", 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"')
    StandIn(tmp_path, "scontrol", "[ $1 = show ] && echo 127.0.0.1")
    StandIn(
        tmp_path,
        "sacct",
        f'if [ -f {tmp_path}/code ]; then c=$(cat {tmp_path}/code); [ $c = 0 ] && echo "COMPLETED|0:0" || echo "FAILED|$c:0"; '
        "else echo 'RUNNING|0:0'; fi",
    )
    inside = f"ip link set lo up; export PATH={tmp_path}:$PATH; exec {shlex.join([sys.executable, '-c', SLURM, str(tmp_path)])}"
    done = subprocess.run(
        [*INSIDE, "sh", "-c", inside], capture_output=True, text=True, timeout=200, check=False, cwd=ROOT
    )
    text = done.stdout + done.stderr
    assert "CPUs 2.0 token" in done.stdout, text
    assert "code 4" in done.stdout, text
