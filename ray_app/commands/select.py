"""`make select TASK=...`: recall candidates for a target, train them stage by stage, drop the worse, keep the best model."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.report.analysis_json import finite
from analysis.selection.knowledge import Knowledge, RoundRules
from analysis.selection.policies import POLICIES
from ray_app.commands.console import console, points, print_table, write_csv
from ray_app.commands.proxies import FEW, proxy_study, score_candidates
from ray_app.config import AppConfig, known_names, nearest
from ray_app.selection.comparison import PROXY_EPOCHS, Alternative, baseline_epochs, compare
from ray_app.selection.live import LiveResult, LiveSelection
from ray_app.selection.matrix import RecordedCell, recorded_cells
from ray_app.selection.recalling import Recalled, recall_candidates
from ray_app.selection.request import Request, make_request
from ray_app.selection.rounds import Ledger, LiveRounds, StoppedLedger
from ray_app.selection.settings import ASHA, staged, unknown_names
from ray_app.sweeps.runner import set_ray_environment
from ray_app.sweeps.session import SweepSession, check_folder
from tracking.cells import digest
from tracking.errors import ConfigError
from tracking.records import write_atomically
from tracking.schema import Kind, Metric, Param, Tag
from tracking.store import exclusive_writer

OK, SOME_FAILED, INFRASTRUCTURE, INTERRUPTED = 0, 1, 3, 130
FEW_ROWS = 100
"""Validation rows below which a stage's scores are told to be coarse."""


def run(config: AppConfig) -> int:
    """Select for every target, compare with what is recorded; returns the exit code.

    Raises:
        ConfigError: no target, an unknown one, or an unknown policy or score.
        TableError: no matrix to recall from.
    """
    targets = _targets(config)
    check_folder(config.out, min_free_bytes=int(config.cluster.min_free_gb * 1e9))
    with exclusive_writer(config.out):
        return _Selections(staged(config)).run(targets)


def _targets(config: AppConfig) -> list[str]:
    named = [part.strip() for part in (config.task or "").split(",") if part.strip()] or config.select.targets
    if not named:
        raise ConfigError("TASK: not given; name the new target, a YAML under conf/task (or several, with commas)")
    known = known_names("task")
    faults = [f"TASK: there is no task {name!r}{nearest(name, known)}" for name in named if name not in known]
    faults += unknown_names(config.select)
    if faults:
        raise ConfigError(faults)
    return list(dict.fromkeys(named))


class _Selections:
    """One invocation: a selection a target, one cluster for all of them."""

    def __init__(self, config: AppConfig) -> None:
        self.config = config
        self.session = SweepSession(config, console=console)
        self._stack = contextlib.ExitStack()

    def run(self, targets: Sequence[str]) -> int:
        """Every target; an interruption ends the rest too."""
        set_ray_environment(self.config.cluster)
        self.session.open()
        requests = [make_request(self.session, target) for target in targets]
        codes: list[int] = []
        plains: list[dict[str, Any]] = []
        with self._stack:
            for request in requests:
                code, plain = self._select(request)
                codes.append(code)
                plains += [plain] if plain else []
                if code == INTERRUPTED:
                    break
        if plains and not self.config.dry:
            _print_comparison(plains)
            path = write_comparison(self.config.out / "select" / "comparison.csv", plains)
            console.print(f"written: {path}")
        return max(codes)

    def _bring_up(self) -> None:
        if not self.session.up:
            self._stack.enter_context(self.session.cluster())

    def _select(self, request: Request) -> tuple[int, dict[str, Any] | None]:
        """Exit code and result of one target; no result where it is not finished."""
        began_ms, target = int(time.time() * 1000), request.target
        recalled = self._recall(request)
        kept = recalled.names[: self.config.select.k]
        notes = [*request.notes, *recalled.notes, *self._warnings(request, kept)]
        _print_recall(self.config, request, recalled, kept, notes)
        if self.config.dry:
            return OK, None
        ledger = self._ledger(request, kept)
        live = LiveSelection(
            self.session,
            {name: request.cells[name] for name in kept},
            ledger,
            study=request.study,
            bring_up=self._bring_up,
            say=lambda text: console.print(text, markup=False),
        )
        result = live.run()
        if not result.finished:
            console.print(f"{target}: not finished; run the same command again to go on")
            return (INTERRUPTED if result.interrupted else SOME_FAILED), None
        plain = self._plain(request, recalled, ledger, result, notes)
        path = self.config.out / "select" / self._file(target)
        write_atomically(path, json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False).encode())
        _print_result(plain)
        console.print(f"written: {path}")
        return self._close(plain, path, ledger, began_ms), plain

    def _file(self, target: str) -> str:
        """The default policy has the target's own file; what it is compared with has files beside it."""
        policy = self.config.select.policy
        return f"{target}.json" if policy == "fine_selection" else f"{target}.{policy}.json"

    def _recall(self, request: Request) -> Recalled:
        models = self.session.storage.models
        gone = [cell for cell in request.sources if not (models / cell.key / "config.json").exists()]
        if gone and not self.config.dry:
            console.print(f"{len(gone)} candidates are made first: their models are not there any more")
            self._bring_up()
            self.session.run(gone)
        if len(request.cells) > FEW:
            self._bring_up()
        study = proxy_study(self.session, [request.target])

        def score(names: Sequence[str]) -> dict[str, float]:
            proxy = self.config.select.proxy
            found = score_candidates(self.session, study, {}, only=names, names=(proxy,))[request.target].scores
            return {one.base_model: one.values.get(proxy, math.nan) for one in found}

        return recall_candidates(request.matrix, score, proxy=self.config.select.proxy)

    def _warnings(self, request: Request, kept: Sequence[str]) -> list[str]:
        k, n = self.config.select.k, request.n_validation
        found = [f"K is {k}, there are {len(kept)} candidates: all are trained"] if len(kept) < k else []
        if n < FEW_ROWS:
            found.append(
                f"the validation set has {n} rows, one of them is {100 / n:.1f} points: candidates within a few of these are not "
                "told apart"
            )
        return found

    def _knowledge(self, request: Request) -> Knowledge:
        return Knowledge(record=request.matrix, n_validation=request.n_validation)

    def _ledger(self, request: Request, kept: tuple[str, ...]) -> Ledger:
        n_stages, policy = self.config.method.stages, self.config.select.policy
        if policy == ASHA:
            return StoppedLedger(names=kept, n_stages=n_stages)
        return LiveRounds(
            names=kept, n_stages=n_stages, policy=POLICIES[policy](RoundRules(), self._knowledge(request))
        )

    def _plain(
        self, request: Request, recalled: Recalled, ledger: Ledger, result: LiveResult, notes: Sequence[str]
    ) -> dict[str, Any]:
        """The selection as JSON-ready values; scores as fractions."""
        method, chosen = self.config.method, ledger.chosen
        each = method.max_epochs / method.stages
        recorded = recorded_cells(request.cells.values(), self.session.sync())
        mine = recorded.get(request.cells[chosen].key) if chosen else None
        n_models = len(request.cells)
        baselines = baseline_epochs(n_models, method.stages, max_epochs=method.max_epochs)
        among = baseline_epochs(len(ledger.names), method.stages, max_epochs=method.max_epochs)
        training, proxies = each * sum(ledger.counts), PROXY_EPOCHS * len(recalled.scored)
        plain = {
            "task": request.target,
            "arch": self.config.arch.name,
            "policy": self.config.select.policy,
            "chosen": chosen,
            "test_score": ledger.finals.get(chosen, math.nan) if chosen else math.nan,
            "model": str(result.model) if result.model else None,
            "epochs_spent": training + proxies,
            "epochs_training": training,
            "epochs_proxies": proxies,
            "epochs_brute_force": baselines["brute_force"],
            "epochs_successive_halving": baselines["successive_halving"],
            "epochs_brute_force_recalled": among["brute_force"],
            "epochs_successive_halving_recalled": among["successive_halving"],
            "dropped": [{"model": d.base_model, "stage": d.stage, "reason": d.reason} for d in ledger.drops],
            "failed": [drop.base_model for drop in ledger.drops if drop.failed],
            "n_models": n_models,
            "n_test": mine.n_test if mine else 0,
            "n_validation": request.n_validation,
            "n_stages": method.stages,
            "max_epochs": method.max_epochs,
            "stages_trained_now": result.n_trained,
            "alive": ledger.counts,
            "curves": {name: list(ledger.curves.get(name, ())) for name in ledger.names},
            "recall": {
                "k": self.config.select.k,
                "proxy": self.config.select.proxy,
                "scored": list(recalled.scored),
                "ranking": [
                    {"model": name, "score": recalled.scores[name], "cluster": recalled.clusters[name]}
                    for name in recalled.names
                ],
            },
            "benchmark_tasks": list(request.matrix.tasks),
            "left_out": request.left_out,
            "compared": [dataclasses.asdict(one) for one in self._compared(request, recalled, recorded, mine)],
            "notes": list(notes),
        }
        return dict(finite(plain))

    def _compared(
        self,
        request: Request,
        recalled: Recalled,
        recorded: dict[str, RecordedCell],
        mine: RecordedCell | None,
    ) -> list[Alternative]:
        """What other policies would have come to; empty until every candidate is recorded on the target."""
        cells = {name: recorded.get(request.cells[name].key) for name in recalled.names}
        whole = {name: cell for name, cell in cells.items() if cell is not None}
        if mine is None or len(whole) < len(cells):
            return []
        method = self.config.method
        return compare(
            whole,
            mine,
            policies=tuple(POLICIES),
            known=self._knowledge(request),
            rules=RoundRules(),
            n_stages=method.stages,
            max_epochs=method.max_epochs,
        )

    def _close(self, plain: dict[str, Any], path: Path, ledger: Ledger, began_ms: int) -> int:
        """Write the selection's own MLflow run, once for the same outcome; returns the exit code."""
        session = self.session
        session.uploader.wait()
        key = digest([plain[name] for name in ("task", "policy", "chosen", "curves", "benchmark_tasks")])
        if session.uploader.last_error is None and key not in session.store.summary_keys(Kind.SELECTION):
            numbers = {
                Metric.SCORE: plain["test_score"],
                Metric.EPOCHS_SPENT: plain["epochs_spent"],
                Metric.EPOCHS_BRUTE_FORCE: plain["epochs_brute_force"],
                Metric.EPOCHS_SUCCESSIVE_HALVING: plain["epochs_successive_halving"],
                Metric.N_CANDIDATES: plain["n_models"],
            }
            now = int(time.time() * 1000)
            session.store.write_run(
                name=f"select {plain['task']} by {plain['policy']}",
                tags={**session.tags, Tag.KIND: Kind.SELECTION, Tag.SWEEP: session.id, Tag.KEY: key,
                      Tag.CHECKPOINT: plain["model"] or ""},
                params={
                    Param.ARCH: plain["arch"],
                    Param.TASK: plain["task"],
                    Param.BASE_MODEL: plain["chosen"] or "",
                    "policy": plain["policy"],
                    "k": str(plain["recall"]["k"]),
                },
                history=[(name, float(value), 0, now) for name, value in numbers.items() if value is not None],
                files=[path],
                started_ms=began_ms,
            )  # fmt: skip
        if session.uploader.last_error is not None:
            console.print(f"results wait on disk: {session.uploader.last_error.message}")
            return INFRASTRUCTURE
        return SOME_FAILED if any(drop.failed for drop in ledger.drops) else OK


def _print_recall(
    config: AppConfig, request: Request, recalled: Recalled, kept: Sequence[str], notes: Sequence[str]
) -> None:
    """What was recalled, and on which grounds."""
    rows = [
        [name, str(place), f"{recalled.scores[name]:.4f}", str(recalled.clusters[name])]
        for place, name in enumerate(kept, start=1)
    ]
    print_table(
        f"{request.target}: {len(kept)} of {len(request.cells)} base models recalled by {config.select.proxy} over "
        f"{len(request.matrix.tasks)} benchmark tasks; {len(recalled.scored)} of them scored on the target",
        ["base model", "rank", "recall score", "cluster"],
        rows,
    )
    for name, reason in request.left_out.items():
        console.print(f"left out: {name}: {reason}", markup=False)
    for note in notes:
        console.print(f"note: {note}", markup=False)


def _print_result(plain: dict[str, Any]) -> None:
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


COLUMNS = ("task", "method", "chosen", "test_score", "epochs", "speedup", "ours_minus_it", "ours_minus_it_se")


def write_comparison(path: Path, plains: Sequence[dict[str, Any]]) -> Path:
    """The comparison as CSV; scores as fractions."""
    return write_csv(path, COLUMNS, comparison_rows(plains))


def _print_comparison(plains: Sequence[dict[str, Any]]) -> None:
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
