"""What `make select` prints and writes: recall, the outcome, and the table of all targets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.report.analysis_json import finite
from ray_app.commands.console import console, points, print_table, write_csv
from ray_app.config import AppConfig
from ray_app.selection.comparison import PROXY_EPOCHS, Alternative, baseline_epochs
from ray_app.selection.live import LiveResult
from ray_app.selection.recalling import Recalled
from ray_app.selection.request import Request
from ray_app.selection.rounds import Ledger

COLUMNS = ("task", "method", "chosen", "test_score", "epochs", "speedup", "ours_minus_it", "ours_minus_it_se")
"""Columns of the comparison: scores and differences as fractions, speed-up against brute force over all base models."""


def selection_as_plain(
    config: AppConfig,
    request: Request,
    recalled: Recalled,
    ledger: Ledger,
    result: LiveResult,
    *,
    n_test: int,
    compared: Sequence[Alternative],
    notes: Sequence[str],
) -> dict[str, Any]:
    """The selection as JSON-ready values; scores as fractions."""
    method, chosen = config.method, ledger.chosen
    n_models, each = len(request.cells), method.max_epochs / method.stages
    over_all = baseline_epochs(n_models, method.stages, max_epochs=method.max_epochs)
    over_recalled = baseline_epochs(len(ledger.names), method.stages, max_epochs=method.max_epochs)
    training, proxies = each * sum(ledger.counts), PROXY_EPOCHS * len(recalled.scored)
    plain = {
        "task": request.target,
        "arch": config.arch.name,
        "policy": config.select.policy,
        "chosen": chosen,
        "test_score": ledger.finals.get(chosen, math.nan) if chosen else math.nan,
        "model": str(result.model) if result.model else None,
        "epochs_spent": training + proxies,
        "epochs_training": training,
        "epochs_proxies": proxies,
        "epochs_brute_force": over_all["brute_force"],
        "epochs_successive_halving": over_all["successive_halving"],
        "epochs_brute_force_recalled": over_recalled["brute_force"],
        "epochs_successive_halving_recalled": over_recalled["successive_halving"],
        "dropped": [{"model": d.base_model, "stage": d.stage, "reason": d.reason} for d in ledger.drops],
        "failed": [drop.base_model for drop in ledger.drops if drop.failed],
        "n_models": n_models,
        "n_test": n_test,
        "n_validation": request.n_validation,
        "n_stages": method.stages,
        "max_epochs": method.max_epochs,
        "stages_trained_now": result.n_trained,
        "alive": ledger.counts,
        "curves": {name: list(ledger.curves.get(name, ())) for name in ledger.names},
        "recall": {
            "k": config.select.k,
            "proxies": config.select.proxies,
            "variant": config.recall.variant.value,
            "scored": list(recalled.scored),
            "ranking": [
                {"model": name, "score": recalled.scores[name], "cluster": recalled.clusters[name]}
                for name in recalled.names
            ],
        },
        "benchmark_tasks": list(request.matrix.tasks),
        "left_out": request.left_out,
        "compared": [dataclasses.asdict(one) for one in compared],
        "notes": list(notes),
    }
    return dict(finite(plain))


def print_recall(
    config: AppConfig, request: Request, recalled: Recalled, kept: Sequence[str], notes: Sequence[str]
) -> None:
    """What was recalled, and on which grounds."""
    rows = [
        [name, str(place), f"{recalled.scores[name]:.4f}", str(recalled.clusters[name])]
        for place, name in enumerate(kept, start=1)
    ]
    print_table(
        f"{request.target}: {len(kept)} of {len(request.cells)} base models recalled by {', '.join(config.select.proxies)} over "
        f"{len(request.matrix.tasks)} benchmark tasks; {len(recalled.scored)} of them scored on the target",
        ["base model", "rank", "recall score", "cluster"],
        rows,
    )
    for name, reason in request.left_out.items():
        console.print(f"left out: {name}: {reason}", markup=False)
    for note in notes:
        console.print(f"note: {note}", markup=False)


def print_result(plain: dict[str, Any]) -> None:
    if plain["chosen"] is None:
        console.print(f"{plain['task']}: every candidate failed; nothing is chosen")
        return
    console.print(
        f"{plain['task']}: {plain['chosen']}, test score {points(100 * plain['test_score'])}, trained through {plain['n_stages']} "
        f"stages; model: {plain['model']}",
        markup=False,
    )
    console.print(
        f"epochs: {plain['epochs_spent']:g} ({plain['epochs_training']:g} of training, {plain['epochs_proxies']:g} for recall) "
        f"against {plain['epochs_brute_force']:g} of brute force and {plain['epochs_successive_halving']:g} of successive "
        f"halving over {plain['n_models']} base models"
    )


def comparison_rows(plains: Sequence[dict[str, Any]]) -> list[list[object]]:
    """A row per target and method: this selection first, then what others would have come to, where that is recorded."""
    rows: list[list[object]] = []
    for plain in plains:
        brute = plain["epochs_brute_force"]
        spent = plain["epochs_spent"]
        rows.append(
            [
                plain["task"],
                f"recall + {plain['policy']}",
                plain["chosen"],
                plain["test_score"],
                spent,
                brute / spent,
                None,
                None,
            ]
        )
        rows += [
            [plain["task"], one["method"], one["chosen"], one["test_score"], one["epochs"], brute / one["epochs"], one["difference"],
             one["difference_se"]]
            for one in plain["compared"]
        ]  # fmt: skip
    return rows


def write_comparison(path: Path, plains: Sequence[dict[str, Any]]) -> Path:
    """The comparison as CSV; scores as fractions."""
    return write_csv(path, COLUMNS, comparison_rows(plains))


def print_comparison(plains: Sequence[dict[str, Any]]) -> None:
    def spell(value: object, scale: float, pattern: str) -> str:
        return "-" if not isinstance(value, int | float) else format(scale * value, pattern)

    rows = [
        [str(task), str(method), str(chosen), spell(score, 100, ".2f"), spell(epochs, 1, "g"), spell(faster, 1, ".2f"),
         spell(difference, 100, "+.2f"), spell(se, 100, ".2f")]
        for task, method, chosen, score, epochs, faster, difference, se in comparison_rows(plains)
    ]  # fmt: skip
    print_table(
        "selections (test scores and differences in points; speed-up against brute force over all base models)",
        ["task", "method", "chosen", "test", "epochs", "x", "ours - it", "se"],
        rows,
        left=3,
    )
    waiting = [plain["task"] for plain in plains if not plain["compared"]]
    if waiting:
        console.print(
            f"for the other policies' rows, finetune every base model on the targets: make matrix TASKS={','.join(waiting)} with "
            "the same variables, then this command again"
        )
