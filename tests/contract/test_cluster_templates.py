"""Every cluster template, filled in: read by the code that will read it where that is here, else by a schema of its fields.

Ray's launcher and its KubeRay autoscaler are installed with Ray, so their own validation reads the templates. KubeRay's operator
is not: tests/golden/kuberay-fields.json holds the fields used, with where they are from. No cloud was reached.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ray_app.cluster.kuberay import KubeRayJob
from ray_app.cluster.launcher import TEMPLATES, Launcher
from ray_app.cluster.ray_up import RayUp
from ray_app.cluster.submission import launcher_of
from ray_app.config import CONF, load_config
from tracking.errors import ConfigError

ROOT = CONF.parent
ACCOUNTS: dict[str, dict[str, str]] = {
    "aws": {"filesystem": "fs-0123456789abcdef0.efs.us-west-2.amazonaws.com"},
    "gcp": {"project_id": "my-project-1", "filesystem": "10.0.0.2:/startline"},
    "kuberay": {"image": "registry.example/team/startline:2.60.0", "claim": "startline"},
    "rayjob": {"image": "registry.example/team/startline:2.60.0", "claim": "startline"},
    "slurm": {"account": "lab", "partition": "gpu"},
}
"""What a user fills in; everything else is in the repository."""


def launcher(name: str, folder: Path) -> Launcher:
    account = [f"cluster.launch.account.{key}='{value}'" for key, value in ACCOUNTS[name].items()]
    return launcher_of(load_config([f"cluster={name}", f"out='{folder}'", *account]), say=lambda text: None)


def kubernetes(name: str, folder: Path) -> list[dict[str, Any]]:
    made = launcher(name, folder)
    assert hasattr(made, "documents")
    return list(made.documents())


def ray_cluster_spec(name: str, folder: Path) -> dict[str, Any]:
    spec = kubernetes(name, folder)[0]["spec"]
    return dict(spec if name == "kuberay" else spec["rayClusterSpec"])


def test_every_template_has_a_cluster_and_an_account() -> None:
    templates = {path.stem for path in TEMPLATES.glob("*.yaml")}
    launched = {name for name in ACCOUNTS if load_config([f"cluster={name}"]).cluster.launch is not None}
    assert templates == launched == set(ACCOUNTS)


@pytest.mark.parametrize("name", list(ACCOUNTS))
def test_the_account_is_all_that_is_missing(name: str, tmp_path: Path) -> None:
    made = launcher(name, tmp_path)
    made.check()
    assert "FILL_IN" not in "".join(
        line
        for line in made.filled_in(**dict.fromkeys(made.own, "x")).splitlines()
        if not line.lstrip().startswith("# ")
    )
    with pytest.raises(ConfigError) as caught:
        launcher_of(load_config([f"cluster={name}"]), say=lambda text: None).check()
    assert len(caught.value.faults) == len(ACCOUNTS[name])


# --- ray up --------------------------------------------------------------------------------------------------------------


def ray_up(name: str, folder: Path) -> dict[str, Any]:
    made = launcher(name, folder)
    assert isinstance(made, RayUp)
    return made.write_config("us-central1-b" if name == "gcp" else None)


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_ray_up_takes_it(name: str, tmp_path: Path) -> None:
    """``write_config`` runs Ray's own prepare_config and validate_config (ray-schema.json); here once more on what it stored."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = ray_up(name, tmp_path)
    stored = yaml.safe_load((tmp_path / "cluster" / name / "cluster.yaml").read_text())
    assert stored == config
    validate_config(prepare_config(stored))


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_ray_up_s_validation_is_no_formality(name: str, tmp_path: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    for key, wrong in (
        ("idle_timeout_minutes", "five"),
        ("max_workers", -1),
        ("head_node_type", "none"),
        ("colour", 1),
    ):
        config = {**ray_up(name, tmp_path), key: wrong}
        with pytest.raises((jsonschema.ValidationError, ValueError, KeyError)):
            validate_config(prepare_config(config))


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_a_head_on_demand_and_spot_workers_from_none_up(name: str, tmp_path: Path) -> None:
    config = ray_up(name, tmp_path)
    types = dict(config["available_node_types"])
    head = types.pop(config["head_node_type"])
    assert head["resources"] == {"CPU": 0} and "GPU" not in head["resources"]
    assert "InstanceMarketOptions" not in head["node_config"] and "scheduling" not in head["node_config"]
    assert len(types) >= 2, "one kind of GPU that is sold out must not stop a sweep"
    for node in types.values():
        assert node["min_workers"] == 0 and node["resources"]["GPU"] == 1
        market = node["node_config"].get("InstanceMarketOptions") or {"MarketType": "spot"}
        preemptible = {
            key: value for entry in node["node_config"].get("scheduling", []) for key, value in entry.items()
        }
        assert market["MarketType"] == "spot" if name == "aws" else preemptible["preemptible"] is True
        if name == "gcp":
            assert preemptible["onHostMaintenance"] == "TERMINATE", "GCP refuses GPUs without it"
    assert 0 < config["idle_timeout_minutes"] <= 10


def test_several_zones(tmp_path: Path) -> None:
    assert len(ray_up("aws", tmp_path)["provider"]["availability_zone"].split(",")) >= 2
    zones = load_config(["cluster=gcp"]).cluster.launch
    assert zones is not None and len(zones.zones) >= 3
    assert ray_up("gcp", tmp_path)["provider"]["availability_zone"] == "us-central1-b"


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_nodes_ask_for_the_token_and_listen_on_loopback(name: str, tmp_path: Path) -> None:
    config = ray_up(name, tmp_path)
    for role in ("head", "worker"):
        start = " ".join(config[f"{role}_start_ray_commands"])
        assert "RAY_AUTH_MODE=token" in start and "RAY_AUTH_TOKEN_PATH=$HOME/startline/auth_token" in start
    assert "--dashboard-host=127.0.0.1" in " ".join(config["head_start_ray_commands"])
    files = Path(config["file_mounts"]["~/startline"])
    assert {path.name for path in files.iterdir()} == {"auth_token", "pyproject.toml", "constraints.txt"}
    token = (files / "auth_token").read_text()
    assert len(token) == 64 and token not in json.dumps(config), "the token itself must stand nowhere else"


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_shell_commands_parse_and_install_what_the_project_needs(name: str, tmp_path: Path) -> None:
    config = ray_up(name, tmp_path)
    keys = [key for key in config if key.endswith("_commands")]
    assert len(keys) >= 5
    for command in [command for key in keys for command in config[key]]:
        assert subprocess.run(["bash", "-n"], input=command, text=True, check=False).returncode == 0, command
    home = tmp_path / "home" / "startline"
    home.mkdir(parents=True)
    (home / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    listing = config["setup_commands"][0].split(" > /tmp")[0].replace("python -c", "python3 -c", 1)
    listed = subprocess.run(["bash", "-c", listing], env={"HOME": str(home.parent), "PATH": "/usr/bin:/bin:/usr/local/bin"},
                            text=True, capture_output=True, check=True).stdout.split("\n")  # fmt: skip
    assert any(line.startswith("transformers") for line in listed) and any(line.startswith("ray") for line in listed)


def test_images_hold_the_ray_that_is_pinned(tmp_path: Path) -> None:
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert pinned is not None
    for name in ("aws", "gcp"):
        docker = ray_up(name, tmp_path)["docker"]
        assert docker["image"] == f"rayproject/ray:{pinned[1]}-py311-gpu"
        assert docker["head_image"] == f"rayproject/ray:{pinned[1]}-py311"
    for name in ("kuberay", "rayjob"):
        assert ray_cluster_spec(name, tmp_path)["rayVersion"] == pinned[1]


# --- KubeRay -------------------------------------------------------------------------------------------------------------


FIELDS = json.loads((ROOT / "tests" / "golden" / "kuberay-fields.json").read_text())


def check_fields(document: dict[str, Any]) -> None:
    schema = {"$ref": f"#/definitions/{document['kind']}", "definitions": FIELDS["definitions"]}
    jsonschema.Draft7Validator(schema).validate(document)


@pytest.mark.parametrize("name", ["kuberay", "rayjob"])
def test_kuberay_s_fields(name: str, tmp_path: Path) -> None:
    documents = kubernetes(name, tmp_path)
    assert [document["kind"] for document in documents] == (
        ["RayCluster", "NetworkPolicy"] if name == "kuberay" else ["RayJob"]
    )
    for document in documents:
        check_fields(document)


def test_the_schema_is_no_formality(tmp_path: Path) -> None:
    for wrong in ({"minReplica": 0}, {"maxReplicas": "16"}, {"rayStartParams": {"num-cpus": 4}}):
        document = kubernetes("kuberay", tmp_path)[0]
        document["spec"]["workerGroupSpecs"][0].update(wrong)
        with pytest.raises(jsonschema.ValidationError):
            check_fields(document)


@pytest.mark.parametrize("name", ["kuberay", "rayjob"])
def test_ray_s_own_autoscaler_reads_it(name: str, tmp_path: Path) -> None:
    """The code that runs in the head's autoscaler container: what it makes of the RayCluster passes Ray's schema."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
    from ray.autoscaler._private.util import validate_config

    cluster = {"metadata": {"name": "startline", "namespace": "default"}, "spec": ray_cluster_spec(name, tmp_path)}
    config = _derive_autoscaling_config_from_ray_cr(cluster)
    validate_config(config)
    workers = config["available_node_types"]["spot-gpu"]
    assert (workers["min_workers"], workers["max_workers"], workers["idle_timeout_s"]) == (0, 16, 300)
    assert workers["resources"] == {"CPU": 8, "GPU": 1, "memory": 24 * 2**30}
    assert config["available_node_types"]["headgroup"]["resources"]["CPU"] == 0
    assert config["idle_timeout_minutes"] == 5


@pytest.mark.parametrize("name", ["kuberay", "rayjob"])
def test_token_autoscaler_and_spot_nodes(name: str, tmp_path: Path) -> None:
    spec = ray_cluster_spec(name, tmp_path)
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["enableInTreeAutoscaling"] is True and spec["autoscalerOptions"]["version"] == "v2"
    (group,) = spec["workerGroupSpecs"]
    assert group["template"]["spec"]["nodeSelector"] == {"cloud.google.com/gke-spot": "true"}
    assert "nodeSelector" not in spec["headGroupSpec"]["template"]["spec"], "the head stays on demand"
    mounts = [spec["headGroupSpec"], group]
    assert all(
        {"name": "storage", "mountPath": "/mnt/startline"} in each["template"]["spec"]["containers"][0]["volumeMounts"]
        for each in mounts
    )


def test_a_rayjob_for_a_command_cleans_up_behind_it(tmp_path: Path) -> None:
    made = launcher("rayjob", tmp_path)
    assert isinstance(made, KubeRayJob)
    job = made.job(["python", "-m", "ray_app", "sweep", "arch.name='a b'"], environment={"X": "1"})
    check_fields(job)
    assert job["spec"]["entrypoint"] == """python -m ray_app sweep 'arch.name='"'"'a b'"'"''"""
    assert yaml.safe_load(job["spec"]["runtimeEnvYAML"]) == {
        "working_dir": "/home/ray/startline",
        "env_vars": {"X": "1"},
    }
    rules = job["spec"]["deletionStrategy"]["deletionRules"]
    for end in ("SUCCEEDED", "FAILED"):
        after = {
            rule["policy"]: rule["condition"]["ttlSeconds"]
            for rule in rules
            if rule["condition"].get("jobStatus") == end
        }
        assert after["DeleteWorkers"] <= 60 < after["DeleteCluster"], "GPUs first, the head with the logs later"
    assert made.job(["true"], environment={})["metadata"]["name"] != job["metadata"]["name"]
