"""A sweep on a cluster that Ray's autoscaler makes and unmakes (fake multi-node: every node a raylet of this machine).

Run as a program inside a PID and network namespace of its own, for `AutoscalingCluster.start` runs `ray stop --force`, which
ends every Ray process it can see. Prints one line of JSON: how many workers there were, second by second, and how it ended.

    unshare --net --pid --fork --mount-proc sh -c 'ip link set lo up; exec python tests/autoscaled_sweep.py FOLDER MIRROR CACHE'
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
IDLE_MINUTES = 0.1
"""After how long without work a node goes."""
CONFIG: dict[str, Any] = {
    "cluster_name": "startline-test",
    "max_workers": 2,
    "provider": {
        "type": "fake_multinode", "use_node_id_as_ip": True, "disable_node_updaters": True,
        "disable_launch_config_check": True,
    },
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {
            "resources": {"CPU": 1, "object_store_memory": 150_000_000}, "node_config": {}, "min_workers": 0, "max_workers": 2,
        },
    },
    "head_node_type": "ray.head.default",
    "auth": {}, "docker": {}, "file_mounts": {}, "upscaling_speed": 10.0, "idle_timeout_minutes": IDLE_MINUTES,
    "initialization_commands": [], "setup_commands": [], "head_setup_commands": [], "worker_setup_commands": [],
    "head_start_ray_commands": [], "worker_start_ray_commands": [], "cluster_synced_files": [],
    "file_mounts_sync_continuously": False, "rsync_exclude": [], "rsync_filter": [],
}  # fmt: skip
"""What Ray's own example for this provider holds (its YAML is not in the wheel), with one type of worker."""


def main(folder: Path, mirror: Path, cache: Path) -> None:
    """Start the cluster, run the sweep on it, watch the workers until they are gone."""
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    sys.path.insert(0, str(ROOT))
    import ray
    from ray.cluster_utils import AutoscalingCluster

    class OwnCluster(AutoscalingCluster):  # type: ignore[misc]
        def _generate_config(self, *given: Any, **more: Any) -> dict[str, Any]:
            return CONFIG

    from tests.tiny_study import TinyStudy

    cluster = OwnCluster(head_resources={"CPU": 0, "object_store_memory": 150_000_000}, worker_node_types={})
    cluster.start()
    ray.init("auto", log_to_driver=False, logging_level=40)
    counts: list[tuple[float, int]] = []
    began = time.monotonic()

    def look() -> int:
        n = sum(1 for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU"))
        counts.append((round(time.monotonic() - began, 1), n))
        return n

    look()
    study = TinyStudy(mirror, folder / "out", cache)
    process = study.start("sweep", "cluster.address=auto", "cluster.cpus=null")
    while process.poll() is None:
        look()
        time.sleep(1)
    text = process.communicate()[0]
    deadline = time.monotonic() + 90
    while look() and time.monotonic() < deadline:
        time.sleep(1)
    result = {"code": process.returncode, "printed": text, "counts": counts, "ended_s": counts[-1][0]}
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    ray.shutdown()
    subprocess.run(["ray", "stop", "--force"], check=False, capture_output=True)


if __name__ == "__main__":
    main(*(Path(text) for text in sys.argv[1:]))
