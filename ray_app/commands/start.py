"""`make start TASK=...`: where to start for a new target: spend a few finetunes down the static ranking, get a verdict."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from analysis.noise import measure_seed_noise
from analysis.noise_prior import NoisePrior, fit_noise_prior
from analysis.report.analysis_json import finite
from analysis.start_policy import Measured, StartVerdict, search_start
from analysis.start_replay import rank_without
from analysis.study import GainStudy
from ray_app.commands.console import console, points, print_table
from ray_app.config import AppConfig, known_names, nearest
from ray_app.hub.checkpoints import ModelRef
from ray_app.replays import replay_all
from ray_app.studies import load_study
from ray_app.sweeps.plan import source_name
from ray_app.sweeps.session import SweepPlan, SweepSession, check_folder
from ray_app.sweeps.settings import SourcesConfig
from tracking.errors import ConfigError, TableError
from tracking.records import write_atomically
from tracking.schema import Kind, Metric, Param, Tag, metric_name
from tracking.store import exclusive_writer
from tracking.table import scored_cells

OK, SOME_FAILED, INFRASTRUCTURE, INTERRUPTED = 0, 1, 3, 130
_OWN = "startline/"


def run(config: AppConfig) -> int:
    """Search, print the verdict, write it as JSON and as an MLflow run; returns the exit code.

    Raises:
        ConfigError: no task, an unknown one, or a budget below the first comparison.
        TableError: no ranking to go down.
    """
    if config.replay:
        return replay_all(config, load_study(config).study.judged())
    task = _task(config)
    study = load_study(config).study
    ranking = _ranking(study, task)
    prior = _prior(study, task)
    check_folder(config.out, min_free_bytes=int(config.cluster.min_free_gb * 1e9))
    with exclusive_writer(config.out):
        search = _LiveSearch(config, task)
        console.print(
            f"{task}: {study.pretrained} against {len(ranking)} ranked base models of {study.arch}, {len(config.seeds)} seeds, "
            f"at most {config.start.budget} finetunes"
        )
        if config.dry:
            return search.show(ranking)
        with search.session_open():
            try:
                verdict = search_start(
                    ranking,
                    pretrained=config.arch.pretrained.id,
                    measure=search.measure,
                    rules=config.start,
                    prior=prior,
                )
            except ValueError as error:
                raise ConfigError(f"BUDGET: {error}") from error
        plain = _plain(config, task, verdict, prior, search.skipped)
        path = config.out / "start" / f"{task}.json"
        write_atomically(path, json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False).encode())
        _print(verdict, search.skipped)
        console.print(f"written: {path}")
        return search.close(verdict, plain, path)


def _task(config: AppConfig) -> str:
    if config.task is None:
        raise ConfigError("TASK: not given; name the new target, a YAML under conf/task")
    known = known_names("task")
    if config.task not in known:
        raise ConfigError(f"TASK: there is no task {config.task!r}{nearest(config.task, known)}")
    return config.task


def _ranking(study: GainStudy, task: str) -> list[str]:
    """Base models by average gain on every target but this one, best first; what was finetuned on this very task is no candidate."""
    if all(name == task for name in study.tasks):
        raise TableError(
            f"{study.arch} has results on {task} alone, expected another target to rank base models on; run make sweep",
            arch=study.arch,
        )
    fresh = study.select([source != task for source in study.source_tasks], [True] * len(study.tasks))
    if task in study.tasks and fresh.bases:
        rows = rank_without(fresh, study.tasks.index(task))
    else:
        known = [row for row in range(len(fresh.bases)) if math.isfinite(fresh.average[row])]
        rows = sorted(known, key=lambda row: (-fresh.average[row], fresh.bases[row]))
    if not rows:
        raise TableError(
            f"{study.arch} has no base model with a gain on every other target, expected at least one to try on {task}; run "
            f"make sweep ARCH={study.arch}",
            arch=study.arch,
        )
    return [fresh.bases[row] for row in rows]


def _prior(study: GainStudy, task: str) -> NoisePrior:
    """Noise of the other targets."""
    part = study.select([True] * len(study.bases), [name != task for name in study.tasks])
    noise = measure_seed_noise(part.scores, part.baseline)
    return fit_noise_prior(noise.sd**2, noise.df)


class _LiveSearch:
    """Answers the policy's requests by finetuning, a plan a round; what is complete already costs nothing."""

    def __init__(self, config: AppConfig, task: str) -> None:
        self.config = config
        self.task = task
        self.session = SweepSession(config, console=console)
        self.skipped: dict[str, str] = {}
        self.began_ms = int(time.time() * 1000)
        self.failed = 0
        self.interrupted = False
        self._sources = _source_groups(config)
        self._stack = contextlib.ExitStack()
        self._up = False
        self.session.open()

    @contextlib.contextmanager
    def session_open(self) -> Iterator[None]:
        """Ray is started when the first cell has to be run, and kept for all rounds."""
        with self._stack:
            yield

    def _plan(self, names: tuple[str, ...]) -> tuple[SweepPlan, tuple[str, ...]]:
        """The cells of some base models (and always of the pretrained one), and which of the names can be had."""
        usable, models, sources = [], [], []
        known = {ref.id: ref for ref in self.config.candidates.models}
        for name in names:
            if name == self.config.arch.pretrained.id:
                continue
            if name in self._sources:
                sources.append(self._sources[name])
            elif name.startswith(_OWN) and name not in known:
                self.skipped[name] = "it is no source of these candidates; choose them with CANDIDATES= or EXPERIMENT="
                continue
            else:
                models.append(known.get(name, ModelRef(id=name)))
            usable.append(name)
        candidates = dataclasses.replace(self.config.candidates, models=models, sources=sources)
        suite = dataclasses.replace(self.config.suite, tasks=[self.task], train_sizes=[])
        part = dataclasses.replace(self.config, candidates=candidates, suite=suite)
        study = self.session.study(part, lenient=True)
        self.skipped |= study.left_out
        return self.session.plan(study), tuple(name for name in usable if name not in study.left_out)

    def measure(self, names: tuple[str, ...], allowance: int) -> Measured:
        """Finetune on the target; see ``analysis.start_policy.Measure``."""
        plan, usable = self._plan(names)
        cost = len(plan.todo)
        if cost > allowance:
            what = ", ".join(usable) or "the pretrained model"
            return Measured(
                refused=f"the budget is spent: {what} takes {cost} finetunes, {allowance} are left", over_budget=True
            )
        if plan.todo:
            console.print(f"round: {', '.join(usable)}: {cost} cells to run, {len(plan.done)} complete already")
            self._run(plan)
            if self.interrupted:
                return Measured(refused="interrupted; run the same command again to go on")
        return Measured(scores=self._scores(plan, (self.config.arch.pretrained.id, *usable)), runs=cost)

    def _run(self, plan: SweepPlan) -> None:
        if not self._up:
            self._stack.enter_context(self.session.cluster())
            self._up = True
        outcome = self.session.run(plan.todo)
        self.failed += len(outcome.failed)
        self.interrupted = outcome.interrupted
        for key, (stage, reason) in outcome.failed.items():
            name = next(cell.identity.base_model for cell in plan.todo if cell.key == key)
            console.print(f"failed: {name} at {stage}: {reason}")
        self.session.uploader.wait()
        if self.session.uploader.last_error is not None:
            raise self.session.uploader.last_error

    def _scores(self, plan: SweepPlan, names: tuple[str, ...]) -> dict[str, list[float]]:
        keys = {cell.key: cell.identity.base_model for cell in plan.cells if cell.role == "target"}
        cells = scored_cells(self.session.sync())
        found = cells.filter(pc.is_in(cells["key"], pa.array(list(keys), pa.string())))
        scores: dict[str, list[float]] = {}
        for key, score in zip(found["key"].to_pylist(), found["score"].to_pylist(), strict=True):
            scores.setdefault(keys[key], []).append(score)
        return {name: scores[name] for name in names if name in scores}

    def show(self, ranking: list[str]) -> int:
        """What the first rounds would cost, for DRY=1."""
        plan, usable = self._plan((self.config.arch.pretrained.id, ranking[0]))
        for name, reason in self.skipped.items():
            console.print(f"left out: {name}: {reason}")
        console.print(
            f"first comparison: the pretrained model and {', '.join(usable) or 'nothing'}: {len(plan.todo)} cells to run, "
            f"{len(plan.done)} complete already; then down the ranking: {', '.join(ranking[1:6])}{', ...' if len(ranking) > 6 else ''}"
        )
        return OK

    def close(self, verdict: StartVerdict, plain: dict[str, Any], path: Path) -> int:
        """Write the search's own run; returns the exit code."""
        waiting = self.session.finish() if self._up else 0
        numbers = {"runs": float(verdict.runs), "n_tried": float(len(verdict.tried))}
        numbers |= {metric_name(Metric.TASK_GAIN, each.name): each.gain for each in verdict.tried}
        now = int(time.time() * 1000)
        if not waiting:
            self.session.store.write_run(
                name=f"start {self.task}",
                tags={**self.session.tags, Tag.KIND: Kind.SELECTION, Tag.SWEEP: self.session.id},
                params={
                    Param.ARCH: self.config.arch.name,
                    Param.TASK: self.task,
                    "verdict": verdict.verdict.value,
                    "chosen": verdict.chosen,
                },
                history=[(name, value, 0, now) for name, value in numbers.items() if math.isfinite(value)],
                files=[path],
                started_ms=self.began_ms,
            )
        if waiting:
            return INFRASTRUCTURE
        if self.interrupted:
            return INTERRUPTED
        return SOME_FAILED if self.failed else OK


def _source_groups(config: AppConfig) -> dict[str, SourcesConfig]:
    """Name of every intermediate model of the candidates -> the sources section that makes it alone."""
    found = {}
    for group in config.candidates.sources:
        for task in group.tasks:
            for seed in config.seeds if group.pair_seeds else group.seeds:
                part = dataclasses.replace(group, tasks=[task], seeds=[seed])
                found[source_name(config.arch.name, task, group, seed)] = part
    return found


def _plain(
    config: AppConfig, task: str, verdict: StartVerdict, prior: NoisePrior, skipped: dict[str, str]
) -> dict[str, Any]:
    """The search as JSON-ready values; scores and gains in points."""
    plain = {
        "task": task,
        "arch": config.arch.name,
        "verdict": verdict.verdict.value,
        "sensitive": verdict.sensitive,
        "chosen": verdict.chosen or None,
        "runs": verdict.runs,
        "budget": config.start.budget,
        "seeds": config.seeds,
        "pretrained": config.arch.pretrained.id,
        "pretrained_score": verdict.pretrained_score,
        "tried": [dataclasses.asdict(each) for each in verdict.tried],
        "failed": list(verdict.failed),
        "left_out": skipped,
        "level": config.start.level,
        "noise": {
            "sd": verdict.noise_sd,
            "df": verdict.noise_df,
            "prior_sd": math.sqrt(prior.variance) if not prior.reason else math.nan,
            "prior_df": prior.df,
            "prior_reason": prior.reason,
        },
        "stopped": verdict.stopped,
        "sentence": verdict.sentence,
    }
    return dict(finite(plain))


def _print(verdict: StartVerdict, skipped: dict[str, str]) -> None:
    rows = [
        [each.name, str(each.n_seeds), points(each.score), points(each.gain, signed=True), points(each.low, signed=True),
         points(each.high, signed=True)]
        for each in verdict.tried
    ]  # fmt: skip
    score = points(verdict.pretrained_score)
    print_table(
        f"tried, against the pretrained model ({score})", ["base model", "seeds", "score", "gain", "low", "high"], rows
    )
    for name, reason in skipped.items():
        console.print(f"left out: {name}: {reason}")
    sensitive = {True: "sensitive", False: "not sensitive beyond noise", None: "unknown"}[verdict.sensitive]
    console.print(f"target: {sensitive}; {verdict.runs} finetunes spent; ended: {verdict.stopped}")
    console.print(f"verdict: {verdict.sentence}")
