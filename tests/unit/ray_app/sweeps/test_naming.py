"""What a user calls a base model: paths, hub ids, models made here."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from ray_app.hub.checkpoints import ModelRef
from ray_app.sweeps.naming import fused_folder, named_model
from ray_app.sweeps.orders import Storage
from tracking.errors import ConfigError, InputError


def _table(*rows: tuple[str, str, int]) -> pa.Table:
    names, keys, seeds = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {
            "base_model": pa.array(names, pa.string()),
            "base_revision": pa.array(keys, pa.string()),
            "seed": pa.array(seeds, pa.int64()),
        }
    )


TABLE = _table(
    ("startline/tiny-sst2", "aaaa", 1), ("startline/tiny-sst2", "bbbb", 0), ("org/x", "sha256:1", 0), ("startline/tiny-rte", "cccc", 0)
)  # fmt: skip


def _named(text: str, tmp_path: Path, *, seeds: tuple[int, ...] = (0,)) -> ModelRef:
    storage = Storage(root=tmp_path / "out" / "storage")
    for key in ("aaaa", "bbbb"):
        (storage.models / key).mkdir(parents=True, exist_ok=True)
        (storage.models / key / "config.json").touch()
    return named_model(text, TABLE, out=tmp_path / "out", storage=storage, seeds=seeds)


def test_hub_ids_with_and_without_a_revision(tmp_path: Path) -> None:
    assert _named("org/name", tmp_path) == ModelRef(id="org/name")
    assert _named("name", tmp_path) == ModelRef(id="name")
    assert _named("org/name@main", tmp_path) == ModelRef(id="org/name", revision="main")


@pytest.mark.parametrize("text", ["org/..", "org/na me", "a--b", "", "@main"])
def test_what_is_neither_a_path_nor_a_hub_id_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a hub id"):
        _named(text, tmp_path)


def test_paths_get_a_name_that_results_can_be_filed_under(tmp_path: Path) -> None:
    assert _named(f"{tmp_path}/my model.v2", tmp_path) == ModelRef(
        id="local/my-model-v2", path=f"{tmp_path}/my model.v2"
    )
    assert _named("./x", tmp_path).path == str(Path.cwd() / "x")
    assert _named("some/where/x", tmp_path) == ModelRef(id="local/x", path=str(Path.cwd() / "some/where/x"))


def test_a_fused_model_by_its_name_and_by_its_folder(tmp_path: Path) -> None:
    folder = fused_folder(tmp_path / "out", "tiny-mean-1")
    folder.mkdir(parents=True)
    expected = ModelRef(id="startline/tiny-mean-1", path=str(folder))
    assert _named("startline/tiny-mean-1", tmp_path) == expected
    assert _named(str(folder), tmp_path) == expected


def test_an_intermediate_model_is_the_one_of_the_seed_or_the_key(tmp_path: Path) -> None:
    models = tmp_path / "out" / "storage" / "models"
    assert _named("startline/tiny-sst2", tmp_path) == ModelRef(id="startline/tiny-sst2", path=str(models / "bbbb"))
    assert _named("startline/tiny-sst2", tmp_path, seeds=(1,)).path == str(models / "aaaa")
    assert _named("startline/tiny-sst2@aaaa", tmp_path).path == str(models / "aaaa")


def test_a_model_made_here_that_is_not_known_or_gone(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"is no model made here, expected one that results name \(startline/tiny-sst2"
    ):
        _named("startline/tiny-sst", tmp_path)
    with pytest.raises(InputError, match=r"made here by cell cccc and its weights are not in"):
        _named("startline/tiny-rte", tmp_path)
    with pytest.raises(InputError, match=r"made here by cell dddd"):
        _named("startline/tiny-sst2@dddd", tmp_path)
