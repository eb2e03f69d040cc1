"""Modules are dealt whole, each part gets its share, and the seed decides."""

from collections import Counter

from ray_app.embedded.corpus import Passage
from ray_app.embedded.split import Part, split_corpus


def _corpus(library: str, n_modules: int) -> list[Passage]:
    return [
        Passage(
            library=library,
            module=f"{library}.m{module}",
            name="",
            kind="function",
            opening=True,
            sentences=(f"Sentence {module} {place} of the module is here.",) * (1 + module % 3),
        )
        for module in range(n_modules)
        for place in range(2)
    ]


def test_the_shares_add_up():
    assert sum(part.percent for part in Part) == 100
    assert {(part.role, part.split) for part in Part} == {
        (role, split) for role in ("source", "target") for split in ("train", "validation", "test")
    }


def test_every_module_is_in_one_part_and_every_part_has_its_share_of_every_library():
    corpus = _corpus("a", 300) + _corpus("b", 200)
    parts = split_corpus(corpus, seed=0)
    assert sum(len(passages) for passages in parts.values()) == len(corpus)
    owners = {(p.library, p.module): part for part, passages in parts.items() for p in passages}
    for part, passages in parts.items():
        assert all(owners[p.library, p.module] is part for p in passages)
        sizes = Counter[str]()
        for passage in passages:
            sizes[passage.library] += len(passage.sentences)
        for library in ("a", "b"):
            total = sum(len(p.sentences) for p in corpus if p.library == library)
            assert abs(sizes[library] - part.percent * total / 100) <= 6, "off by more than the largest module"


def test_the_split_follows_the_seed_and_not_the_order():
    corpus = _corpus("a", 100)
    parts = split_corpus(corpus, seed=0)
    again = split_corpus(corpus[::-1], seed=0)
    assert all({p.module for p in parts[part]} == {p.module for p in again[part]} for part in Part)
    other = split_corpus(corpus, seed=1)
    assert {p.module for p in parts[Part.TARGET_TEST]} != {p.module for p in other[Part.TARGET_TEST]}
