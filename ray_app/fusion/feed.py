"""Programs that ask for cells and are resumed with their outcomes: what stands between the loops of fusion and the queue of workers.

A loop is written as a generator that yields what it waits for, a `Gather` of cells or a piece of `Work`, and gets back what came of
it. Several run side by side; a cell that two of them ask for is run once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from ray_app.sweeps.plan import PlannedCell
from tracking.errors import StartlineError
from tracking.schema import Metric, State

logger = logging.getLogger(__name__)


_NUMBERS = "seconds/"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a cell ended."""

    key: str
    state: str
    """A ``State``; 'failed' also where its worker was lost for good."""
    reason: str = ""
    score: float | None = None
    n_eval: int | None = None
    train_s: float = 0.0
    examples_seen: int = 0

    @property
    def usable(self) -> bool:
        """It has weights that may be fused: complete, and not diverged."""
        return self.state == State.COMPLETE


def ended_trial(key: str, result: dict[str, Any] | None) -> Ended:
    """The outcome that a trial's last result tells; Tune hands it over flattened, with "seconds/score" for a number."""
    if not result or "state" not in result:
        return Ended(key=key, state=State.FAILED, reason="its worker was lost")
    numbers = {name.removeprefix(_NUMBERS): value for name, value in result.items() if name.startswith(_NUMBERS)}
    n_eval = numbers.get(Metric.N_EVAL)
    return Ended(
        key=key,
        state=str(result["state"]),
        reason=f"{result.get('failed_stage', '')}: {result.get('reason', '')}".strip(": "),
        score=numbers.get(Metric.SCORE),
        n_eval=None if n_eval is None else int(n_eval),
        train_s=numbers.get(Metric.TRAIN_S, 0.0),
        examples_seen=int(numbers.get(Metric.EXAMPLES_SEEN, 0)),
    )


Enough = Callable[[Mapping[str, Ended], float], bool]
"""Whether what has ended, after so many seconds, will do."""


@dataclass(frozen=True)
class Gather:
    """Cells to be run; answered with the outcomes by key, of all of them or as soon as they will do."""

    cells: Sequence[PlannedCell]
    enough: Enough | None = None
    """None: all must have ended."""


@dataclass(frozen=True)
class Work:
    """Something to be done beside the queue; answered with what it returns, or raises."""

    do: Callable[[], Any]


Program = Generator[Gather | Work, Any, None]


@dataclass
class _Waiting:
    """A program and what it waits for."""

    program: Program
    request: Gather | Work
    since: float
    future: Future[Any] | None = None


@dataclass
class Feed:
    """Runs programs against whoever runs cells.

    Args:
        programs: by name.
        known: outcome of a cell that need not be run; None: it must be run.
        clock: seconds.
    """

    programs: Mapping[str, Program]
    known: Callable[[PlannedCell], Ended | None]
    clock: Callable[[], float] = time.monotonic
    failures: dict[str, StartlineError] = field(default_factory=dict)
    """Programs that ended with an error."""
    on_failure: Callable[[str, StartlineError], None] = lambda name, error: None

    def __post_init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}
        self._outcomes: dict[str, Ended] = {}
        self._offered: dict[str, PlannedCell] = {}
        self._new: list[PlannedCell] = []
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fusion")
        for name, program in self.programs.items():
            self._resume(name, program, None)

    @property
    def finished(self) -> bool:
        """Every program has ended."""
        return not self._waiting

    def take(self) -> list[PlannedCell]:
        """Cells asked for since the last call, to be run in this order."""
        self.step()
        new, self._new = self._new, []
        return new

    def note(self, key: str, result: dict[str, Any] | None) -> None:
        """A cell that was taken has ended, with its trial's last result; None: its worker was lost for good."""
        self._outcomes[key] = ended_trial(key, result)

    def step(self) -> None:
        """Resume every program whose wait is over."""
        moved = True
        while moved:
            moved = False
            for name, waiting in list(self._waiting.items()):
                answered, answer = self._answer(waiting)
                if answered:
                    self._resume(name, waiting.program, answer)
                    moved = True

    def wait(self, seconds: float) -> None:
        """Let background work end, for at most so long."""
        futures = [waiting.future for waiting in self._waiting.values() if waiting.future is not None]
        if futures:
            wait(futures, timeout=seconds, return_when="FIRST_COMPLETED")
        else:
            time.sleep(min(seconds, 0.02))

    def outcome(self, cell: PlannedCell) -> Ended | None:
        """How a cell ended; None: it has not, or was not asked for."""
        return self._outcomes.get(cell.key)

    def settle(self) -> bool:
        """Go on as far as it goes without running a cell; whether one must be run."""
        self.step()
        while not self._new and not self.finished:
            self.wait(1.0)
            self.step()
        return bool(self._new)

    def close(self) -> None:
        """End the programs where they are; background work under way is waited for."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for waiting in self._waiting.values():
            waiting.program.close()

    def _answer(self, waiting: _Waiting) -> tuple[bool, Any]:
        if waiting.future is not None:
            return waiting.future.done(), waiting.future
        assert isinstance(waiting.request, Gather)
        cells = waiting.request.cells
        ended = {cell.key: self._outcomes[cell.key] for cell in cells if cell.key in self._outcomes}
        enough = waiting.request.enough
        done = len(ended) == len({cell.key for cell in cells})
        return done or (enough is not None and enough(ended, self.clock() - waiting.since)), ended

    def _resume(self, name: str, program: Program, answer: Any) -> None:
        """Answer a program and take up what it asks for next."""
        self._waiting.pop(name, None)
        try:
            if isinstance(answer, Future):
                error = answer.exception()
                request = program.throw(error) if error is not None else program.send(answer.result())
            else:
                request = program.send(answer)
        except StopIteration:
            return
        except StartlineError as error:
            logger.warning("%s: %s", name, error.message)
            self.failures[name] = error
            self.on_failure(name, error)
            return
        waiting = _Waiting(program, request, self.clock())
        if isinstance(request, Work):
            waiting.future = self._pool.submit(request.do)
        else:
            self._ask_for(request.cells)
        self._waiting[name] = waiting

    def _ask_for(self, cells: Sequence[PlannedCell]) -> None:
        for cell in cells:
            if cell.key in self._outcomes or cell.key in self._offered:
                continue
            known = self.known(cell)
            if known is not None:
                self._outcomes[cell.key] = known
            else:
                self._offered[cell.key] = cell
                self._new.append(cell)
