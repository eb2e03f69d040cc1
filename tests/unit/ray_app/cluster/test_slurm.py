"""The sbatch script of a command, and how a Slurm job's end is read."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ray_app.cluster.launcher import PROJECT
from ray_app.cluster.settings import LaunchConfig, LaunchKind
from ray_app.cluster.slurm import SlurmJob, _end_of
from tracking.errors import ConfigError

ACCOUNT: dict[str, str | None] = {
    "account": "lab", "partition": "gpu", "nodes": "2", "gpus": "4", "cpus": "32", "time": "1-00:00:00",
}  # fmt: skip


def job(folder: Path, **account: str | None) -> SlurmJob:
    launch = LaunchConfig(kind=LaunchKind.SLURM, template="slurm", account={**ACCOUNT, **account})
    return SlurmJob(launch, folder, say=lambda text: None)


def test_the_script_is_shell_and_says_what_was_filled_in(tmp_path: Path) -> None:
    script = job(tmp_path).script(["python", "-m", "ray_app", "sweep", "arch.name='a b'"], log=tmp_path / "log")
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    lines = script.splitlines()
    assert lines[0] == "#!/bin/bash"
    options = {
        line.split("=")[0].split(" --")[1]: line.split("=", 1)[1]
        for line in lines
        if line.startswith("#SBATCH --") and "=" in line
    }
    assert (options["account"], options["nodes"], options["gpus-per-node"]) == ("lab", "2", "4")
    assert options["output"] == str(tmp_path / "log")
    assert f"RAY_AUTH_TOKEN_PATH={tmp_path}/token" in script and "RAY_AUTH_MODE=token" in script
    assert """-- python -m ray_app sweep 'arch.name='"'"'a b'"'"'' &""" in script
    assert f"cd {PROJECT}" in script and "FILL_IN" not in script
    assert "--include-dashboard=false" in script, "no dashboard, nothing that listens for jobs"


def test_an_account_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"account\.partition: not filled in"):
        job(tmp_path, partition=None).script(["true"], log=tmp_path / "log")


def test_a_folder_with_a_blank_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="blank"):
        job(tmp_path / "my files").script(["true"], log=tmp_path / "log")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("COMPLETED|0:0", 0), ("FAILED|2:0", 2), ("CANCELLED by 1000|0:15", 130), ("RUNNING|0:0", None), ("", None),
        ("REQUEUED|0:0", None), ("PREEMPTED|0:0", None), ("NODE_FAIL|0:0", 3), ("TIMEOUT|0:0", 3), ("FAILED|x", 3),
    ],
)  # fmt: skip
def test_states_of_slurm(answer: str, code: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """States as `man sacct` (JOB STATE CODES) has them; ExitCode is code:signal."""
    sacct = tmp_path / "sacct"
    sacct.write_text(f"#!/bin/sh\necho '{answer}'\n")
    sacct.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert _end_of("7") == code
