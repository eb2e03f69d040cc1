"""`make tracking-sync`: upload the results that wait on disk because the tracking store was away."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ray_app.commands.console import console
from ray_app.config import AppConfig
from ray_app.sweeps.uploader import Uploader
from tracking.errors import StartlineError, TableError
from tracking.records import pending_records, read_record
from tracking.store import TrackingStore, exclusive_writer, writer_id
from tracking.table import newest_upload_ms, scored_cells, sync_table

OK, SOME_UNREADABLE = 0, 1


def run(config: AppConfig) -> int:
    """Upload what waits, of every architecture, each result once; exit code 1 where a record cannot be read.

    Raises:
        StoreError: the store is (still) away; what was not uploaded still waits.
    """
    folder = config.storage / "records"
    if not any(pending_records(folder)):
        console.print(f"no result waits in {folder}")
        return OK
    with exclusive_writer(config.out):
        waiting, unreadable = _by_architecture(folder)
        for text in unreadable:
            console.print(f"left aside: {text}")
        for arch, n_records in sorted(waiting.items()):
            console.print(f"{arch}: {n_records} waiting")
            if not config.dry:
                console.print(f"{arch}: {_upload(config, arch, folder)} uploaded")
    return SOME_UNREADABLE if unreadable else OK


def _by_architecture(folder: Path) -> tuple[dict[str, int], list[str]]:
    """How many records wait, by architecture, and what is wrong with those that cannot be read."""
    counts: dict[str, int] = {}
    faults: list[str] = []
    for path in pending_records(folder):
        try:
            arch = read_record(path).arch
        except TableError as error:
            faults.append(error.message)
        except OSError as error:
            faults.append(f"{path} cannot be read ({error.strerror})")
        else:
            counts[arch] = counts.get(arch, 0) + 1
    return counts, faults


def _upload(config: AppConfig, arch: str, folder: Path) -> int:
    """Upload the records of one architecture; returns how many runs that made (a result that is there already makes none)."""
    config = dataclasses.replace(config, arch=dataclasses.replace(config.arch, name=arch))
    store = TrackingStore(config.tracking_uri, arch, artifact_root=config.artifact_root, writer=writer_id(config.out))
    store.discard_half_written()
    table, _ = sync_table(config.tracking_uri, arch, config.table_path)
    store.know_stamp(newest_upload_ms(table))
    complete = scored_cells(table)["key"].to_pylist()
    uploader = Uploader(store, folder, complete=complete, writers=config.tracking.n_writers)
    uploader.drain(check=True)
    error: StartlineError | None = uploader.last_error
    if error is not None:
        raise error
    return uploader.uploaded
