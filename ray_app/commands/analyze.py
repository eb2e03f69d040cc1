"""`make analyze`: every analysis of "Where to start?" on the cells of an architecture, printed, drawn and stored."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.analyses import Analyses, Extras, analyse
from analysis.report.analysis_json import analyses_as_plain
from analysis.report.figure_style import store_figure, styled
from analysis.report.figures import DrawnFigure, draw_figures
from analysis.report.gain_figures import draw_probe_fit
from analysis.report.paper_sets import PAPER_SETS, analyse_paper_set, paper_set_as_plain
from analysis.study import SETS
from ray_app.commands.analysis_console import print_analyses, print_paper_set
from ray_app.commands.console import console, write_results
from ray_app.config import AppConfig, nearest
from ray_app.studies import load_study, other_studies, studies_by_target_size
from tracking.cells import digest
from tracking.errors import ConfigError, StorageError, StoreError
from tracking.names import file_name
from tracking.records import write_atomically
from tracking.schema import Kind, Metric, Param, Tag, metric_name
from tracking.store import TrackingStore, exclusive_writer, writer_id

SEED = 0
"""Seed of shuffles, folds and bootstraps, so that the same cells give the same numbers."""


def run(config: AppConfig) -> int:
    """Analyse, print, write JSON, tables and figures, and an MLflow run; returns the exit code.

    Raises:
        ConfigError: a set, or a list of base models, that there is not.
        TableError: nothing at all to analyse.
    """
    subset = config.subset
    if subset is not None and subset not in (*SETS, *PAPER_SETS):
        raise ConfigError(f"SET: there is no {subset!r}{nearest(subset, (*SETS, *PAPER_SETS))}")
    if subset in PAPER_SETS:
        return _run_paper_set(config, str(subset))
    loaded = load_study(config, subset=subset)
    for fault in loaded.faults:
        console.print(f"note: {fault}")
    extras = Extras(
        by_target_size=studies_by_target_size(config, loaded, subset=subset),
        others=other_studies(config, config.against, subset=subset),
        contrast=config.contrast,
    )
    try:
        analyses = analyse(loaded.study, rng=np.random.default_rng(SEED), extras=extras)
    except ValueError as error:
        raise ConfigError(f"contrast: {error}") from error
    stem = _stem(config)
    figures = _draw(analyses, extras, stem)
    plain = analyses_as_plain(analyses, name=subset) | {"figures": _figures_as_plain(figures)}
    files = [_write_json(stem, plain), *write_results(_beside(stem, "models"), models_table(analyses))]
    files += write_results(_beside(stem, "gains"), gains_table(analyses))
    print_analyses(analyses, figures)
    console.print(f"written: {', '.join(str(path) for path in files)}; figures beside them")
    _store(config, plain, [files[0], *(path for figure in figures for path in figure.files)])
    return 0


def _stem(config: AppConfig) -> Path:
    name = file_name(config.arch.name) + (f"-{config.subset}" if config.subset else "")
    return config.out / "analyze" / name


def _beside(stem: Path, name: str) -> Path:
    return stem.with_name(f"{stem.name}-{name}")


def _write_json(stem: Path, plain: Mapping[str, Any]) -> Path:
    path = stem.with_name(stem.name + ".json")
    write_atomically(path, json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False).encode())
    return path


def _draw(analyses: Analyses, extras: Extras, stem: Path) -> tuple[DrawnFigure, ...]:
    try:
        return draw_figures(analyses, extras, stem.parent, stem=stem.name)
    except OSError as error:
        raise StorageError(
            f"cannot write figures to {stem.parent} ({error.strerror or error}); free space or choose OUT=dir",
            path=str(stem),
        ) from error


def _figures_as_plain(figures: tuple[DrawnFigure, ...]) -> dict[str, Any]:
    return {each.name: {"files": [path.name for path in each.files], "reason": each.reason} for each in figures}


def models_table(analyses: Analyses) -> pa.Table:
    """A row per base model: what it was made of, its average and probe gain, and b_i of the regression; points."""
    study, model = analyses.study, analyses.interaction.intervals
    effect = {"base_effect": model.model.base_effect, "base_low": model.base_low, "base_high": model.base_high}
    sizes = [origin.train_size if origin else np.nan for origin in study.origins]
    return pa.table(
        {
            "base_model": pa.array(study.bases, pa.string()),
            "family": pa.array(study.families, pa.string()),
            "source_task": pa.array(study.source_tasks, pa.string()),
            "source_group": pa.array(study.source_groups, pa.string()),
            "source_size": pa.array(np.array(sizes, dtype=np.float64), from_pandas=True),
            "avg_gain": pa.array(study.average, from_pandas=True),
            "probe_gain": pa.array(study.probe, from_pandas=True),
            **{name: pa.array(values, from_pandas=True) for name, values in effect.items()},
        }
    )


def gains_table(analyses: Analyses) -> pa.Table:
    """A row per cell of the gain matrix: gain and its standard error in points, and whether it is beyond noise."""
    study, marks = analyses.study, analyses.beyond_noise
    rows, columns = np.nonzero(np.isfinite(study.gain))
    verdict = np.where(marks.better, "better", np.where(marks.worse, "worse", np.where(marks.undecided, "unknown", "")))
    return pa.table(
        {
            "base_model": pa.array([study.bases[row] for row in rows], pa.string()),
            "task": pa.array([study.tasks[column] for column in columns], pa.string()),
            "gain": pa.array(study.gain[rows, columns]),
            "gain_se": pa.array(marks.std[rows, columns], from_pandas=True),
            "beyond_noise": pa.array(verdict[rows, columns].tolist(), pa.string()),
        }
    )


def _numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every number of nested mappings with its dotted path."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _numbers(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)


def _store(config: AppConfig, plain: dict[str, Any], files: list[Path]) -> None:
    """One MLflow run per set, replaced when its numbers change."""
    name = config.subset or "all"
    key = f"{name}:{digest({part: value for part, value in plain.items() if part != 'figures'})}"
    try:
        with exclusive_writer(config.out):
            store = TrackingStore(
                config.tracking_uri, config.arch.name, artifact_root=config.artifact_root, writer=writer_id(config.out)
            )
            present = store.summary_keys(Kind.ANALYSIS)
            for other, run_id in present.items():
                if other != key and other.startswith(f"{name}:"):
                    store.client.delete_run(run_id)
            if key in present:
                return
            now = int(time.time() * 1000)
            store.write_run(
                name=f"analysis {name}",
                tags={Tag.KIND: Kind.ANALYSIS, Tag.KEY: key},
                params={Param.ARCH: config.arch.name, Param.SETTINGS: str(plain.get("settings", "")), Param.SET: name},
                history=[(metric_name(Metric.ANALYSIS, path), value, 0, now) for path, value in _numbers(plain)],
                files=files,
            )
    except StoreError as error:
        console.print(f"note: analysis not written to MLflow: {error.message}")


def _run_paper_set(config: AppConfig, name: str) -> int:
    found = analyse_paper_set(name)
    if config.arch.name != found.table.arch:
        raise ConfigError(
            f"SET: {name} is about {found.table.arch}, not {config.arch.name}; add ARCH={found.table.arch}"
        )
    stem = _stem(config)
    with styled():
        figure = draw_probe_fit(found.study, found.probe, found.influence, printed=found.table.printed_line)
        if isinstance(figure, str):
            drawn = DrawnFigure(name="probe", reason=figure)
        else:
            drawn = DrawnFigure(name="probe", files=store_figure(figure, _beside(stem, "probe")))
    plain = paper_set_as_plain(found) | {"figures": _figures_as_plain((drawn,))}
    path = _write_json(stem, plain)
    print_paper_set(found)
    console.print(f"written: {path}")
    _store(config, plain, [path, *drawn.files])
    return 0
