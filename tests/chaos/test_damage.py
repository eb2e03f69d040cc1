"""Full disks, truncated files and a clock that is set back: the next run makes good what they did."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.harness import ChaosStudy, end, kill_session, make_study

pytestmark = pytest.mark.chaos


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB of its own; skips where this account may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def fill(folder: Path) -> Path:
    """Take all that is left of a disk."""
    stone = folder / "stone"
    with stone.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 65536):
                pass
        except OSError:
            pass
    return stone


def test_the_disk_is_full(undisturbed: ChaosStudy, tmp_path: Path, small_disk: Path) -> None:
    """Checkpoints, records and MLflow's file meet a full disk in mid-training; room made, the next run ends as if nothing was."""
    chaos = make_study(tmp_path, undisturbed, more=(f"out={small_disk}/out",))
    process = chaos.study.start("sweep")
    chaos.wait_for_steps(process, 15)
    stone = fill(small_disk)
    code, text = end(process, timeout_s=120)
    assert code != 0, text
    assert "Traceback" not in text and ("No space left" in text or "disk is full" in text), text
    stone.unlink()
    chaos.on(small_disk / "out").assert_as_undisturbed(undisturbed, disturbances=8)


def test_checkpoints_are_truncated(undisturbed: ChaosStudy, tmp_path: Path) -> None:
    """Those of the cells under way lose their ends: they are told by their digest and the cells begin again."""
    chaos = make_study(tmp_path, undisturbed, step_s=0.2)
    process = chaos.study.start("sweep")
    chaos.wait_for_steps(process, 24)
    kill_session(process)
    process.communicate()
    stored = list((chaos.study.out / "storage" / "checkpoints").glob("*/step-*/tensors.safetensors"))
    assert stored, "no cell had a checkpoint"
    for path in stored:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    chaos.assert_as_undisturbed(undisturbed, disturbances=6)  # without its checkpoint, a cell repeats all it did


def test_the_snapshot_is_truncated_and_the_clock_set_back(undisturbed: ChaosStudy, tmp_path: Path) -> None:
    """The Parquet snapshot loses its end, and a day passes backwards in driver and workers in mid-training."""
    chaos = make_study(tmp_path, undisturbed)
    process = chaos.study.start("sweep")
    chaos.wait_for_steps(process, 45)  # two or three cells have ended
    (tmp_path / "clock").write_text("86400")
    chaos.wait_for_steps(process, 65)
    process.kill()
    process.communicate()
    code, text = chaos.study.run("sweep", "debug.max_cells=1")
    assert code == 0, text
    snapshot = chaos.study.out / "table" / "tiny.parquet"
    snapshot.write_bytes(snapshot.read_bytes()[:-40])
    chaos.assert_as_undisturbed(undisturbed, disturbances=2)
    ends = {row["end_time_ms"] // 1000 for row in chaos.study.cells().values()}
    assert max(ends) - min(ends) > 80_000, "the clock was not set back"
