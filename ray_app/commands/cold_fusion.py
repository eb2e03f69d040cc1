"""`make cold-fusion`: contributors finetune apart, their models are fused, again and again; the result on the targets."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import pyarrow as pa

from ray_app.commands import rank
from ray_app.commands.console import console, print_table
from ray_app.config import AppConfig
from ray_app.config_tree import as_plain
from ray_app.fusion.evaluation import Evaluation, How
from ray_app.fusion.experiment import Experiment, disk_bytes
from ray_app.fusion.lineage import Iteration
from ray_app.fusion.loop import Loop
from ray_app.fusion.products import products_of
from ray_app.fusion.report import COLUMNS, results_folder, shown_rows, write_candidates, write_iterations, write_rows
from ray_app.fusion.results import BEST_SINGLE, ResultRow, result_rows
from ray_app.fusion.runs import IterationRuns
from ray_app.sweeps.outcome import SweepOutcome
from ray_app.sweeps.progress import spell_time
from ray_app.sweeps.session import SweepSession, check_folder
from tracking.errors import StartlineError, TableError
from tracking.records import write_atomically
from tracking.store import exclusive_writer

OK, SOME_FAILED, INFRASTRUCTURE, INTERRUPTED = 0, 1, 3, 130


def run(config: AppConfig) -> int:
    """Run the loops and baselines, try what came of them, write tables and curves; returns the exit code."""
    check_folder(config.out, min_free_bytes=int(config.cluster.min_free_gb * 1e9))
    with exclusive_writer(config.out):
        return _ColdFusion(config).run()


class _ColdFusion:
    """One invocation; what an earlier one finished is taken up, not done again."""

    def __init__(self, config: AppConfig) -> None:
        self.config = config
        self.started = time.perf_counter()
        self.session = SweepSession(config, console=console)
        self.outcome = SweepOutcome()
        self.error: StartlineError | None = None
        self._up = False

    def run(self) -> int:
        """Everything in order; a dry run stops after the plan."""
        table = self.session.open()
        self.runs = IterationRuns(self.session.store, tags=self.session.tags, sweep=self.session.id)
        self.experiment = Experiment(
            config=self.config, session=self.session, table=table, on_iteration=self._on_iteration
        )
        self._print_plan()
        if self.config.dry:
            return OK
        write_atomically(
            results_folder(self.config) / "config.json", json.dumps(as_plain(self.config), indent=1).encode()
        )
        try:
            evaluation = self._train()
        finally:
            self.experiment.feed.close()
            self.runs.close()
        return self._close(evaluation)

    def _on_iteration(self, loop: Loop, iteration: Iteration) -> None:
        """An iteration is stored: say so, and write its run."""
        lost = [f"{one.task}: {one.role.value}" for one in iteration.contributions if one not in iteration.used]
        left_out = f"; left out: {', '.join(lost)}" if lost else ""
        verdict = "" if iteration.accepted else f"; refused: {iteration.reason}"
        console.print(
            f"{loop.name} iteration {iteration.number}/{loop.total}: {len(iteration.used)} of {len(iteration.contributions)} contributions "
            f"in {spell_time(iteration.waited_s)}, fused in {iteration.fuse_s:.1f} s{left_out}{verdict}"
        )
        self.runs.add(loop, iteration)

    def _print_plan(self) -> None:
        experiment, cold = self.experiment, self.config.cold_fusion
        console.print(
            f"{self.config.arch.name}: {len(cold.ways)} variants x {len(self.config.seeds)} seeds, {cold.iterations} iterations of "
            f"{cold.contributors} contributors; seen: {', '.join(experiment.split.seen)}; unseen targets: "
            f"{', '.join(experiment.split.unseen) or 'none'}"
        )
        for loop in experiment.loops:
            if loop.iterations:
                console.print(f"{loop.name}: {len(loop.iterations)} of {loop.total} iterations there already")
        console.print(
            f"disk: about {disk_bytes(experiment) / 1e9:.2f} GB for base models under {self.config.storage / 'fusion'}"
        )

    def _train(self) -> Evaluation:
        """Loops and baselines, then their base models on the targets; Ray is started only for cells that must be run."""
        experiment = self.experiment
        for loop in experiment.loops:
            for iteration in loop.iterations:
                self.runs.add(loop, iteration)
        evaluation = Evaluation(experiment=experiment, products=[])
        needed = experiment.feed.settle()
        if not needed:
            evaluation = self._planned()
        if needed or evaluation.todo:
            with self.session.cluster():
                self._up = True
                if needed:
                    self._count(self.session.run_feed(experiment.feed))
                    experiment.remove_spent()
                    evaluation = self._planned()
                if evaluation.todo and not self.outcome.interrupted:
                    self._count(self.session.run(evaluation.todo))
        return evaluation

    def _planned(self) -> Evaluation:
        """The evaluation of what there is so far."""
        evaluation = Evaluation(experiment=self.experiment, products=products_of(self.experiment))
        if not self.outcome.interrupted:
            evaluation.plan()
            console.print(
                f"{len(evaluation.products)} base models; {len(evaluation.todo)} cells to try them on the targets"
            )
        return evaluation

    def _count(self, outcome: SweepOutcome) -> None:
        self.outcome.complete += outcome.complete
        self.outcome.failed |= outcome.failed
        self.outcome.train_s += outcome.train_s
        self.outcome.interrupted |= outcome.interrupted

    def _close(self, evaluation: Evaluation) -> int:
        waiting = self.session.finish() if self._up else 0
        table = self.session.sync()
        written = write_iterations(self.experiment)
        if evaluation.products and not self.outcome.interrupted:
            written.append(write_candidates(evaluation))
            evaluation.read(table)
            rows = result_rows(evaluation)
            written += write_rows(evaluation, rows)
            self._print(evaluation, rows)
            if evaluation.settings is not None:
                self._rank(table, evaluation.settings)
        for name, error in self.experiment.feed.failures.items():
            console.print(f"{name} ended early: {error.message}")
        for key, (stage, reason) in list(self.outcome.failed.items())[:20]:
            console.print(f"failed: cell {key} at {stage}: {reason}")
        console.print(
            f"{len(self.outcome.complete)} cells complete, {len(self.outcome.failed)} failed in "
            f"{spell_time(time.perf_counter() - self.started)}; written: {', '.join(map(str, written))}"
        )
        return self._exit_code(waiting)

    def _print(self, evaluation: Evaluation, rows: Sequence[ResultRow]) -> None:
        for how in How:
            lines = shown_rows(rows, how.value)
            if lines:
                print_table(f"{self.config.arch.name}: {how.value.replace('_', ' ')}", COLUMNS, lines)
        if any(row.candidate == BEST_SINGLE for row in rows):
            console.print("note: the best single model is told by the targets it is judged on, which flatters it")
        if len(self.config.seeds) < 2:
            console.print("note: one seed tells nothing of noise; SEEDS=2 or more gives standard errors")
        missing = evaluation.missing()
        if missing:
            console.print(f"note: {len(missing)} scores are missing; run the same command again to go on")

    def _rank(self, table: pa.Table, settings: str) -> None:
        try:
            ranked = rank.rank_table(self.config, table, settings=settings, tasks=self.config.suite.tasks)
            rank.write_base_runs(self.session.store, ranked)
        except TableError as error:
            console.print(f"no ranking yet: {error.message}")

    def _exit_code(self, waiting: int) -> int:
        if self.outcome.interrupted:
            return INTERRUPTED
        codes = [error.exit_code for error in self.experiment.feed.failures.values()]
        if waiting or self.runs.waiting or INFRASTRUCTURE in codes:
            return INFRASTRUCTURE
        return SOME_FAILED if codes or self.outcome.failed else OK
