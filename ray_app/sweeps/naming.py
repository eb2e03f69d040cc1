"""A base model by what a user calls it: a hub id, a folder, or a model that was made here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from ray_app.hub.checkpoints import ModelRef
from ray_app.hub.mirror import check_hub_id
from ray_app.sweeps.orders import Storage
from tracking.errors import InputError

OWN = "startline/"
"""Models made here: intermediate models and fused ones."""


def fused_folder(out: Path, name: str = "") -> Path:
    """Where the fused model startline/<name> is stored."""
    return (out / "fused" / name).expanduser().absolute()


def named_model(text: str, table: pa.Table, *, out: Path, storage: Storage, seeds: Sequence[int] = (0,)) -> ModelRef:
    """The base model that a user means, as the configuration names one.

    Args:
        text: ``org/name`` or ``org/name@revision`` of the hub or a mirror; ``./folder``, ``/folder``, or any path of more than two
            parts; ``startline/...`` for a model made here, as results name it.
        table: result table of the architecture, which tells intermediate models made here.
        out: output folder, which holds fused models.
        storage: where intermediate models are.
        seeds: of an intermediate model made once a seed, the one of the first of these is meant; ``name@key`` names another.

    Raises:
        ConfigError: neither a path nor a hub id.
        InputError: a model made here that is not known, or that is gone.
    """
    if text.startswith((".", "/", "~")) or text.count("/") > 1:
        folder = Path(text).expanduser().absolute()
        return ModelRef(id=_id_of(folder, out), path=str(folder))
    name, _, revision = text.partition("@")
    if not name.startswith(OWN):
        return ModelRef(id=check_hub_id(name), revision=revision or None)
    folder = fused_folder(out, name.removeprefix(OWN))
    if not folder.is_dir():
        folder = _made_here(name, revision, table, storage, seeds)
    return ModelRef(id=name, path=str(folder))


def _id_of(folder: Path, out: Path) -> str:
    """A name for a folder that results can be filed under."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "-", folder.name).strip("-")[:90] or "model"
    return f"{OWN if folder.parent == fused_folder(out) else 'local/'}{plain}"


def _made_here(name: str, key: str, table: pa.Table, storage: Storage, seeds: Sequence[int]) -> Path:
    """Folder of an intermediate model: the cells that began from it carry the key of the cell that made it."""
    rows = table.select(["base_model", "base_revision", "seed"]).to_pylist()
    own = [row for row in rows if row["base_model"] == name]
    if not own:
        known = sorted({row["base_model"] for row in rows if row["base_model"].startswith(OWN)})
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known[:8]
        raise InputError(
            f"{name} is no model made here, expected one that results name ({', '.join(near) or 'there is none yet'}); make it with "
            "make sweep and candidates.sources, or give its folder",
            model=name,
        )
    keys = list(dict.fromkeys(row["base_revision"] for row in sorted(own, key=lambda row: _place(row["seed"], seeds))))
    chosen = next((each for each in keys if each.startswith(key)), None) if key else keys[0]
    if chosen is None or not (storage.models / chosen / "config.json").is_file():
        raise InputError(
            f"{name} was made here by cell {chosen or key} and its weights are not in {storage.models}, expected them there; run the "
            "sweep that made it again, or give its folder",
            model=name,
            key=chosen or key,
        )
    return storage.models / chosen


def _place(seed: int | None, seeds: Sequence[int]) -> tuple[int, int]:
    return (seeds.index(seed) if seed in seeds else len(seeds), -1 if seed is None else seed)
