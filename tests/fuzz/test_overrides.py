"""Command lines: whatever is typed, the configuration is printed or its faults are named."""

from __future__ import annotations

import dataclasses
import io
from contextlib import redirect_stderr, redirect_stdout
from functools import cache

from hypothesis import example, given
from hypothesis import strategies as st

from ray_app.__main__ import COMMANDS, main
from ray_app.config import GROUPS, known_names, load_config
from ray_app.variables import VARIABLES
from tests.fuzz.surface import fuzzed, inputs, refused, texts
from tests.fuzz.surface import seconds as spent

import time  # isort: skip


@cache
def known_paths() -> list[str]:
    """Dotted paths of every value that the configuration has."""
    found: list[str] = []

    def walk(value: object, path: str) -> None:
        for part in dataclasses.fields(value) if dataclasses.is_dataclass(value) else ():  # type: ignore[arg-type]
            found.append(f"{path}{part.name}")
            walk(getattr(value, part.name), f"{path}{part.name}.")

    walk(load_config([]), "")
    return found


values = st.one_of(
    texts,
    st.integers(-(2**65), 2**65).map(str),
    st.floats().map(str),
    st.sampled_from(
        [
            "[]",
            "{}",
            "[1,2]",
            "{a: 1}",
            "[[1]]",
            "[{id: org/x}]",
            "[{id: 1}]",
            "[{}]",
            "null",
            "true",
            "'a b'",
            "${seeds}",
        ]
    ),
    st.sampled_from(
        ["choice(1,2)", "range(1,3)", "glob(*)", "int('x')", "str(1)", "sort(1,2)", "shuffle(a,b)", "extend_list(1)"]
    ),
)
arguments = st.one_of(
    st.tuples(st.deferred(lambda: st.sampled_from([*VARIABLES, "ARGS", "NONE", "arch"])), values).map("=".join),
    st.tuples(st.deferred(lambda: st.sampled_from(known_paths())), values).map("=".join),
    st.tuples(st.sampled_from(GROUPS), st.deferred(lambda: st.sampled_from(known_names("arch")))).map("=".join),
    st.tuples(st.sampled_from(["+", "++", "~", ""]), st.deferred(lambda: st.sampled_from(known_paths()))).map("".join),
    st.tuples(st.deferred(lambda: st.sampled_from(known_paths())), texts, values).map(
        lambda part: f"{part[0]}.{part[1]}={part[2]}"
    ),
    texts,
)


@given(st.lists(arguments, min_size=1, max_size=3))
@example(["SEEDS=²"])
@example(["SEEDS=99999999999999"])
@example(["ARGS='"])
@example(["candidates.models.²=1"])
@example(["OUT=\ud800"])
@fuzzed(quick=25, share=0.5)
def test_the_configuration_is_printed_or_its_faults_are_named(given_arguments: list[str]) -> None:
    code, out, err = _run(["config", *given_arguments])
    assert code in (0, 2)
    assert bool(out) == (code == 0) and err.startswith("error: ") == (code == 2)
    assert "Traceback" not in err
    refused["command line"] += code == 2


@given(st.lists(texts, max_size=4))
@fuzzed(quick=25, share=1.0)
def test_a_command_that_is_none_is_named(given_arguments: list[str]) -> None:
    command, *rest = given_arguments or [""]
    if command in (*COMMANDS, "help", "-h", "--help"):
        return
    code, _, err = _run([command, *rest])
    assert code == 2 and "no such command" in err
    refused["command line"] += 1


def _run(command: list[str]) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    begun = time.perf_counter()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(command)
    inputs["command line"] += 1
    spent["command line"] += time.perf_counter() - begun
    out.getvalue().encode(), err.getvalue().encode()  # a terminal takes UTF-8
    return code, out.getvalue(), err.getvalue()
