"""A library made for the tests: its docstrings are known, so every label can be checked by reading."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_app.embedded.corpus import Passage

NOUNS = (
    "array",
    "row",
    "column",
    "table",
    "graph",
    "node",
    "edge",
    "label",
    "model",
    "path",
    "file",
    "folder",
    "value",
    "number",
    "list",
    "index",
    "name",
    "key",
)
VERBS = (
    "returns",
    "keeps",
    "sorts",
    "counts",
    "reads",
    "writes",
    "copies",
    "drops",
    "joins",
    "scales",
    "checks",
    "moves",
)


def sentences_of(start: int, count: int) -> list[str]:
    """Different English-like sentences, each with a verb that has a number and two prepositions."""
    made = []
    for place in range(start, start + count):
        noun, other = NOUNS[place % len(NOUNS)], NOUNS[(place // 7 + 3) % len(NOUNS)]
        verb = VERBS[(place // 3) % len(VERBS)]
        tag = "".join(chr(97 + int(digit)) for digit in str(place))
        made.append(f"The {noun} named {tag} {verb} the {other} and is part of it in time.")
    return made


@pytest.fixture
def passages() -> list[Passage]:
    """120 passages of two sentences, in 30 modules of the library networkx."""
    return [
        Passage(
            library="networkx",
            module=f"networkx.algorithms.m{number // 4}",
            name=f"f{number}",
            kind=("class", "function", "method")[number % 3],
            opening=True,
            sentences=tuple(sentences_of(2 * number, 2)),
        )
        for number in range(120)
    ]


@pytest.fixture
def tiny_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Import name of an installed library of 40 modules; importing it would fail."""
    root = tmp_path / "site" / "tinylib"
    root.mkdir(parents=True)
    (root / "__init__.py").write_text(
        '"""The library made for the tests of the corpus."""\nraise RuntimeError("imported")\n'
    )
    for number in range(40):
        blocks = [f'"""Module number {number} opens with words about {NOUNS[number % len(NOUNS)]} things."""\n']
        for place in range(6):
            first, second = sentences_of(12 * number + 2 * place, 2)
            blocks.append(f'def f{place}():\n    """{first} {second}"""\n')
        (root / f"m{number}.py").write_text("\n".join(blocks))
    info = tmp_path / "site" / "tinylib-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tinylib\nVersion: 1.5\n")
    (info / "top_level.txt").write_text("tinylib\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return "tinylib"
