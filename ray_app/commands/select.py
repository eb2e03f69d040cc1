"""`make select TASK=...`: recall candidates for a target, train them stage by stage, drop the worse, keep the best model."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.selection.knowledge import Knowledge
from analysis.selection.policies import POLICIES
from ray_app.commands.console import console
from ray_app.commands.proxies import FEW, proxy_study, score_candidates
from ray_app.commands.select_report import (
    print_comparison,
    print_recall,
    print_result,
    selection_as_plain,
    write_comparison,
)
from ray_app.config import AppConfig, known_names, nearest
from ray_app.selection.comparison import BASELINES, Alternative, compare
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
    targets = targets_of(config)
    check_folder(config.out, min_free_bytes=int(config.cluster.min_free_gb * 1e9))
    with exclusive_writer(config.out):
        return _Selections(staged(config)).run(targets)


def targets_of(config: AppConfig) -> list[str]:
    """Targets that TASK= names, else the experiment's; ConfigError for what cannot be asked for."""
    named = [part.strip() for part in (config.task or "").split(",") if part.strip()] or config.select.targets
    if not named:
        raise ConfigError("TASK: not given; name the new target, a YAML under conf/task (or several, with commas)")
    known = known_names("task")
    faults = [f"TASK: there is no task {name!r}{nearest(name, known)}" for name in named if name not in known]
    faults += unknown_names(config.select)
    if config.cluster.team > 1:
        faults.append(
            f"cluster.workers_per_cell: a team of {config.cluster.team} processes would train a candidate, which cannot be paused "
            "between stages; set cluster.workers_per_cell=1"
        )
    if faults:
        raise ConfigError(faults)
    return list(dict.fromkeys(named))


class _Selections:
    """One invocation: a selection a target, one cluster for all of them."""

    def __init__(self, config: AppConfig) -> None:
        self.config = config
        self.session = SweepSession(config, console=console)
        self._stack = contextlib.ExitStack()
        self._started = False

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
        if self._started and self.session.finish():
            codes.append(INFRASTRUCTURE)
        if plains and not self.config.dry:
            print_comparison(plains)
            path = write_comparison(self.config.out / "select" / "comparison.csv", plains)
            console.print(f"written: {path}")
        return max(codes)

    def _bring_up(self) -> None:
        if not self.session.up:
            self._started = True
            self._stack.enter_context(self.session.cluster())

    def _select(self, request: Request) -> tuple[int, dict[str, Any] | None]:
        """Exit code and result of one target; no result where it is not finished."""
        began_ms, target = int(time.time() * 1000), request.target
        recalled = self._recall(request)
        kept = recalled.names[: self.config.select.k]
        notes = [*request.notes, *recalled.notes, *self._warnings(request, kept)]
        print_recall(self.config, request, recalled, kept, notes)
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
        folder = self.config.out / "select"
        path = folder / f"{target}.json"  # of the newest selection; each policy's own beside it
        for each in (folder / f"{target}.{self.config.select.policy}.json", path):
            write_atomically(each, json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False).encode())
        print_result(plain)
        console.print(f"written: {path}")
        return self._close(plain, path, ledger, began_ms), plain

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

        def score(names: Sequence[str]) -> dict[str, dict[str, float]]:
            proxies = self.config.select.proxies
            found = score_candidates(self.session, study, {}, only=names, names=proxies)[request.target].scores
            return {proxy: {one.base_model: one.values.get(proxy, math.nan) for one in found} for proxy in proxies}

        return recall_candidates(request.matrix, score, self.config.recall)

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
            names=kept, n_stages=n_stages, policy=POLICIES[policy](self.config.rounds, self._knowledge(request))
        )

    def _plain(
        self, request: Request, recalled: Recalled, ledger: Ledger, result: LiveResult, notes: Sequence[str]
    ) -> dict[str, Any]:
        recorded = recorded_cells(request.cells.values(), self.session.sync())
        mine = recorded.get(request.cells[ledger.chosen].key) if ledger.chosen else None
        return selection_as_plain(
            self.config,
            request,
            recalled,
            ledger,
            result,
            n_test=mine.n_test if mine else 0,
            compared=self._compared(request, recalled, recorded, mine),
            notes=notes,
        )

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
            policies=tuple(
                dict.fromkeys([*BASELINES, self.config.select.policy])
                if self.config.select.policy in POLICIES
                else BASELINES
            ),
            known=self._knowledge(request),
            rules=self.config.rounds,
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
