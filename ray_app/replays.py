"""`make start REPLAY=1`: what the search would have spent and lost on every target that has results."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from analysis.report.analysis_json import finite
from analysis.start_replay import Replay, replay_start
from analysis.study import GainStudy
from ray_app.commands.console import console, points, print_table
from ray_app.config import AppConfig
from tracking.errors import ConfigError
from tracking.names import file_name
from tracking.records import write_atomically

SEED = 0
"""Seed of the draw of the pretrained model's repetitions."""


def replay_all(config: AppConfig, study: GainStudy) -> int:
    """Replay the search on every target, print it and write ``outputs/start/replay-<arch>.json``; returns the exit code.

    Raises:
        ConfigError: a budget below the first comparison, or a single target.
    """
    seeds = len(config.seeds)
    try:
        found = replay_start(study, config.start, rng=np.random.default_rng(SEED), pretrained_seeds=seeds)
    except ValueError as error:
        raise ConfigError(f"REPLAY: {error}") from error
    _print(study, found)
    path = config.out / "start" / f"replay-{file_name(study.arch)}.json"
    plain = finite(_plain(config, study, found))
    write_atomically(path, json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False).encode())
    console.print(f"written: {path}")
    return 0


def _summary(found: Replay) -> dict[str, float]:
    """Means over targets, points."""
    return {
        "runs": float(np.nanmean(found.runs)),
        "brute_force_runs": float(found.brute_force_runs),
        "best_gain": float(np.nanmean(found.best_gain)),
        "chosen_gain": float(np.nanmean(found.chosen_gain)),
        "loss": float(np.nanmean(found.loss)),
        "max_loss": float(np.nanmax(found.loss)),
        "n_over_1": float((found.loss > 1).sum()),
        "loss_of_best_tried": float(np.nanmean(found.loss_of_best_tried)),
    }


def _plain(config: AppConfig, study: GainStudy, found: Replay) -> dict[str, Any]:
    known = any(verdict is not None for verdict in found.verdicts)
    targets = [
        {
            "task": task,
            "verdict": verdict.verdict.value if verdict else None,
            "sensitive": verdict.sensitive if verdict else None,
            "chosen": verdict.chosen if verdict else None,
            "runs": found.runs[place],
            "chosen_gain": found.chosen_gain[place],
            "best_gain": found.best_gain[place],
            "loss": found.loss[place],
        }
        for place, (task, verdict) in enumerate(zip(study.tasks, found.verdicts, strict=True))
    ]
    return {
        "arch": study.arch,
        "budget": config.start.budget,
        "means": _summary(found) if known else None,
        "targets": targets,
    }


def _print(study: GainStudy, found: Replay) -> None:
    rows = []
    for place, (task, verdict) in enumerate(zip(study.tasks, found.verdicts, strict=True)):
        if verdict is None:
            rows.append([task, "no ranking without it, or no cell", "-", "-", "-", "-"])
            continue
        sensitive = {True: "yes", False: "no", None: "cannot tell"}[verdict.sensitive]
        numbers = [points(value[place], signed=True) for value in (found.chosen_gain, found.best_gain)]
        rows.append([task, verdict.verdict.value, sensitive, f"{found.runs[place]:.0f}", *numbers])
    columns = ["target", "verdict", "sensitive", "runs", "gain of the chosen", "best gain of all"]
    print_table(f"{study.arch}: every target as if it were new", columns, rows, left=3)
    if all(verdict is None for verdict in found.verdicts):
        return
    means = _summary(found)
    share = means["chosen_gain"] / means["best_gain"] if means["best_gain"] > 0 else math.nan
    console.print(
        f"{means['runs']:.1f} finetunes a target instead of {means['brute_force_runs']:.0f}; the choice gains {means['chosen_gain']:+.2f} "
        f"points, the best of all {means['best_gain']:+.2f} ({share:.0%}); lost {means['loss']:.2f} on average, "
        f"{means['max_loss']:.2f} at most, over a point on {means['n_over_1']:.0f} of {len(study.tasks)} targets"
    )
