"""A selection on the cluster: what is known already is not trained again, the rest as its scheduler says."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ray_app.selection.curves import CurveStore
from ray_app.selection.matrix import recorded_cells
from ray_app.selection.rounds import Ledger, LiveRounds, StoppedLedger
from ray_app.sweeps.plan import PlannedCell, Study
from ray_app.sweeps.session import SweepSession
from tracking.errors import StoreError, TableError
from tracking.records import CellRecord, read_record
from tracking.schema import SCORED_STATES, Metric


@dataclass(frozen=True, kw_only=True)
class LiveResult:
    """How a selection on the cluster ended."""

    finished: bool
    """All is decided; else the same command goes on."""
    interrupted: bool
    model: Path | None
    """Folder of the chosen model, fully trained."""
    n_trained: int
    """Stages trained now; what was known before is not counted."""


class LiveSelection:
    """Runs a ledger's candidates on the cluster.

    Args:
        session: opened.
        cells: candidate -> its cell on the target, ready to be run unless it is complete.
        ledger: filled in.
        study: that the cells are of.
        bring_up: brings the cluster up, if it is not yet.
        say: told one line a decision.
    """

    def __init__(
        self,
        session: SweepSession,
        cells: Mapping[str, PlannedCell],
        ledger: Ledger,
        *,
        study: Study,
        bring_up: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self.session = session
        self.cells = cells
        self.ledger = ledger
        self._study = study
        self._bring_up = bring_up
        self._say = say
        self._store = CurveStore(session.storage.curves)
        self._names = {cell.key: name for name, cell in cells.items()}
        self._told = 0
        self._had_models = {cell.key for cell in cells.values() if self._model(cell).exists()}

    def _model(self, cell: PlannedCell) -> Path:
        return self.session.storage.models / cell.key

    def run(self) -> LiveResult:
        """Take up what is known, train the rest, keep the chosen model and nothing else."""
        self._take_up()
        known = {name: len(curve) for name, curve in self.ledger.curves.items()}
        todo = [self.cells[name] for name in self.ledger.alive if name not in self.ledger.ended]
        interrupted = bool(todo) and self._train(todo)
        if isinstance(self.ledger, StoppedLedger) and not interrupted:
            self.ledger.close()
        self._tell()
        finished = not interrupted and not (isinstance(self.ledger, LiveRounds) and not self.ledger.over)
        model = None
        if finished:
            model, interrupted = self._keep_chosen()
            self._clean_up()
        trained = sum(len(curve) - known.get(name, 0) for name, curve in self.ledger.curves.items())
        return LiveResult(
            finished=finished and not interrupted, interrupted=interrupted, model=model, n_trained=trained
        )

    def _take_up(self) -> None:
        """Curves of complete cells from MLflow, of others from storage; Ray's own scheduler decides by arrival and starts anew."""
        if isinstance(self.ledger, StoppedLedger):
            return
        recorded = recorded_cells(self.cells.values(), self.session.sync())
        for name, cell in self.cells.items():
            if cell.key in recorded:
                self.ledger.reported(name, recorded[cell.key].curve)
                self.ledger.finals[name] = recorded[cell.key].score
                self.ledger.end(name)
                self._store.remove(cell.key)
            else:
                self.ledger.reported(name, self._store.read(cell.key))
        if isinstance(self.ledger, LiveRounds):
            self.ledger.settle()
        self._tell()

    def _train(self, todo: list[PlannedCell]) -> bool:
        """Run candidates under the ledger's scheduler; returns whether it was interrupted."""
        from ray_app.selection.schedulers import scheduler_for

        self._bring_up()
        outcome = self.session.run(
            [self._kept(cell) for cell in todo],
            scheduler=lambda queue: scheduler_for(
                self.ledger, self._names, hands_again=queue.hands_again, look_up=self._look_up, note=self._note
            ),
        )
        self.session.uploader.wait()
        return outcome.interrupted

    def _kept(self, cell: PlannedCell) -> PlannedCell:
        """The cell ready to be run, its model kept: it may be the one that is chosen."""
        ready = cell if cell.encoded is not None else self.session.prepare(self._study, cell)
        return dataclasses.replace(ready, keep=True)

    def _look_up(self, key: str) -> tuple[tuple[float, ...], float] | None:
        """Curve and score of a cell whose worker was lost after it had left its record; None for one that had not ended."""
        for path in self.session.storage.records.glob(f"{key}-*.record.json"):
            record = _read_scored(path)
            if record is not None:
                return tuple(score for _, score, _ in record.curve), record.metrics[Metric.SCORE]
        if key not in self.session.uploader.complete:
            return None
        try:
            found = recorded_cells([self.cells[self._names[key]]], self.session.sync())
        except StoreError:
            return None
        return (found[key].curve, found[key].score) if key in found else None

    def _note(self, name: str) -> None:
        key, curve = self.cells[name].key, self.ledger.curves.get(name, ())
        if name in self.ledger.finals:
            self._store.remove(key)  # its record has the curve
        elif curve:
            self._store.write(key, curve)
        self._tell()

    def _tell(self) -> None:
        for drop in self.ledger.drops[self._told :]:
            self._say(
                f"{drop.base_model} {'failed in' if drop.failed else 'dropped after'} stage {drop.stage}: {drop.reason}"
            )
        self._told = len(self.ledger.drops)

    def _keep_chosen(self) -> tuple[Path | None, bool]:
        """Folder of the chosen model, trained again where it was complete before but not kept; and whether that was interrupted."""
        chosen = self.ledger.chosen
        if chosen is None:
            return None, False
        cell = self.cells[chosen]
        if not (self._model(cell) / "config.json").exists():
            self._say(f"{chosen} was trained before and its model not kept: it is trained once more")
            self._bring_up()
            if self.session.run([self._kept(cell)]).interrupted:
                return None, True
        return (self._model(cell) if self._model(cell).exists() else None), False

    def _clean_up(self) -> None:
        """Remove what candidates left that were not chosen; a model that was there before stays."""
        for name, cell in self.cells.items():
            if name == self.ledger.chosen:
                continue
            shutil.rmtree(self.session.storage.checkpoints / cell.key, ignore_errors=True)
            if cell.key not in self._had_models:
                shutil.rmtree(self._model(cell), ignore_errors=True)


def _read_scored(path: Path) -> CellRecord | None:
    """A record with a score; None where it has none, cannot be read, or was uploaded and removed meanwhile."""
    try:
        record = read_record(path)
    except (OSError, TableError):
        return None
    return record if record.state in SCORED_STATES else None
