"""`make discover ARCH=...`: a candidate list from the hub, with pinned revisions and a report of what was left out and why."""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import yaml

from ray_app.commands.console import console, print_table, write_csv
from ray_app.config import AppConfig
from ray_app.hub.checkpoints import Checkpoint, find_checkpoint
from ray_app.hub.client import open_hub
from ray_app.hub.search import Reference, SearchHit, read_reference, search_hub
from ray_app.sweeps.progress import spell_time
from tracking.names import file_name
from tracking.records import write_atomically

OK, NONE_FOUND = 0, 1
SHOWN = 25
"""Rows printed; the files hold all."""
COLUMNS = (
    "base_model", "revision", "status", "reason", "downloads", "last_modified", "licence", "languages", "n_parameters",
    "size_bytes", "weights_sha256",
)  # fmt: skip


def run(config: AppConfig) -> int:
    """Search, look into what is found, print and write both files; returns the exit code.

    Raises:
        UnreachableError: the hub is away, or not to be asked (OFFLINE=1).
    """
    started = time.perf_counter()
    cache = config.cache.expanduser().absolute()
    pretrained = find_checkpoint(
        config.arch.pretrained,
        mirror=config.mirror.expanduser().absolute() if config.mirror else None,
        cache_dir=cache,
        expected_model_types=config.arch.model_types,
        offline=config.offline,
        min_free_bytes=int(config.cluster.min_free_gb * 1e9),
    )
    hub = open_hub(cache)
    hub.require_online(offline=config.offline, wanted="the list of models")
    hits = []
    for hit in search_hub(hub, reference_of(pretrained, config.arch.model_types), config.discover):
        hits.append(hit)
        if len(hits) % 50 == 0:
            console.print(f"{len(hits)} looked at, {sum(not each.reason for each in hits)} candidates", highlight=False)
    paths = write_found(config, hits)
    _print(config, hits)
    kept = sum(not hit.reason for hit in hits)
    console.print(
        f"{kept} candidates of {len(hits)} models looked at in {spell_time(time.perf_counter() - started)}; written: "
        f"{paths[0]}, {paths[1]}. To use the list: cp {paths[0]} conf/candidates/, then CANDIDATES={paths[0].stem}",
        highlight=False,
    )
    return OK if kept else NONE_FOUND


def reference_of(pretrained: Checkpoint, model_types: list[str]) -> Reference:
    """The pretrained model as candidates are compared with it."""
    weights = []
    for path in sorted(pretrained.path.glob("*.safetensors")):
        with path.open("rb") as file:
            weights.append(hashlib.file_digest(file, "sha256").hexdigest())
    config = (pretrained.path / "config.json").read_bytes()
    return read_reference(pretrained.model_id, config, weights, model_types)


def write_found(config: AppConfig, hits: list[SearchHit]) -> tuple[Path, Path]:
    """Write the candidate list (YAML) and the report of everything looked at (CSV)."""
    folder, name = config.out / "discover", file_name(config.arch.name)
    rows: list[list[object]] = [
        [
            hit.model_id,
            hit.revision,
            "left out" if hit.reason else "candidate",
            hit.reason,
            hit.downloads,
            hit.last_modified,
            hit.licence,
            " ".join(hit.languages),
            hit.n_parameters,
            hit.size_bytes,
            " ".join(hit.weights),
        ]
        for hit in hits
    ]
    report = write_csv(folder / f"{name}.csv", COLUMNS, rows)
    return _write_list(config, folder / f"{list_name(config)}.yaml", hits), report


def list_name(config: AppConfig) -> str:
    """Name of the candidate list: that of the architecture, as a file."""
    return file_name(config.arch.name)


def _write_list(config: AppConfig, path: Path, hits: list[SearchHit]) -> Path:
    kept = [hit for hit in hits if not hit.reason]
    day = datetime.now(UTC).date().isoformat()
    head = (
        f"# make sweep ARCH={config.arch.name} CANDIDATES={path.stem}\n"
        f"# Source: the hub's list of {', '.join(config.arch.model_types)} models on {day}, most downloaded first, each at the commit\n"
        f"# it had then. Expected: {len(kept)} models.\n"
    )
    models = [{"id": hit.model_id, "revision": hit.revision, **_licence(hit)} for hit in kept]
    body = yaml.safe_dump(
        {"name": path.stem, "source": f"the hub on {day}", "models": models},
        sort_keys=False,
        allow_unicode=True,
        width=200,
    )
    write_atomically(path, (head + body).encode())
    return path


def _licence(hit: SearchHit) -> dict[str, str]:
    return {"licence": hit.licence} if hit.licence else {}


def _print(config: AppConfig, hits: list[SearchHit]) -> None:
    kept = [hit for hit in hits if not hit.reason]
    lines = [
        [hit.model_id, f"{hit.downloads:,}", f"{(hit.n_parameters or 0) / 1e6:.1f}", hit.last_modified, hit.licence]
        for hit in kept[:SHOWN]
    ]
    columns = ["base model", "downloads", "M parameters", "changed", "licence"]
    print_table(f"{config.arch.name}: candidates on the hub, most downloaded first", columns, lines)
    if len(kept) > SHOWN:
        console.print(f"... and {len(kept) - SHOWN} more in the files")
    kinds = Counter(_kind(hit) for hit in hits if hit.reason)
    for kind, count in kinds.most_common(12):
        console.print(f"left out: {count} x {kind}", markup=False, highlight=False)


def _kind(hit: SearchHit) -> str:
    """The reason without what is the model's own."""
    text = hit.reason.removeprefix(f"{hit.model_id}: ").removeprefix(f"{hit.model_id} ")
    if text.startswith("the same weights as"):
        return "the same weights as another"
    return re.sub(r"\d[\d,.:-]*", "n", text.partition(";")[0])[:110]
