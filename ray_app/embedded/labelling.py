"""Rows labelled by the text itself. Each function yields (texts, class id) in the order of the text; chance comes from ``rng``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ray_app.embedded.corpus import Passage

Row = tuple[tuple[str, ...], int]
LIBRARIES = ("scipy", "sklearn", "pandas", "numpy", "networkx", "sympy", "matplotlib", "sqlalchemy")
"""Classes of doc_library."""
PREPOSITIONS = ("of", "in", "to", "for", "with", "by")
"""Classes of doc_preposition."""
KINDS = ("class", "function", "method")
"""Classes of doc_kind."""
GAP = "___"
"""Stands where a word was taken out."""
_FIELD_MODULES = {
    "graphs": ("networkx.algorithms",),
    "physics": ("sympy.physics",),
    "algebra": (
        "sympy.polys",
        "sympy.solvers",
        "sympy.core",
        "sympy.combinatorics",
        "sympy.matrices",
        "sympy.functions",
    ),
    "tables": ("pandas.core",),
    "databases": ("sqlalchemy.sql", "sqlalchemy.orm", "sqlalchemy.engine", "sqlalchemy.dialects"),
    "learning": (
        "sklearn.linear_model",
        "sklearn.ensemble",
        "sklearn.cluster",
        "sklearn.decomposition",
        "sklearn.metrics",
    ),
}
FIELDS = tuple(_FIELD_MODULES)
"""Classes of doc_field."""
_VERB_PAIRS = {
    "is": "are",
    "are": "is",
    "has": "have",
    "have": "has",
    "was": "were",
    "were": "was",
    "does": "do",
    "do": "does",
}
_LIBRARY_NAME = re.compile(
    r"scipy|scikit|sklearn|pandas|numpy|networkx|sympy|matplotlib|sqlalchemy|pyplot|\bpython|dataframe|\bSQL",
    re.IGNORECASE,
)
_WORD = re.compile(r"[A-Za-z]+")


def by_library(passages: Sequence[Passage], rng: np.random.Generator) -> Iterator[Row]:
    """Which library a sentence is from; sentences that name a library are left out."""
    for passage in passages:
        if passage.library in LIBRARIES:
            for sentence in passage.sentences:
                if not _LIBRARY_NAME.search(sentence):
                    yield (sentence,), LIBRARIES.index(passage.library)


def by_kind(passages: Sequence[Passage], rng: np.random.Generator) -> Iterator[Row]:
    """What the docstring that a sentence opens belongs to."""
    for passage in passages:
        if passage.opening and passage.kind in KINDS:
            yield (passage.sentences[0],), KINDS.index(passage.kind)


def by_field(passages: Sequence[Passage], rng: np.random.Generator) -> Iterator[Row]:
    """The field of work, told from the module; sentences that name a library are left out."""
    for passage in passages:
        for label, prefixes in enumerate(_FIELD_MODULES.values()):
            if passage.module.startswith(prefixes):
                for sentence in passage.sentences:
                    if not _LIBRARY_NAME.search(sentence):
                        yield (sentence,), label


def shuffled(passages: Sequence[Passage], rng: np.random.Generator) -> Iterator[Row]:
    """Half of the sentences have their inner words in random order; the first and last word stay."""

    def shuffle(words: list[str]) -> list[str]:
        inner = words[1:-1]
        return [words[0], *(inner[index] for index in rng.permutation(len(inner))), words[-1]]

    return _corrupted(passages, rng, shuffle)


def swapped(passages: Sequence[Passage], rng: np.random.Generator) -> Iterator[Row]:
    """Half of the sentences have two neighbouring inner words swapped."""

    def swap(words: list[str]) -> list[str]:
        place = int(rng.integers(1, len(words) - 2))
        return [*words[:place], words[place + 1], words[place], *words[place + 2 :]]

    return _corrupted(passages, rng, swap)


def replaced(passages: Sequence[Passage], rng: np.random.Generator) -> Iterator[Row]:
    """Half of the sentences have one inner word replaced by one that stands anywhere in the text."""
    pool = [
        word
        for passage in passages
        for sentence in passage.sentences
        for word in sentence.split()[1:-1]
        if word.isalpha()
    ]

    def replace(words: list[str]) -> list[str]:
        places = [place for place in range(1, len(words) - 1) if words[place].isalpha()]
        if not places:
            return words
        place = places[int(rng.integers(len(places)))]
        return [*words[:place], pool[int(rng.integers(len(pool)))], *words[place + 1 :]]

    return _corrupted(passages, rng, replace)


def agreement(passages: Sequence[Passage], rng: np.random.Generator) -> Iterator[Row]:
    """Half of the sentences with is, are, has, ... have one such verb in the wrong number."""

    def flip(words: list[str]) -> list[str]:
        places = [place for place, word in enumerate(words) if word in _VERB_PAIRS]
        if not places:
            return words
        place = places[int(rng.integers(len(places)))]
        return [*words[:place], _VERB_PAIRS[words[place]], *words[place + 1 :]]

    return _corrupted(passages, rng, flip, only_if=lambda words: any(word in _VERB_PAIRS for word in words))


def missing_preposition(passages: Sequence[Passage], rng: np.random.Generator) -> Iterator[Row]:
    """Which preposition stood where the gap is."""
    for passage in passages:
        for sentence in passage.sentences:
            words = sentence.split()
            places = [place for place, word in enumerate(words) if word in PREPOSITIONS]
            if places:
                place = places[int(rng.integers(len(places)))]
                text = " ".join([*words[:place], GAP, *words[place + 1 :]])
                yield (text,), PREPOSITIONS.index(words[place])


def follows(passages: Sequence[Passage], rng: np.random.Generator) -> Iterator[Row]:
    """Whether the second sentence directly follows the first, or is from another module of the same library."""
    others: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for passage in passages:
        others[passage.library] += [(passage.module, sentence) for sentence in passage.sentences[1:]]
    for passage in passages:
        for first, second in _neighbours(passage):
            if rng.random() < 0.5:
                yield (first, second), 1
                continue
            pool = others[passage.library]
            module, sentence = pool[int(rng.integers(len(pool)))]
            if module != passage.module:
                yield (first, sentence), 0


def which_first(passages: Sequence[Passage], rng: np.random.Generator) -> Iterator[Row]:
    """Whether two neighbouring sentences stand in their order or reversed."""
    for passage in passages:
        for first, second in _neighbours(passage):
            if rng.random() < 0.5:
                yield (first, second), 0
            else:
                yield (second, first), 1


def _neighbours(passage: Passage) -> Iterator[tuple[str, str]]:
    """Pairs of consecutive sentences; no sentence is in two pairs."""
    for place in range(0, len(passage.sentences) - 1, 2):
        yield passage.sentences[place], passage.sentences[place + 1]


def _corrupted(
    passages: Sequence[Passage],
    rng: np.random.Generator,
    corrupt: Callable[[list[str]], list[str]],
    only_if: Callable[[list[str]], bool] = lambda words: len(words) >= 6,
) -> Iterator[Row]:
    """Each fit sentence once: as it is (class 0), or corrupted (class 1) where that changes it."""
    for passage in passages:
        for sentence in passage.sentences:
            words = sentence.split()
            if not only_if(words):
                continue
            if rng.random() < 0.5:
                yield (sentence,), 0
                continue
            changed = " ".join(corrupt(words))
            if changed.lower() != sentence.lower():
                yield (changed,), 1
