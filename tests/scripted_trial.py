"""A trial that goes through a script; apart from what runs it, for it imports Ray."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ray import tune

from tests.scripted_selection import CURVES, N_STAGES


class ScriptedTrial(tune.Trainable):
    """Goes through its curve; its state is the list of stages that it was trained in, stored and taken up as a cell's is."""

    def setup(self, config: dict[str, Any]) -> None:
        """As ``CellTrial`` has it."""
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Another order in the same process."""
        self.config = new_config
        self._trained: list[int] | None = None
        return True

    @property
    def candidate(self) -> str:
        """Whose curve it is."""
        return str(self.config["order"]["base_name"])

    def _file(self, kind: str) -> Path:
        return Path(self.config["order"]["storage"]) / f"{self.candidate}.{kind}"

    def step(self) -> dict[str, Any]:
        """Where it stands, if it was just taken up; else one stage further."""
        if self._trained is None:
            stored = self._file("state")
            self._trained = json.loads(stored.read_text()) if stored.exists() else []
            if self._trained:
                return self._report()
        stage = len(self._trained) + 1
        with self._file("log").open("a") as file:
            file.write(json.dumps([self.candidate, *self._trained, stage]) + "\n")
        if self.candidate in self.config["order"]["params"]["dies"].split(","):
            self._die_unless_it_may_live()
        if (self.candidate, stage) in (("fails", 2), ("doomed", 1)):
            return {**self._report(), "done": True, "state": "failed", "failed_stage": "train", "reason": "as scripted"}
        self._trained.append(stage)
        return self._report()

    def _die_unless_it_may_live(self) -> None:
        """'lost' dies once, 'doomed' every time."""
        died = self._file("died")
        if self.candidate == "doomed" or not died.exists():
            died.touch()
            os._exit(1)

    def _report(self) -> dict[str, Any]:
        curve = CURVES[self.candidate][: len(self._trained or [])]
        key = self.config["order"]["key"]
        result = {
            "key": key,
            "stage": len(curve),
            "curve": curve,
            "validation_score": curve[-1] if curve else 0.0,
            "examples_seen": len(curve),
        }
        if len(curve) == N_STAGES:
            return {**result, "done": True, "state": "complete", "score": round(curve[-1] - 0.01, 6)}
        return {**result, "done": False}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Store the state by candidate, as a cell's lies by key."""
        self._file("state").write_text(json.dumps(self._trained))

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: see ``step``."""
