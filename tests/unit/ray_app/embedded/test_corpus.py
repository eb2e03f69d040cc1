"""Which docstrings are read, in which order, with which provenance; nothing twice."""

from pathlib import Path

import pytest

from ray_app.embedded.corpus import (
    Passage,
    build_corpus,
    library_versions,
    read_corpus,
    read_passages,
    sentence_key,
    write_corpus,
)
from tracking.errors import InputError

SOURCE = '''
"""The module says what it is for."""

class Box:
    """A box that holds things of any kind. Boxes can be nested as deep as you like."""

    def open(self):
        """Open the box and look inside of it."""

        def helper():
            """This one is hidden within a function body."""

if True:
    async def ship(box):
        x = 1
        """This string is no docstring of anything here."""

    def weigh(box):
        """short

        The weight is given in kilograms, not pounds.
        """
'''


def _said(passages: list[Passage]) -> list[tuple[str, str, bool, tuple[str, ...]]]:
    return [(passage.name, passage.kind, passage.opening, passage.sentences) for passage in passages]


def test_every_docstring_is_read_with_its_place():
    assert _said(read_passages(SOURCE, library="lib", module="lib.box")) == [
        ("", "module", True, ("The module says what it is for.",)),
        (
            "Box",
            "class",
            True,
            ("A box that holds things of any kind.", "Boxes can be nested as deep as you like."),
        ),
        ("Box.open", "method", True, ("Open the box and look inside of it.",)),
        ("weigh", "function", False, ("The weight is given in kilograms, not pounds.",)),
    ]


@pytest.mark.parametrize(
    "source", ["", "x = 1", '"""unfinished', "def f(:\n  '''Nothing here can be parsed at all.'''", '"""\0"""']
)
def test_sources_without_readable_docstrings_give_nothing(source):
    assert read_passages(source, library="lib", module="lib.m") == []


def test_an_installed_library_is_read_without_importing_it(tiny_library):
    corpus = build_corpus(max_bytes=10**6, libraries=[tiny_library])
    assert len({passage.module for passage in corpus}) == 41
    assert {passage.library for passage in corpus} == {tiny_library}
    assert corpus == build_corpus(max_bytes=10**6, libraries=[tiny_library])


def test_a_limit_takes_whole_files_of_the_same_order(tiny_library):
    whole = build_corpus(max_bytes=10**6, libraries=[tiny_library])
    part = build_corpus(max_bytes=2000, libraries=[tiny_library])
    assert part == whole[: len(part)]
    assert 2000 <= sum(len(sentence) for passage in part for sentence in passage.sentences) < 4000
    assert part[-1].module != whole[len(part)].module


def test_no_sentence_comes_twice_and_a_repeat_cuts_its_passage(tiny_library, tmp_path):
    root = tmp_path / "site" / "tinylib"
    for path in root.glob("m*.py"):
        path.unlink()
    for name, shared in (
        ("one", "The value 1 is the same everywhere!"),
        ("two", "THE value 2 is the same everywhere."),
    ):
        text = f"This is the first of module {name}. {shared} And this ends the text of {name}."
        (root / f"{name}.py").write_text(f'"""{text}"""\n')
    corpus = build_corpus(max_bytes=10**6, libraries=[tiny_library])
    keys = [sentence_key(sentence) for passage in corpus for sentence in passage.sentences]
    assert len(keys) == len(set(keys))
    lengths = sorted(len(passage.sentences) for passage in corpus if passage.module != "tinylib")
    assert lengths == [1, 1, 3]
    assert sorted(passage.opening for passage in corpus if len(passage.sentences) == 1) == [False, True, True]


def test_a_library_that_is_not_there_is_named():
    with pytest.raises(InputError, match="'no_such_library' is not installed"):
        build_corpus(max_bytes=1000, libraries=["no_such_library"])
    with pytest.raises(InputError, match="'no_such_library' is not installed"):
        library_versions(["no_such_library"])


def test_libraries_without_prose_are_refused(tiny_library, tmp_path):
    for path in (tmp_path / "site" / "tinylib").glob("*.py"):
        path.write_text("x = 1\n")
    with pytest.raises(InputError, match="no prose"):
        build_corpus(max_bytes=1000, libraries=[tiny_library])


def test_versions_are_those_of_the_metadata(tiny_library):
    import platform

    assert library_versions([tiny_library, "python"]) == {"tinylib": "1.5", "python": platform.python_version()}


def test_a_stored_corpus_comes_back_only_for_its_key(passages, tmp_path: Path):
    path = tmp_path / "corpus.parquet"
    assert read_corpus(path, key="k") is None
    write_corpus(passages, path, key="k")
    assert read_corpus(path, key="k") == passages
    assert read_corpus(path, key="other") is None
    path.write_bytes(path.read_bytes()[:-20])
    assert read_corpus(path, key="k") is None
