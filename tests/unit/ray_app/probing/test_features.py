"""The feature cache: what is stored, when it is made again, and that nothing half-made is ever read."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from ray_app.probing import features as features_module
from ray_app.probing.backbone import BackboneShelf, load_backbone
from ray_app.probing.features import FeatureCache, FeatureSource, SplitFeatures
from ray_app.probing.settings import POOLINGS, Pooling
from ray_app.training.settings import Precision
from ray_app.training.tokens import EncodedTask, Family
from tests.model_factory import tiny_model
from tests.unit.ray_app.probing.tiny_task import tiny_task
from tracking.errors import StorageError

N_ROWS = 12


@pytest.fixture
def task(tmp_path: Path) -> EncodedTask:
    return tiny_task(tmp_path / "task", tiny_model("bert"), Family.ENCODER, n_rows=N_ROWS)


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "features", limit_bytes=10**9)


SOURCE = FeatureSource(
    base_model="org/tiny", revision="r1", folder=tiny_model("bert"), family=Family.ENCODER, precision=Precision.FP32
)


class _NoModel(BackboneShelf):
    def get(self, path: Path, family: Family) -> None:  # type: ignore[override]
        raise AssertionError("the model was loaded")


def _make(
    cache: FeatureCache, task: EncodedTask, split: str = "train", source: FeatureSource = SOURCE
) -> SplitFeatures:
    return cache.features(source, task, split, shelf=BackboneShelf(), max_tokens=64)


def test_rows_stand_in_the_order_of_the_split(cache: FeatureCache, task: EncodedTask) -> None:
    made = _make(cache, task)
    assert (np.asarray(made.labels) == np.arange(N_ROWS) % 2).all()
    vectors = made.pooled(Pooling.MEAN)
    assert vectors.shape == (N_ROWS, 32) and vectors.dtype == np.float32 and np.isfinite(vectors).all()
    assert len(set(task["train"].lengths.tolist())) > 3  # so that batches are not in the order of rows
    model, split = load_backbone(tiny_model("bert"), Family.ENCODER).model, task["train"]
    for row in (0, 5, N_ROWS - 1):
        ids = torch.tensor([split.tokens[split.offsets[row] : split.offsets[row + 1]].tolist()])
        with torch.inference_mode():
            alone = model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0].mean(dim=0)
        assert vectors[row] == pytest.approx(alone.numpy(), abs=1e-5)
    assert made.source_logits is None and "no classification head" in made.no_source_head


def test_a_second_reader_needs_no_model(cache: FeatureCache, task: EncodedTask) -> None:
    first = _make(cache, task)
    second = cache.features(SOURCE, task, "train", shelf=_NoModel(), max_tokens=64)
    for pooling in POOLINGS[Family.ENCODER]:
        assert np.array_equal(first.pooled(pooling), second.pooled(pooling))


def test_one_model_serves_all_splits_and_tasks(cache: FeatureCache, task: EncodedTask, tmp_path: Path) -> None:
    loaded = []

    class Counting(BackboneShelf):
        def get(self, path: Path, family: Family):  # type: ignore[no-untyped-def]
            found = super().get(path, family)
            loaded.append(id(found))
            return found

    shelf = Counting()
    other = tiny_task(tmp_path / "other", tiny_model("bert"), Family.ENCODER, n_rows=5)
    for one in (task, other):
        for split in ("train", "validation", "test"):
            cache.features(SOURCE, one, split, shelf=shelf, max_tokens=64)
    assert len(loaded) == 6 and len(set(loaded)) == 1


def test_whatever_decides_the_numbers_has_an_entry_of_its_own(task: EncodedTask, tmp_path: Path) -> None:
    other = tiny_task(tmp_path / "other", tiny_model("bert"), Family.ENCODER, n_rows=5)
    sources = [
        SOURCE,
        dataclasses.replace(SOURCE, base_model="org/other"),
        dataclasses.replace(SOURCE, revision="r2"),
        dataclasses.replace(SOURCE, precision=Precision.BF16),
    ]
    names = [source.entry(task, "train") for source in sources] + [
        SOURCE.entry(task, "test"),
        SOURCE.entry(other, "train"),
    ]
    assert len(set(names)) == len(names)
    moved = dataclasses.replace(SOURCE, folder=tmp_path)  # where the files lie decides nothing
    assert moved.entry(task, "train") == names[0]


def test_a_pass_that_ends_early_leaves_nothing(
    cache: FeatureCache, task: EncodedTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = features_module.walk_split

    def interrupted(*args: object, **given: object):  # type: ignore[no-untyped-def]
        yield next(walk(*args, **given))  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(features_module, "walk_split", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _make(cache, task)
    assert list(cache.folder.iterdir()) == []
    monkeypatch.setattr(features_module, "walk_split", walk)
    assert _make(cache, task).pooled(Pooling.MEAN).shape == (N_ROWS, 32)


@pytest.mark.parametrize("damage", ["cut", "gone", "meta"])
def test_a_damaged_entry_is_made_again(cache: FeatureCache, task: EncodedTask, damage: str) -> None:
    first = _make(cache, task)
    expected = np.array(first.pooled(Pooling.MEAN))
    if damage == "cut":
        os.truncate(first.folder / "mean.npy", 200)
    elif damage == "gone":
        (first.folder / "label.npy").unlink()
    else:
        (first.folder / "meta.json").write_text("{")
    assert np.array_equal(_make(cache, task).pooled(Pooling.MEAN), expected)


def test_a_full_disk_is_said_before_anything_is_computed(
    cache: FeatureCache, task: EncodedTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StorageError, match="make clean-features"):
        _make(cache, task)
    assert list(cache.folder.iterdir()) == []


def test_the_cache_stays_below_its_size_by_dropping_what_was_not_read_for_longest(
    task: EncodedTask, tmp_path: Path
) -> None:
    roomy = FeatureCache(tmp_path / "features", limit_bytes=10**9)
    entries = {split: _make(roomy, task, split).folder for split in ("train", "validation")}
    size = sum(path.stat().st_size for path in entries["train"].iterdir())
    for age, split in ((300, "train"), (200, "validation")):
        stamp = entries[split].stat().st_mtime - age
        os.utime(entries[split] / "meta.json", (stamp, stamp))
    _make(roomy, task, "train")  # read again: validation is now the older one
    tight = FeatureCache(tmp_path / "features", limit_bytes=int(2.5 * size))
    _make(tight, task, "test")
    assert entries["train"].exists() and not entries["validation"].exists()
    tiny = FeatureCache(tmp_path / "features", limit_bytes=1)
    kept = _make(tiny, task, "validation")  # larger than the limit: it stays, alone
    assert [path.name for path in tiny.folder.iterdir()] == [kept.folder.name]


def test_clean_removes_everything(cache: FeatureCache, task: EncodedTask) -> None:
    _make(cache, task)
    (cache.folder / ".left.123.tmp").mkdir()
    assert cache.clean() > 0
    assert list(cache.folder.iterdir()) == []
    assert FeatureCache(cache.folder / "absent", limit_bytes=0).clean() == 0


def test_two_that_make_the_same_entry_end_with_one(
    cache: FeatureCache, task: EncodedTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = features_module._Writer.finish

    def late(self: features_module._Writer) -> SplitFeatures:
        monkeypatch.setattr(features_module._Writer, "finish", finish)
        _make(cache, task)
        return finish(self)

    # another process of the same name would write elsewhere: give this one another temporary folder
    monkeypatch.setattr(os, "getpid", iter(range(10_000, 20_000)).__next__)
    monkeypatch.setattr(features_module._Writer, "finish", late)
    assert _make(cache, task).pooled(Pooling.MEAN).shape == (N_ROWS, 32)
    assert len(list(cache.folder.iterdir())) == 1
