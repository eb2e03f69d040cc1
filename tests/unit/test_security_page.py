"""docs/security.md: every test that it names exists, and every kind of claim has one."""

from __future__ import annotations

import ast
import re

import pytest

from tests.unit.test_architecture import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)))


def test_the_page_names_its_tests() -> None:
    assert len(NAMED) > 35
    assert PAGE.count("| test |") == 3


@pytest.mark.parametrize(("file", "test"), NAMED, ids=[f"{file}::{test}" for file, test in NAMED])
def test_a_named_test_exists(file: str, test: str) -> None:
    path = ROOT / file
    assert path.is_file(), f"{file} is named in docs/security.md and is not there"
    functions = {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
    assert not test or test in functions, f"{file} has no {test}"


def test_every_row_of_the_tables_of_attempts_has_a_test() -> None:
    rows = [
        line
        for line in PAGE.partition("| surface")[0].splitlines()  # what follows is what was fuzzed
        if line.startswith("| ") and not line.startswith(("| who", "| attempt", "| place"))
    ]
    after_people = [line for line in rows if "tests/" in line]
    assert len(after_people) >= 20
    people = [line for line in rows if "tests/" not in line]
    assert all(line.count("|") == 4 for line in people), people
