"""Which modules are whose: no text of a test is ever trained on, by pretraining or by any other task."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from enum import Enum

from ray_app.embedded.corpus import Passage


class Part(Enum):
    """Parts of the corpus; a module is in exactly one. Value: role, split, share of the sentences in percent."""

    SOURCE_TRAIN = ("source", "train", 45)
    SOURCE_VALIDATION = ("source", "validation", 5)
    SOURCE_TEST = ("source", "test", 8)
    TARGET_TRAIN = ("target", "train", 22)
    TARGET_VALIDATION = ("target", "validation", 7)
    TARGET_TEST = ("target", "test", 13)

    @property
    def role(self) -> str:
        """'source' or 'target'."""
        return self.value[0]

    @property
    def split(self) -> str:
        """'train', 'validation' or 'test'."""
        return self.value[1]

    @property
    def percent(self) -> int:
        """Share of the sentences."""
        return self.value[2]


def split_corpus(corpus: Sequence[Passage], *, seed: int) -> dict[Part, list[Passage]]:
    """The corpus by part, order kept.

    Within each library the modules go, in the order of a hash of their name and ``seed``, each to the part that lacks most
    sentences of its share; so every part has about its share of every library, and whole modules only.
    """
    sizes: dict[str, Counter[str]] = {}
    for passage in corpus:
        sizes.setdefault(passage.library, Counter())[passage.module] += len(passage.sentences)
    part_of = {
        (library, module): part
        for library, modules in sizes.items()
        for module, part in _deal(modules, salt=f"{seed}:{library}").items()
    }
    parts: dict[Part, list[Passage]] = {part: [] for part in Part}
    for passage in corpus:
        parts[part_of[passage.library, passage.module]].append(passage)
    return parts


def _deal(modules: Counter[str], *, salt: str) -> dict[str, Part]:
    """Part of each module of one library, given their numbers of sentences."""
    total = modules.total()
    missing = {part: part.percent * total / 100 for part in Part}
    dealt = {}
    for module in sorted(modules, key=lambda name: hashlib.sha256(f"{salt}:{name}".encode()).digest()):
        part = max(missing, key=lambda candidate: missing[candidate])
        missing[part] -= modules[module]
        dealt[module] = part
    return dealt
