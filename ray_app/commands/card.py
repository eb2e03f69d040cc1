"""`make card MODEL=... ARCH=...`: what a model card says of a base model, and the same in the hub's formats."""

from __future__ import annotations

import difflib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from analysis.report.card import METRIC_NAME, CardResult, TaskSource, card_results, card_section, page_address, refusal
from analysis.report.site import ArchReport, ModelReport
from ray_app.commands.console import console
from ray_app.commands.report import assess_report, read_cells, require_store, startline_version
from ray_app.config import CONF, AppConfig
from ray_app.hub.task_yaml import read_task_configs
from ray_app.hub.tasks import Metric
from tracking.errors import ConfigError, InputError
from tracking.names import marked_stem
from tracking.records import write_atomically

SECTION_FILE, INDEX_FILE, ABOUT_FILE = "section.md", "model-index.yaml", "about.json"


@dataclass(frozen=True, kw_only=True)
class Card:
    """A base model's card, ready to be written or sent."""

    model: str
    arch: str
    stem: str
    section: str
    """Markdown."""
    index: list[dict[str, Any]]
    """Value of ``model-index`` in the card's metadata."""
    eval_results: list[dict[str, Any]]
    """Content of the ``.eval_results`` file; empty where no task is a data set on the hub."""
    eval_file: str
    """Its path in the repository."""


def run(config: AppConfig) -> int:
    """Write the card's files; returns the exit code.

    Raises:
        ConfigError: MODEL is not given.
        InputError: the architecture has no such model, or nothing can be said of it.
    """
    card = make_card(config)
    folder = write_card(card, config.out / "card")
    n_tasks = len(card.index[0]["results"]) - 1
    console.print(
        f"{card.model} ({card.arch}): {n_tasks} tasks, {len(card.eval_results)} of them data sets on the hub",
        markup=False,
    )
    console.print(
        f"written: {folder / SECTION_FILE}, {folder / INDEX_FILE}"
        + (f", {folder / card.eval_file}" if card.eval_results else "")
    )
    console.print(
        f"next: make publish ARCH={card.arch} MODEL={card.model} shows the pull request that these would make"
    )
    return 0


def make_card(config: AppConfig, *, as_of: date | None = None) -> Card:
    """The card of ``config.model`` from what is in MLflow.

    Raises:
        ConfigError: MODEL is not given.
        InputError: the architecture has no such model, or nothing can be said of it.
    """
    if config.model is None:
        raise ConfigError("MODEL: not given; name a base model of the ranking, MODEL=org/name")
    require_store(config)
    table = read_cells(config, config.arch.name)
    report = assess_report(config, config.arch.name, table)
    model = find_model(report, config.model)
    reason = refusal(model)
    if reason:
        raise InputError(f"no card for {model.name}: {reason}", model=model.name)
    site = (config.site or "").rstrip("/")
    day = as_of or date.today()
    results = card_results(report, model, sources=task_sources(table, model))
    address = page_address(report, model, site) if site else ""
    return Card(
        model=model.name,
        arch=report.name,
        stem=model.stem,
        section=card_section(report, model, as_of=day, version=startline_version(), site=site),
        index=model_index(report, model, results, address=address),
        eval_results=eval_results(results, day=day, address=address),
        eval_file=f".eval_results/startline-{report.stem}.yaml",
    )


def find_model(report: ArchReport, name: str) -> ModelReport:
    """A model by its name.

    Raises:
        InputError: there is none of that name; the nearest are named.
    """
    for model in report.models:
        if model.name == name:
            return model
    names = [model.name for model in report.models]
    holding = [known for known in names if name.lower() in known.lower()]
    near = holding[:3] or difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names[:3]
    raise InputError(
        f"{report.name} has no base model {name!r} among {len(names)}; nearest: {', '.join(near) or 'none'}", model=name
    )


def task_sources(table: pa.Table, model: ModelReport) -> dict[str, TaskSource]:
    """Data set, configuration, metric and revision of each task, as its YAML and the model's own cells state them."""
    own = table.filter(pc.equal(table["base_model"], model.name))
    revisions = dict(zip(own["task"].to_pylist(), own["task_revision"].to_pylist(), strict=True))
    metrics = dict(zip(own["task"].to_pylist(), own["metric"].to_pylist(), strict=True))
    tasks = read_task_configs(CONF / "task")
    found = {}
    for cell in model.cells:
        task = tasks.get(cell.task)
        stated = metrics.get(cell.task) or (task.metric.value if task else Metric.ACCURACY.value)
        found[cell.task] = TaskSource(
            dataset=(task.hub_id or "") if task else "",
            config=(task.config or "") if task else "",
            metric=stated,
            revision=revisions.get(cell.task) or "",
        )
    return found


def model_index(
    report: ArchReport, model: ModelReport, results: list[CardResult], *, address: str
) -> list[dict[str, Any]]:
    """``model-index`` metadata: the average first, then a result a task; scores are fractions, gains points."""
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    source: dict[str, Any] = {"source_name": "Startline", "source_url": address} if address else {}
    average = EvalResult(
        task_type="text-classification",
        task_name="finetuning on many tasks",
        dataset_type="startline",
        dataset_name=f"{model.n_tasks} target tasks",
        metric_type="accuracy",
        metric_name=f"average score {METRIC_NAME}",
        metric_value=round(model.avg_score / 100, 6),
        metric_args=_gain(model.avg_gain, model.low, model.high) | {"rank": model.rank, "ranked": len(report.ranked)},
        **source,
    )
    parts = dataset_parts(results)
    rows = [
        EvalResult(
            task_type="sentence-similarity" if result.source.metric == Metric.SPEARMAN.value else "text-classification",
            dataset_type=result.source.dataset or f"startline/{result.task}",
            dataset_name=result.task,
            dataset_config=parts[result.task] or None,
            dataset_revision=_commit(result.source.revision),
            metric_type="spearmanr" if result.source.metric == Metric.SPEARMAN.value else "accuracy",
            metric_name=f"{result.source.metric} {METRIC_NAME}",
            metric_value=round(result.score, 6),
            metric_args=_gain(result.gain, result.low, result.high) | {"seeds": result.n_seeds},
            **source,
        )
        for result in results
    ]
    return eval_results_to_model_index(model.name, [average, *rows])


def dataset_parts(results: list[CardResult]) -> dict[str, str]:
    """Which part of its data set a task is: the configuration; the task's own name where several tasks share one
    (trec_coarse and trec_fine are two labels of the same rows)."""
    places = Counter((result.source.dataset, result.source.config) for result in results)
    return {
        result.task: result.source.config if places[result.source.dataset, result.source.config] == 1 else result.task
        for result in results
    }


def _gain(gain: float, low: float, high: float) -> dict[str, Any]:
    known = not (math.isnan(low) or math.isnan(high))
    return {"gain_points": round(gain, 3)} | ({"gain_95": [round(low, 3), round(high, 3)]} if known else {})


def _commit(revision: str) -> str | None:
    return revision if len(revision) == 40 and all(sign in "0123456789abcdef" for sign in revision) else None


def eval_results(results: list[CardResult], *, day: date, address: str) -> list[dict[str, Any]]:
    """Entries of a ``.eval_results`` file, for the tasks that are data sets on the hub; values are fractions.

    Source: hub-docs, "Evaluation Results", by huggingface_hub's own ``EvalResultEntry``.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    parts = dataset_parts(results)
    entries = [
        EvalResultEntry(
            dataset_id=result.source.dataset,
            task_id=parts[result.task] or "default",
            value=round(result.score, 6),
            dataset_revision=_commit(result.source.revision),
            date=day.isoformat(),
            source_url=address or None,
            source_name="Startline" if address else None,
            notes=result.notes,
        )
        for result in results
        if result.source.dataset
    ]
    return eval_result_entries_to_yaml(entries)


def as_yaml(value: object) -> str:
    """YAML in the order given, nothing folded."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000)


def write_card(card: Card, folder: Path) -> Path:
    """Write the card's files to a folder of its own under ``folder``; returns that folder.

    Raises:
        StorageError: disk full or folder unwritable.
    """
    place = folder / card.stem
    about = place / ABOUT_FILE
    identity = {"model": card.model, "architecture": card.arch}
    if about.exists() and _read(about) != identity:
        place = folder / marked_stem(f"{card.arch} {card.model}")
    write_atomically(place / SECTION_FILE, card.section.encode())
    write_atomically(place / INDEX_FILE, as_yaml({"model-index": card.index}).encode())
    if card.eval_results:
        write_atomically(place / card.eval_file, as_yaml(card.eval_results).encode())
    write_atomically(place / ABOUT_FILE, json.dumps(identity).encode())
    return place


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
