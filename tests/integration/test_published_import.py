"""Importing published results into a real MLflow store: idempotent, resumable, exact."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.published_folder import TASKS, model_line, write_models, write_pretrained
from tracking.published import PublishedResults, read_published
from tracking.published_import import import_published
from tracking.schema import Kind, Metric, Param, Tag, experiment_name
from tracking.store import TrackingStore, open_client

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT.parent / "shared" / "published" / "model-recycling"
ARCH = "acme/tiny-1"


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables made, which takes seconds."""
    path = tmp_path_factory.mktemp("store") / "empty.db"
    open_client(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
def uri(empty_store: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    folder.mkdir()
    write_models(folder, lines())
    write_pretrained(folder, [0.1 + 0.2, {task: 1 / 3 for task in TASKS} | {"stsb": None}])
    return folder


def lines() -> list[dict]:
    """Scores that no short decimal gives; one repeated line; one model without any score."""
    rng = np.random.default_rng(7)
    made = [
        model_line(f"m/{place}", float(rng.random()), dict(zip(TASKS, rng.random(36).tolist(), strict=True)))
        for place in range(3)
    ]
    return [*made, made[0], model_line("m/none", None, None)]


def runs(uri: str, *, deleted: bool = False) -> list[Any]:
    from mlflow.entities import ViewType

    client = open_client(uri)
    experiment = client.get_experiment_by_name(experiment_name(ARCH))
    assert experiment is not None
    view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    found = list(client.search_runs([experiment.experiment_id], run_view_type=view))
    for run in found:
        run.data.metrics.pop(Metric.UPLOADED_MS, None)  # a time
    return found


def said(uri: str) -> dict[str, Any]:
    """All that the store says of published runs, but for run ids and times."""
    found = runs(uri)
    assert len({run.data.tags[Tag.KEY] for run in found}) == len(found)
    assert all(run.data.tags[Tag.COMPLETE] == "true" and run.info.status == "FINISHED" for run in found)
    ours = {run.data.tags[Tag.KEY]: run for run in found}
    return {
        key: (run.info.run_name, run.data.params, run.data.metrics, tags_of(run)) for key, run in sorted(ours.items())
    }


def tags_of(run: Any) -> dict[str, str]:
    return {name: text for name, text in run.data.tags.items() if name.startswith("startline.")}


def test_import_is_exact_and_says_where_it_comes_from(folder: Path, uri: str) -> None:
    results = read_published(folder)
    summary = import_published(results, store_uri=uri)
    assert (summary.n_written, summary.n_unchanged, summary.n_deleted) == (7, 0, 0)
    assert summary.n_scores == 4 * 37 + 0 + 36 + 35
    (arch,) = results.architectures
    by_row = {(run.data.tags[Tag.SOURCE_FILE], int(run.data.tags[Tag.SOURCE_ROW])): run for run in runs(uri)}
    assert len(by_row) == 7
    for place, line in enumerate(arch.source_rows):
        run = by_row["models_tested.csv", line]
        expected = {f"{Metric.TASK_SCORE}{task}": score for task, score in zip(TASKS, arch.scores[place], strict=True)}
        expected[Metric.PROBE_MNLI] = arch.probe[place]
        assert run.data.metrics == {name: value for name, value in expected.items() if not np.isnan(value)}
        assert run.data.params[Param.BASE_MODEL] == arch.models[place]
        assert run.data.params[Param.ARCH] == ARCH
        assert run.data.tags[Tag.KIND] == Kind.PUBLISHED
        assert run.data.tags[Tag.SOURCE_SHA256] == results.sha256["models_tested.csv"]
        assert run.data.tags[f"{Tag.SOURCE_COLUMN}tokenizer"] == "acme/tok"
    pretrained = by_row["models_results_acme_tiny_1_pretrain.csv", 38]
    assert pretrained.data.params[Param.BASE_MODEL] == ARCH
    assert pretrained.data.params[Param.SEED] == "1"
    assert pretrained.data.metrics == {f"{Metric.TASK_SCORE}{task}": 1 / 3 for task in TASKS if task != "stsb"}


def test_a_second_import_writes_nothing(folder: Path, uri: str) -> None:
    import_published(read_published(folder), store_uri=uri)
    before = {run.info.run_id: run.to_dictionary() for run in runs(uri)}
    again = import_published(read_published(folder), store_uri=uri)
    assert (again.n_written, again.n_unchanged, again.n_relabelled, again.n_deleted) == (0, 7, 0, 0)
    assert {run.info.run_id: run.to_dictionary() for run in runs(uri)} == before


class StoppedError(Exception):
    """Thrown by a progress callback."""


@pytest.mark.parametrize("stop_at", [0, 1, 5, 7])
def test_an_import_stopped_anywhere_is_finished_by_the_next(
    folder: Path, uri: str, tmp_path: Path, empty_store: Path, stop_at: int
) -> None:
    def stop(done: int, total: int) -> None:
        assert total == 7
        if done == stop_at:
            raise StoppedError

    with pytest.raises(StoppedError):
        import_published(read_published(folder), store_uri=uri, progress=stop)
    finished = import_published(read_published(folder), store_uri=uri)
    assert (finished.n_written, finished.n_unchanged) == (7 - stop_at, stop_at)
    undisturbed = f"sqlite:///{shutil.copy(empty_store, tmp_path / 'undisturbed.db')}"
    import_published(read_published(folder), store_uri=undisturbed)
    assert said(uri) == said(undisturbed)


def test_a_half_written_run_is_redone(folder: Path, uri: str) -> None:
    import_published(read_published(folder), store_uri=uri)
    expected = said(uri)
    store = TrackingStore(uri, ARCH)
    victim = runs(uri)[0]
    store.client.delete_run(victim.info.run_id)
    store.client.create_run(store.experiment_id, tags={Tag.KIND: Kind.PUBLISHED, Tag.KEY: victim.data.tags[Tag.KEY]})
    summary = import_published(read_published(folder), store_uri=uri)
    assert (summary.n_written, summary.n_unchanged) == (1, 6)
    assert said(uri) == expected


def test_a_killed_import_is_finished_by_the_next(folder: Path, uri: str, tmp_path: Path, empty_store: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tracking.published import read_published\n"
        "from tracking.published_import import import_published\n"
        "kill = lambda done, total: done == 3 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "import_published(read_published(Path(sys.argv[1])), store_uri=sys.argv[2], progress=kill)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run([sys.executable, "-c", code, str(folder), uri], env=environment, cwd=ROOT, timeout=120)
    assert done.returncode == -signal.SIGKILL
    summary = import_published(read_published(folder), store_uri=uri)
    assert (summary.n_written, summary.n_unchanged) == (4, 3)
    undisturbed = f"sqlite:///{shutil.copy(empty_store, tmp_path / 'undisturbed.db')}"
    import_published(read_published(folder), store_uri=undisturbed)
    assert said(uri) == said(undisturbed)


def test_changed_rows_come_as_new_and_the_old_ones_go(
    folder: Path, uri: str, tmp_path: Path, empty_store: Path
) -> None:
    import_published(read_published(folder), store_uri=uri)
    changed = lines()
    changed[1]["rte"] = 0.125
    del changed[2]
    write_models(folder, [model_line("m/new", 0.5, 0.5), *changed])
    summary = import_published(read_published(folder), store_uri=uri)
    # new: m/new and the changed m/1; old: m/1 as it was and m/2; the other three models moved a line and have a new digest
    assert (summary.n_written, summary.n_deleted, summary.n_relabelled, summary.n_unchanged) == (2, 2, 3, 5)
    assert len(runs(uri, deleted=True)) == 2
    fresh = f"sqlite:///{shutil.copy(empty_store, tmp_path / 'fresh.db')}"
    import_published(read_published(folder), store_uri=fresh)
    assert said(uri) == said(fresh)


def test_other_architectures_are_left_alone(folder: Path, uri: str, tmp_path: Path) -> None:
    import_published(read_published(folder), store_uri=uri)
    before = said(uri)
    other = tmp_path / "other"
    other.mkdir()
    write_models(other, [model_line("x/y", 0.5, 0.5, arch="other")])
    write_pretrained(other, [0.5, 0.5], arch="other")
    import_published(read_published(other), store_uri=uri)
    assert said(uri) == before


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published results are not beside this repository")
def test_the_four_published_architectures_in_two_minutes(uri: str) -> None:
    results: PublishedResults = read_published(PUBLISHED)
    told: list[int] = []
    summary = import_published(results, store_uri=uri, progress=lambda done, total: told.append(done))
    assert summary.n_written == 2037 + 4 * 20
    assert told == list(range(summary.n_written + 1))
    assert summary.wall_s < 120
    assert import_published(results, store_uri=uri).n_written == 0
