"""How much is tried on each surface: a little in the ordinary tests, EXAMPLES inputs each in the long run (`make fuzz`)."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from tracking.errors import StartlineError

_Test = TypeVar("_Test", bound=Callable[..., object])
LONG = int(os.environ.get("EXAMPLES", "0"))
"""Inputs a surface in the long run; 0: the quick run of the ordinary tests."""
inputs: Counter[str] = Counter()
"""Surface -> inputs tried."""
refused: Counter[str] = Counter()
"""Surface -> inputs that were refused with an error of our own."""
seconds: Counter[str] = Counter()
"""Surface -> time, s."""


def fuzzed(*, quick: int, share: float = 1.0) -> Callable[[_Test], _Test]:
    """Settings of one fuzz test.

    Args:
        quick: inputs in the ordinary tests, the same ones each time.
        share: part of EXAMPLES that this test takes in the long run, whose inputs are drawn anew each time.
    """
    return settings(
        max_examples=max(1, int(LONG * share)) if LONG else quick,
        derandomize=not LONG,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


@contextmanager
def user_sees(surface: str) -> Iterator[None]:
    """Count one input; an error of our own is an outcome, any other is the traceback that no user may see."""
    inputs[surface] += 1
    begun = time.perf_counter()
    try:
        yield
    except StartlineError as error:
        refused[surface] += 1
        assert error.message.strip(), f"{type(error).__name__} says nothing"
        assert error.exit_code in (2, 3)
    finally:
        seconds[surface] += time.perf_counter() - begun


HOSTILE = [
    "", " ", "nan", "NaN", "inf", "-inf", "1e999", "-1", "0", "1e-320", "None", "null", "true", "9" * 400, "\0", "\n", "\r\n", "\t", "'",
    '"', "\\", "../../x", "/etc/passwd", "=1+1", "<script>alert(1)</script>", "[/red]", "{}", "[]", "${x}", "${oc.env:HOME}", "%00", "%s",
    "\ud800", "\u202e", "é" * 50, "𝔘", "٣", "²", "x" * 10_000, "0x10", "1_000", "+5", "1.5", "a,b", "a;b", "a=b", "~a", "++a=1", "a@b",
]  # fmt: skip
"""Texts that have broken parsers before."""

texts = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=20))
"""Hostile and arbitrary texts."""

plain_json = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(max_size=12),
        st.sampled_from(HOSTILE[:40]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=8,
)
"""Any JSON value."""


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes cut short, with some changed, repeated, removed or put in; sometimes all others."""
    kind = draw(st.sampled_from(["cut", "change", "insert", "remove", "repeat", "zero", "other"]))
    at = draw(st.integers(0, max(0, len(whole) - 1)))
    length = draw(st.sampled_from([1, 2, 8, 64, 1000]))
    if kind == "cut":
        return whole[:at]
    if kind == "change":
        return whole[:at] + draw(st.binary(min_size=1, max_size=8)) + whole[at + 8 :]
    if kind == "insert":
        return whole[:at] + draw(st.binary(min_size=1, max_size=64)) + whole[at:]
    if kind == "remove":
        return whole[:at] + whole[at + length :]
    if kind == "repeat":
        return whole[: at + length] + whole[at:]
    if kind == "zero":
        return whole[:at] + bytes(min(length, len(whole) - at)) + whole[at + length :]
    return draw(st.binary(max_size=200))
