"""The cell: unit of work, of identity and of resume."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

KEY_HEX = 16
"""Hex digits of a key: 64 bits, a collision among a million cells has a chance of 3e-8."""


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text.

    Floats are written by ``repr`` (shortest text that reads back to the same double); NaN and infinities are refused.

    Raises:
        ValueError: a value is not finite or not of a JSON type.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def digest(value: object) -> str:
    """First 16 hex digits of the SHA-256 of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:KEY_HEX]


@dataclass(frozen=True, kw_only=True)
class CellIdentity:
    """Everything that may change the number, and nothing else."""

    arch: str
    base_model: str
    base_revision: str
    task: str
    data: Mapping[str, object]
    """Fingerprint of the task's data: source, revision, split rule, caps, columns, labels, metric."""
    method: str
    hyperparameters: Mapping[str, object]
    seed: int
    recipe: str
    """Version of the training code's recipe; raised when the same settings would give another number."""

    @cached_property
    def key(self) -> str:
        """Identity as 16 hex digits."""
        return digest(asdict(self))

    @cached_property
    def settings(self) -> str:
        """16 hex of what two cells must share to be compared: all but base model, task and seed."""
        rule = {name: self.data.get(name) for name in ("split_rule", "caps")}
        return digest([self.arch, rule, self.method, dict(self.hyperparameters), self.recipe])

    @cached_property
    def series(self) -> str:
        """16 hex of the settings but the cap on training rows: studies of the training size compare within a series."""
        caps = self.data.get("caps")
        others = {name: cap for name, cap in caps.items() if name != "train"} if isinstance(caps, Mapping) else caps
        rule = [self.data.get("split_rule"), others]
        return digest([self.arch, rule, self.method, dict(self.hyperparameters), self.recipe])
