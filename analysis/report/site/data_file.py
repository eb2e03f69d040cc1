"""The numbers a ranking page computes with in the browser, as a script of one assignment (a file:// page may not fetch)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable

from scipy import stats

from analysis.report.site.content import ArchReport, ModelReport

SCALE = 10_000
"""Scores and gains are written as whole numbers of 1/10,000 point."""
QUANTILE_STEPS = 200
"""Steps in 1/df, from 0 (the normal) to 1, at which Student's quantile is tabulated; between them the page goes straight,
which is right to 0.001."""


def data_script(report: ArchReport) -> bytes:
    """``window.startlineData = {...};`` for the ranking page; every text is escaped so that no page can be left.

    Models stand in the order of ``report.models``, tasks in that of ``report.tasks``; null is no value.
    """
    models = report.models
    place = {task: index for index, task in enumerate(report.tasks)}
    several = any(cell.n_seeds > 1 for model in models for cell in model.cells)
    data = {
        "arch": report.name,
        "tasks": report.tasks,
        "groups": {label: [place[task] for task in group] for label, group in report.groups.items()},
        "scale": SCALE,
        "start": _fixed(task.mean for task in report.baseline),
        "startSeeds": [task.n_seeds for task in report.baseline],
        "sd": _fixed(task.pooled_sd for task in report.baseline),
        "df": _fixed(task.pooled_df for task in report.baseline),
        "t": _quantiles(),
        "name": [model.name for model in models],
        "standing": [model.standing.value for model in models],
        "seen": [model.saw_target for model in models],
        "probe": _fixed(model.probe for model in models),
        "rank": [model.rank for model in models],
        "rankLow": [model.rank_low for model in models],
        "rankHigh": [model.rank_high for model in models],
        "tie": [model.tie_group for model in models],
        "p": [None if math.isnan(model.p_adjusted) else float(f"{model.p_adjusted:.4g}") for model in models],
        "nTasks": [model.n_tasks for model in models],
        "gain": _fixed(model.avg_gain for model in models),
        "noise": _fixed(model.noise for model in models),
        "low": _fixed(model.low for model in models),
        "high": _fixed(model.high for model in models),
        "avg": _fixed(model.avg_score for model in models),
        "shrunken": _fixed(model.gain_shrunken for model in models),
        "scores": [_scores(model) for model in models],
        "seeds": [[cell.n_seeds for cell in model.cells] if model.n_tasks else None for model in models]
        if several
        else None,
    }
    return f"window.startlineData = {safe_json(data)};\n".encode()


def _quantiles() -> list[float]:
    """97.5 % quantile of Student's t at 1/df = 0, 1/200, ..., 1."""
    tail = [stats.t.ppf(0.975, QUANTILE_STEPS / step) for step in range(1, QUANTILE_STEPS + 1)]
    return [round(float(value), 5) for value in [stats.norm.ppf(0.975), *tail]]


def _scores(model: ModelReport) -> list[int | None] | None:
    return _fixed(cell.score for cell in model.cells) if model.n_tasks else None


def _fixed(values: Iterable[float]) -> list[int | None]:
    return [round(value * SCALE) if math.isfinite(value) else None for value in values]


def safe_json(value: object) -> str:
    """JSON in ASCII without ``<``, ``>`` and ``&``: safe as a script file, and inside a script element."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
