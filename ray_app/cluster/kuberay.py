"""Clusters on Kubernetes through KubeRay: one that stays (RayCluster), or one for every command (RayJob)."""

from __future__ import annotations

import base64
import secrets
import shlex
import time
from collections.abc import Sequence
from typing import Any

import yaml

from ray_app.cluster.jobs import LOST, STOPPED, JobServer, run_job
from ray_app.cluster.launcher import NAME, Launcher, Say
from ray_app.cluster.programs import find_program, run_program
from ray_app.cluster.template import read_documents
from ray_app.cluster.token import use_token
from ray_app.cluster.tunnel import tunnel
from tracking.errors import ClusterError
from tracking.records import write_atomically

_LOOK_S = 5.0
_FOLLOW_S = 30.0


class _OnKubernetes(Launcher):
    """What both have in common: kubectl in the account's namespace."""

    def _kubectl(self, *arguments: str, given: str | None = None, shown: bool = False) -> str:
        kubectl = find_program("kubectl", hint="install it and point it at your cluster (kubectl config use-context)")
        return run_program([kubectl, "--namespace", self._namespace, *arguments], given=given, shown=shown)

    @property
    def _namespace(self) -> str:
        return self.launch.account.get("namespace") or "default"

    def documents(self) -> list[dict[str, Any]]:
        """The template's objects, filled in."""
        return read_documents(self.filled_in(), where=self.where)

    def _apply(self, documents: list[dict[str, Any]]) -> None:
        text = yaml.safe_dump_all(documents, sort_keys=False)
        write_atomically(self.folder / "cluster.yaml", text.encode())
        self._kubectl("apply", "-f", "-", given=text, shown=True)


class KubeRayCluster(_OnKubernetes):
    """A RayCluster with autoscaled spot workers; its job server is reached by `kubectl port-forward`, on loopback here."""

    def up(self) -> None:
        """`kubectl apply`, and wait for the head."""
        self._apply(self.documents())
        selector = f"ray.io/cluster={NAME},ray.io/node-type=head"
        self._kubectl("wait", "pod", "-l", selector, "--for=condition=Ready", "--timeout=900s", shown=True)

    def _way(self, port: int) -> list[str]:
        kubectl = find_program("kubectl", hint="install it and point it at your cluster (kubectl config use-context)")
        service = f"service/{NAME}-head-svc"
        return [kubectl, "--namespace", self._namespace, "port-forward", "--address=127.0.0.1", service, f"{port}:8265"]

    def _use_token(self) -> None:
        """The operator keeps the token in a secret of the cluster's name, under auth_token."""
        coded = self._kubectl("get", "secret", NAME, "-o", "jsonpath={.data.auth_token}").strip()
        if not coded:
            raise ClusterError(f"the secret {NAME} holds no auth_token; is KubeRay older than 1.5.1?")
        use_token(base64.b64decode(coded).decode().strip())

    def status(self) -> str:
        """Cluster, pods, and the commands submitted."""
        objects = self._kubectl("get", "raycluster", NAME) + self._kubectl(
            "get", "pods", "-l", f"ray.io/cluster={NAME}"
        )
        self._use_token()
        with tunnel(self._way) as address:
            return f"{objects.strip()}\n{JobServer(address).report()}"

    def down(self) -> None:
        """Delete the RayCluster and its policy; the claim with the results stays."""
        for kind in ("raycluster", "networkpolicy"):
            self._kubectl("delete", kind, NAME, "--ignore-not-found", shown=True)

    def run(self, arguments: Sequence[str], *, environment: dict[str, str], write: Say) -> int:
        """Submit a command as a Ray job through a port-forward and follow it."""
        self._use_token()
        with tunnel(self._way) as address:
            return run_job(JobServer(address), arguments, environment=environment, write=write, say=self.say)


class KubeRayJob(_OnKubernetes):
    """A RayJob for every command: its cluster comes and goes with it."""

    def up(self) -> None:
        """Nothing to start: every command brings its cluster."""
        self.documents()
        self.say(
            "CLUSTER=rayjob starts a cluster of its own for every command; give the command: make sweep CLUSTER=rayjob"
        )

    def status(self) -> str:
        """RayJobs and their pods."""
        return self._kubectl("get", "rayjobs,pods", "-l", f"app.kubernetes.io/name={NAME}").strip()

    def down(self) -> None:
        """Delete every RayJob of ours, with its cluster; the claim with the results stays."""
        self._kubectl("delete", "rayjobs", "-l", f"app.kubernetes.io/name={NAME}", shown=True)

    def job(self, arguments: Sequence[str], *, environment: dict[str, str]) -> dict[str, Any]:
        """The RayJob for a command."""
        (document,) = self.documents()
        document["metadata"]["name"] = f"{NAME}-{secrets.token_hex(3)}"
        document["metadata"]["labels"] = {"app.kubernetes.io/name": NAME}
        runtime = yaml.safe_load(document["spec"]["runtimeEnvYAML"])
        document["spec"]["runtimeEnvYAML"] = yaml.safe_dump({**runtime, "env_vars": environment})
        document["spec"]["entrypoint"] = shlex.join(arguments)
        return document

    def run(self, arguments: Sequence[str], *, environment: dict[str, str], write: Say) -> int:
        """Apply the RayJob and pass on its log until it ends."""
        document = self.job(arguments, environment=environment)
        name = document["metadata"]["name"]
        self._apply([document])
        self.say(f"RayJob {name}; Ctrl-C stops following, not the job (make cluster-down CLUSTER=rayjob ends it)")
        written = 0
        while True:
            status, code = self._state(name)
            written = self._pass_on(name, written, write)
            if code is not None:
                return code
            time.sleep(_LOOK_S if status else _FOLLOW_S)

    def _state(self, name: str) -> tuple[str, int | None]:
        template = "jsonpath={.status.jobStatus} {.status.jobDeploymentStatus}"
        words = self._kubectl("get", "rayjob", name, "-o", template).split()
        ends = {"SUCCEEDED": 0, "STOPPED": STOPPED, "FAILED": 1, "Failed": LOST}
        return (words or [""])[0], next((ends[word] for word in words if word in ends), None)

    def _pass_on(self, name: str, written: int, write: Say) -> int:
        """What the submitter printed since; it comes and goes, and has nothing to say at first."""
        try:
            text = self._kubectl("logs", "-l", f"job-name={name}", "--tail=-1", "--ignore-errors=true")
        except ClusterError:
            return written
        if len(text) > written:
            write(text[written:])
        return max(written, len(text))
