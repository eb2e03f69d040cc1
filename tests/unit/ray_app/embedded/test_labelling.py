"""Labels are right by construction: each can be told again from the text that a row was made of."""

import numpy as np
import pytest

from ray_app.embedded import labelling
from ray_app.embedded.corpus import Passage


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _originals(passages) -> set[str]:
    return {sentence for passage in passages for sentence in passage.sentences}


def _one(*sentences: str, **other: object) -> Passage:
    stated = {"library": "scipy", "module": "scipy.m", "name": "f", "kind": "function", "opening": True, **other}
    return Passage(sentences=sentences, **stated)


def test_shuffled_keeps_the_words_and_the_ends(passages):
    rows = list(labelling.shuffled(passages, _rng()))
    originals = _originals(passages)
    by_words = {tuple(sorted(sentence.split())): sentence for sentence in originals}
    assert {label for _, label in rows} == {0, 1}
    for (text,), label in rows:
        assert (text in originals) == (label == 0)
        source = by_words[tuple(sorted(text.split()))].split()
        assert (text.split()[0], text.split()[-1]) == (source[0], source[-1])


def test_swapped_moves_one_neighbouring_pair_inside(passages):
    by_words = {tuple(sorted(sentence.split())): sentence.split() for sentence in _originals(passages)}
    rows = list(labelling.swapped(passages, _rng()))
    assert {label for _, label in rows} == {0, 1}
    for (text,), label in rows:
        words = text.split()
        source = by_words[tuple(sorted(words))]
        moved = [place for place in range(len(words)) if words[place] != source[place]]
        if label == 0:
            assert moved == []
        else:
            first, second = moved
            assert second == first + 1 and first >= 1 and second <= len(words) - 2
            assert (words[first], words[second]) == (source[second], source[first])


def test_replaced_changes_exactly_one_inner_word(passages):
    rows = list(labelling.replaced(passages, _rng()))
    sources = [sentence.split() for sentence in sorted(_originals(passages))]
    assert {label for _, label in rows} == {0, 1}
    for (text,), label in rows:
        words = text.split()
        closest = min(
            sum(a != b for a, b in zip(words, source, strict=True)) for source in sources if len(source) == len(words)
        )
        assert closest == label


def test_agreement_flips_the_number_of_one_verb(passages):
    rows = list(labelling.agreement([*passages, _one("Nothing that could be flipped stands here.")], _rng()))
    originals = _originals(passages)
    assert {label for _, label in rows} == {0, 1}
    for (text,), label in rows:
        assert (text in originals) == (label == 0)
        assert (text.replace(" are ", " is ") in originals) and ((" are " in text) == (label == 1))


def test_the_gap_stands_for_the_preposition(passages):
    rows = list(labelling.missing_preposition(passages, _rng()))
    originals = _originals(passages)
    assert len(rows) == len(originals)
    for (text,), label in rows:
        assert text.split().count(labelling.GAP) == 1
        assert text.replace(labelling.GAP, labelling.PREPOSITIONS[label]) in originals


def test_follows_is_true_of_neighbours_only(passages):
    neighbours = {passage.sentences for passage in passages}
    module_of = {sentence: passage.module for passage in passages for sentence in passage.sentences}
    rows = list(labelling.follows(passages, _rng()))
    assert {label for _, label in rows} == {0, 1}
    for (first, second), label in rows:
        assert ((first, second) in neighbours) == (label == 1)
        if label == 0:
            assert module_of[first] != module_of[second]


def test_which_first_is_the_order_of_the_text(passages):
    neighbours = {passage.sentences for passage in passages}
    rows = list(labelling.which_first(passages, _rng()))
    assert len(rows) == len(passages)
    assert {label for _, label in rows} == {0, 1}
    for pair, label in rows:
        assert (pair if label == 0 else pair[::-1]) in neighbours


def test_no_sentence_is_in_two_pairs():
    passage = _one(*(f"Sentence number {word} is in this passage." for word in ("one", "two", "three", "four", "five")))
    rows = list(labelling.which_first([passage], _rng()))
    used = [sentence for pair, _ in rows for sentence in pair]
    assert len(used) == len(set(used)) == 4


def test_library_and_field_leave_out_sentences_that_name_a_library():
    passages = [
        _one("Solve the given system of equations.", "Unlike NumPy this one keeps the order."),
        _one("Plot the given lines in one color.", library="matplotlib", module="matplotlib.axes"),
        _one("Open the given file for reading only.", library="python", module="os"),
        _one("Find the shortest path between two nodes.", library="networkx", module="networkx.algorithms.paths"),
    ]
    assert list(labelling.by_library(passages, _rng())) == [
        (("Solve the given system of equations.",), labelling.LIBRARIES.index("scipy")),
        (("Plot the given lines in one color.",), labelling.LIBRARIES.index("matplotlib")),
        (("Find the shortest path between two nodes.",), labelling.LIBRARIES.index("networkx")),
    ]
    assert list(labelling.by_field(passages, _rng())) == [
        (("Find the shortest path between two nodes.",), labelling.FIELDS.index("graphs"))
    ]


def test_kind_takes_opening_sentences_only():
    passages = [
        _one("A box that holds things.", "It can be opened.", kind="class"),
        _one("This one does not open its docstring.", kind="method", opening=False),
        _one("The module is not one of the kinds.", kind="module"),
    ]
    assert list(labelling.by_kind(passages, _rng())) == [
        (("A box that holds things.",), labelling.KINDS.index("class"))
    ]


@pytest.mark.parametrize(
    "label", ["shuffled", "swapped", "replaced", "agreement", "missing_preposition", "follows", "which_first"]
)
def test_rows_follow_the_seed(label, passages):
    function = getattr(labelling, label)
    assert list(function(passages, _rng())) == list(function(passages, _rng()))
    assert list(function(passages, _rng())) != list(function(passages, np.random.default_rng(1)))
    assert list(function([], _rng())) == []
