"""Tune schedulers of a selection: policies that decide stage by stage, and Ray's ASHA."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from ray_app.selection.rounds import Ledger, LiveRounds, StoppedLedger
from tracking.schema import State

Note = Callable[[str], None]
"""Told a candidate whose curve or state has changed."""
LookUp = Callable[[str], tuple[tuple[float, ...], float] | None]
"""Cell key -> curve and test score, for a cell that had ended although its trial was lost; else None."""


class RoundScheduler(TrialScheduler):
    """Trains every survivor to the end of a stage, asks the policy, and drops, pauses or goes on as it says.

    A survivor that waits for others is paused: its checkpoint is stored and its place given to the next. A trial that comes back
    after its worker was lost catches up with what is known of its candidate.

    Args:
        rounds: the decisions.
        names: candidate by cell key.
        hands_again: whether a cell whose worker was lost will be handed out again.
        look_up: finds what a cell left that had ended when its worker was lost.
        note: told of every change.
    """

    def __init__(
        self,
        rounds: LiveRounds,
        names: Mapping[str, str],
        *,
        hands_again: Callable[[str], bool],
        look_up: LookUp,
        note: Note,
    ) -> None:
        super().__init__()
        self.rounds = rounds
        self._names = names
        self._hands_again = hands_again
        self._look_up = look_up
        self._note = note
        self._trials: dict[str, Trial] = {}
        self._at: dict[str, int] = {}
        """Stage that the present trial of a candidate has reached."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune stores its scheduler, and this one is made anew from curves."""
        return {}

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """A trial of a candidate was made, the first or one that takes over from a lost one."""
        self._trials[name_of(trial, self._names)] = trial

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """A candidate has reached a stage (or told again which it had reached)."""
        name = name_of(trial, self._names)
        self._at[name] = result["stage"]
        self.rounds.reported(name, result["curve"])
        self._note(name)
        self._settle(tune_controller, but=trial)
        if name not in self.rounds.alive:
            return str(TrialScheduler.STOP)
        return str(TrialScheduler.CONTINUE if self._may_train(name) else TrialScheduler.PAUSE)

    def _may_train(self, name: str) -> bool:
        return name in self.rounds.alive and not self.rounds.over and self._at[name] < self.rounds.stage

    def _settle(self, tune_controller: Any, *, but: Trial) -> None:
        """Decide what can be decided; dropped trials that wait are stopped, one under way is when it next reports."""
        for drop in self.rounds.settle():
            trial = self._trials.get(drop.base_model)
            if trial is not None and trial is not but and (trial.status == Trial.PAUSED or trial.is_saving):
                tune_controller.stop_trial(trial)
            self._note(drop.base_model)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """A trial ended: its candidate was trained to the end, failed, or was stopped here."""
        if "state" in result:
            note_end(self.rounds, name_of(trial, self._names), result)
            self._note(name_of(trial, self._names))
            self._settle(tune_controller, but=trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """A worker or node was lost; the candidate has failed only if it had not ended and its cell is not handed out again."""
        if note_loss(self.rounds, trial, self._names, hands_again=self._hands_again, look_up=self._look_up):
            self._settle(tune_controller, but=trial)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """A waiting trial was stopped here: nothing new."""

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """New candidates first, then survivors that may go on, best first."""
        for trial in tune_controller.get_trials():
            if trial.status == Trial.PENDING:
                return trial
        for name in self.rounds.alive:
            waiting = self._trials.get(name)
            if waiting is not None and waiting.status == Trial.PAUSED and self._may_train(name):
                return waiting
        return None

    def debug_string(self) -> str:
        """For Tune's own report, which is off."""
        return f"{self.rounds.policy.name}: stage {self.rounds.stage}, {len(self.rounds.alive)} left"

    def save(self, checkpoint_path: str) -> None:
        """Nothing to store: decisions are made anew from curves."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class AshaRounds(ASHAScheduler):
    """Ray's asynchronous successive halving over the same trials: it stops who is below the median of its rung so far.

    Rungs are stages 1, 2, 4, ...; they begin empty in every invocation.

    Args:
        ledger: noted into.
        names: candidate by cell key.
        hands_again: whether a cell whose worker was lost will be handed out again.
        look_up: finds what a cell left that had ended when its worker was lost.
        note: told of every change.
    """

    def __init__(
        self,
        ledger: StoppedLedger,
        names: Mapping[str, str],
        *,
        hands_again: Callable[[str], bool],
        look_up: LookUp,
        note: Note,
    ) -> None:
        super().__init__(
            time_attr="stage",
            metric="validation_score",
            mode="max",
            max_t=ledger.n_stages,
            grace_period=1,
            reduction_factor=2,
        )
        self.ledger = ledger
        self._names = names
        self._hands_again = hands_again
        self._look_up = look_up
        self._note = note

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune stores its scheduler, and this one is made anew from curves."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Note the stage, and what Ray's scheduler makes of it."""
        name = name_of(trial, self._names)
        self.ledger.reported(name, result["curve"])
        action = str(super().on_trial_result(tune_controller, trial, result))
        if action == TrialScheduler.STOP:
            score = result["validation_score"]
            self.ledger.stop(name, f"ASHA: its validation score {score:.4f} is below the median of its rung so far")
        self._note(name)
        return action

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """A trial ended: its candidate was trained to the end, failed, or was stopped here."""
        if "state" in result:
            note_end(self.ledger, name_of(trial, self._names), result)
            self._note(name_of(trial, self._names))
        super().on_trial_complete(tune_controller, trial, result)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """A worker or node was lost; the candidate has failed only if it had not ended and its cell is not handed out again."""
        note_loss(self.ledger, trial, self._names, hands_again=self._hands_again, look_up=self._look_up)


def name_of(trial: Trial, names: Mapping[str, str]) -> str:
    """Candidate of a trial."""
    return names[trial.config["order"]["key"]]


def note_end(ledger: Ledger, name: str, result: Mapping[str, Any]) -> None:
    """Note the last result of a candidate."""
    if result["state"] != State.FAILED:
        ledger.finals[name] = result["score"]
    ledger.reported(name, result["curve"])
    ledger.end(name, why_failed(result))


def note_loss(
    ledger: Ledger,
    trial: Trial,
    names: Mapping[str, str],
    *,
    hands_again: Callable[[str], bool],
    look_up: LookUp,
) -> bool:
    """Note that the worker of a trial was lost; returns whether its candidate will report no more."""
    key, name = trial.config["order"]["key"], name_of(trial, names)
    left = look_up(key)
    if left is not None:
        ledger.finals[name] = left[1]
        ledger.reported(name, left[0])
        ledger.end(name)
    elif not hands_again(key):
        ledger.end(name, "its worker was lost too often")
    return name in ledger.ended


def why_failed(result: Mapping[str, Any]) -> str:
    """Stage and reason of a failed attempt; empty for one that was scored."""
    if result["state"] != State.FAILED:
        return ""
    return f"failed at {result.get('failed_stage') or 'start'}: {result.get('reason') or 'no reason given'}"


def scheduler_for(
    ledger: Ledger,
    names: Mapping[str, str],
    *,
    hands_again: Callable[[str], bool],
    look_up: LookUp,
    note: Note,
) -> TrialScheduler:
    """The Tune scheduler that runs a selection."""
    if isinstance(ledger, LiveRounds):
        return RoundScheduler(ledger, names, hands_again=hands_again, look_up=look_up, note=note)
    assert isinstance(ledger, StoppedLedger)
    return AshaRounds(ledger, names, hands_again=hands_again, look_up=look_up, note=note)
