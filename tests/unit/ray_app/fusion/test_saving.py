"""A checkpoint is written whole or not at all: full disks, crashes between two renames, folders that are none of ours."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from ray_app.fusion import saving
from ray_app.fusion.fuse import FusionConfig, fuse_checkpoints
from ray_app.fusion.saving import CheckpointWriter
from tests.model_factory import tiny_model
from tracking.errors import ConfigError, StorageError


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _full_disk(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """The disk is full after so many writes."""
    left = [after]
    real = os.pwrite

    def pwrite(file: int, data: memoryview, offset: int) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)


@pytest.mark.parametrize("after", [0, 1, 20])
def test_a_disk_that_fills_up_leaves_the_old_checkpoint(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    fuse_checkpoints(FusionConfig(), {"a": tiny_model("bert", seed=1)}, out)
    before = _content(out)
    _full_disk(monkeypatch, after)
    with pytest.raises(StorageError, match=r"No space left on device.*is as it was") as caught:
        fuse_checkpoints(FusionConfig(), {"b": tiny_model("bert", seed=2)}, out)
    assert caught.value.exit_code == 3
    assert _content(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_disk_without_room_is_told_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    monkeypatch.setattr(os, "preadv", lambda *given: pytest.fail("a weight was read"))
    with pytest.raises(StorageError, match=r"bytes are needed and 1,000 are free"):
        fuse_checkpoints(FusionConfig(), {"a": tiny_model("bert", seed=1)}, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_failure_at_the_last_rename_puts_the_old_one_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    fuse_checkpoints(FusionConfig(), {"a": tiny_model("bert", seed=1)}, out)
    before = _content(out)
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if self.name.endswith(".tmp"):
            raise OSError(errno.EIO, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(StorageError, match="Input/output error"):
        fuse_checkpoints(FusionConfig(), {"b": tiny_model("bert", seed=2)}, out)
    assert _content(out) == before and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_crash_between_the_renames_is_mended_by_the_next_writer(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fuse_checkpoints(FusionConfig(), {"a": tiny_model("bert", seed=1)}, out)
    before = _content(out)
    out.rename(tmp_path / ".out.old")
    with CheckpointWriter(out, {"x": (2,)}, {}):
        assert _content(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path: Path) -> None:
    for name, age_s in ((".out.1.tmp", 2 * 24 * 3600), (".out.2.tmp", 60), (".other.3.tmp", 2 * 24 * 3600)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, time.time() - age_s))
    fuse_checkpoints(FusionConfig(), {"a": tiny_model("bert", seed=1)}, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.3.tmp", ".out.2.tmp", "out"]


def test_a_folder_that_is_no_checkpoint_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="is no checkpoint"):
        fuse_checkpoints(FusionConfig(), {"a": tiny_model("bert", seed=1)}, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_tensors_of_any_shape_are_written_where_they_belong(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    whole = {"index": ("I64", (3,), np.arange(3).tobytes())}
    model = tiny_model("bert")
    with CheckpointWriter(tmp_path / "out", {"a": (2, 3), "scalar": (), "none": (0, 4), "b": (4,)}, whole) as writer:
        writer.write("b", 2, np.array([7, 8], np.float32))
        writer.write("a", 0, np.arange(6, dtype=np.float32))
        writer.write("b", 0, np.array([5, 6], np.float32))
        writer.write("scalar", 0, np.array([9], np.float32))
        writer.finish(like=model, tokenizer=model, class_name="BertModel", card="card")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]] and found["b"].tolist() == [5, 6, 7, 8]
    assert found["scalar"].shape == () and found["scalar"] == 9 and found["none"].shape == (0, 4)
    assert found["index"].tolist() == [0, 1, 2]


def test_the_configuration_of_a_body_has_nothing_of_a_head() -> None:
    raw = b'{"model_type": "bert", "id2label": {"0": "x"}, "torch_dtype": "float16", "hidden_size": 8, "problem_type": "regression"}'
    found = saving.body_config(raw, "BertModel")
    assert found == {"model_type": "bert", "hidden_size": 8, "architectures": ["BertModel"], "dtype": "float32"}
