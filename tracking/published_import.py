"""Published results into MLflow: one run per published model and per repetition of the pretrained model.

Every run carries a key made of its content, so an import can be stopped anywhere and started again: what is there is left
alone, what is missing is written, what the files no longer say is deleted.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracking.cells import digest
from tracking.errors import StoreError
from tracking.published import TASKS, PublishedArchitecture, PublishedResults
from tracking.published_format import MODELS_FILE
from tracking.schema import Kind, Metric, Param, Tag, metric_name
from tracking.secrets import redact
from tracking.sqlite import pace_sqlite
from tracking.store import TAG_LIMIT, TrackingStore

RECIPE = "model-recycling"
"""Recipe by which published scores were made."""
KEY_VERSION = 1
"""Raised when the same line of a file is to become another run."""


@dataclass(frozen=True, kw_only=True)
class ImportSummary:
    """What an import did."""

    n_written: int
    """Runs written."""
    n_unchanged: int
    """Runs that were there already."""
    n_relabelled: int
    """Of the unchanged, those whose line or file digest was brought up to date."""
    n_deleted: int
    """Runs deleted because the files no longer say so (they stay in MLflow's trash)."""
    n_scores: int
    """Task and probe scores in the files."""
    wall_s: float


@dataclass(frozen=True, kw_only=True)
class PublishedRun:
    """One run that MLflow should hold."""

    key: str
    """16 hex of all it says, but not of the place where it stands."""
    name: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    place: Mapping[str, str]
    """Tags for file, its digest and line: may change while the content does not."""

    @property
    def all_tags(self) -> dict[str, str]:
        """Every tag of the run, cut to what a store takes."""
        own = {Tag.KIND: str(Kind.PUBLISHED), Tag.KEY: self.key, **self.tags, **self.place}
        return {name: text[:TAG_LIMIT] for name, text in own.items()}


def import_published(
    results: PublishedResults,
    *,
    store_uri: str,
    artifact_root: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImportSummary:
    """Bring MLflow to say what the published files say.

    Only the holder of ``tracking.store.exclusive_writer`` may call this. Architectures that ``results`` does not name are left
    alone.

    Args:
        results: as read by ``read_published``.
        store_uri: MLflow tracking URI.
        artifact_root: where experiments made here keep artifacts; None: MLflow's default.
        progress: called with (runs settled, runs in all) at the start and after each run; what it raises stops the import,
            and the next call finishes it.

    Returns:
        Counts of what was done; a second call on the same files writes nothing.

    Raises:
        StoreError: the store refused or is away; a later call goes on.

    Cost: 15 to 25 ms a written run on SQLite, 1 ms a run that is there already.
    """
    started = time.monotonic()
    pace_sqlite()
    wanted = {arch.name: published_runs(arch, results.sha256) for arch in results.architectures}
    total = sum(map(len, wanted.values()))
    done: Counter[str] = Counter()
    if progress is not None:
        progress(0, total)
    for name, runs in wanted.items():
        for event in _settle(TrackingStore(store_uri, name, artifact_root=artifact_root), runs):
            done[event] += 1
            if progress is not None and event != _DELETED:
                progress(done.total() - done[_DELETED], total)
    return ImportSummary(
        n_written=done[_WRITTEN],
        n_unchanged=done[_UNCHANGED] + done[_RELABELLED],
        n_relabelled=done[_RELABELLED],
        n_deleted=done[_DELETED],
        n_scores=sum(len(run.metrics) for runs in wanted.values() for run in runs),
        wall_s=time.monotonic() - started,
    )


_WRITTEN, _UNCHANGED, _RELABELLED, _DELETED = "written", "unchanged", "relabelled", "deleted"


def _settle(store: TrackingStore, runs: Sequence[PublishedRun]) -> Iterator[str]:
    """Make the published runs of one experiment those wanted; yields what was done, run by run.

    New runs come before deletions: stopped in between, the store says too much rather than too little.
    """
    store.discard_half_written()
    present, surplus = _present(store)
    for run in runs:
        held = present.pop(run.key, None)
        if held is None:
            now = int(time.time() * 1000)
            history = [(name, value, 0, now) for name, value in run.metrics.items()]
            store.write_run(name=run.name, tags=run.all_tags, params=run.params, history=history)
            yield _WRITTEN
        elif stale := {tag: text for tag, text in run.place.items() if held.data.tags.get(tag) != text}:
            _set_tags(store, held.info.run_id, stale)
            yield _RELABELLED
        else:
            yield _UNCHANGED
    for held in [*present.values(), *surplus]:
        with _store_errors(store):
            store.client.delete_run(held.info.run_id)
        yield _DELETED


def _present(store: TrackingStore) -> tuple[dict[str, Any], list[Any]]:
    """Whole published runs of the experiment by key, and those that say the same again or are not whole."""
    present: dict[str, Any] = {}
    surplus: list[Any] = []
    for run in _search(store, f"tags.`{Tag.KIND}` = '{Kind.PUBLISHED}'"):
        key = run.data.tags.get(Tag.KEY, "")
        if run.data.tags.get(Tag.COMPLETE) == "true" and key not in present:
            present[key] = run
        else:
            surplus.append(run)
    return present, surplus


def _search(store: TrackingStore, filter_string: str) -> Iterator[Any]:
    token: str | None = None
    while True:
        with _store_errors(store):
            page = store.client.search_runs([store.experiment_id], filter_string, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _set_tags(store: TrackingStore, run_id: str, tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    with _store_errors(store):
        store.client.log_batch(run_id, tags=[RunTag(name, text) for name, text in tags.items()])


@contextlib.contextmanager
def _store_errors(store: TrackingStore) -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        uri = redact(store.uri)
        text = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise StoreError(
            f"the tracking store {uri} failed during the import ({text}); import again, it goes on where it stopped",
            uri=uri,
        ) from error


def published_runs(arch: PublishedArchitecture, sha256: Mapping[str, str]) -> list[PublishedRun]:
    """The runs of one architecture: its models in the order of the file, then the repetitions of the pretrained model.

    Args:
        arch: as read.
        sha256: hex digest of each file, by its name.

    Returns:
        Runs with keys that differ also for lines that are equal in every cell. A task without score has no metric.
    """
    seen: Counter[str] = Counter()
    runs = []
    for place, model in enumerate(arch.models):
        metrics = _task_metrics(arch.scores[place]) | _finite({Metric.PROBE_MNLI: arch.probe[place]})
        tags = {metric_name(Tag.SOURCE_COLUMN, column): text for column, text in arch.metadata[place].items() if text}
        content = [KEY_VERSION, arch.name, model, tags, metrics]
        runs.append(
            PublishedRun(
                key=_key(content, seen),
                name=model,
                params={Param.ARCH: arch.name, Param.BASE_MODEL: model, Param.RECIPE: RECIPE},
                metrics=metrics,
                tags=tags,
                place=_place(MODELS_FILE, sha256, arch.source_rows[place]),
            )
        )
    for scores, stage, line in zip(arch.pretrained, arch.pretrained_stages, arch.pretrained_rows, strict=True):
        metrics = _task_metrics(scores)
        content = [KEY_VERSION, arch.name, "pretrained", stage, metrics]
        params = {Param.ARCH: arch.name, Param.BASE_MODEL: arch.name, Param.RECIPE: RECIPE, Param.SEED: str(stage)}
        runs.append(
            PublishedRun(
                key=_key(content, seen),
                name=f"{arch.name} (pretrained, seed {stage})",
                params=params,
                metrics=metrics,
                tags={},
                place=_place(arch.pretrained_file, sha256, line),
            )
        )
    return runs


def _task_metrics(scores: NDArray[np.float64]) -> dict[str, float]:
    return _finite({metric_name(Metric.TASK_SCORE, task): value for task, value in zip(TASKS, scores, strict=True)})


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def _place(file: str, sha256: Mapping[str, str], line: int) -> dict[str, str]:
    return {Tag.SOURCE_FILE: file, Tag.SOURCE_SHA256: sha256[file], Tag.SOURCE_ROW: str(line)}


def _key(content: list[object], seen: Counter[str]) -> str:
    """Key of a line: its content, and the how-manieth line of that content it is."""
    base = digest(content)
    seen[base] += 1
    return digest([base, seen[base]])
