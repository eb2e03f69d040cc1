"""Untrusted names as file names and as text."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

from tracking.schema import file_name

LONGEST = 100
"""Characters of a name that its file name keeps."""
_RESERVED = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))})


def file_stems(names: Iterable[str]) -> dict[str, str]:
    """A file name without ending for each name, all different also where letters of either case are one.

    As ``tracking.schema.file_name`` has it ('/' becomes '_'). Where that is ambiguous among the names given ('a/b' and 'a_b'),
    too long, hidden, or reserved on Windows, 8 hex digits of the name's SHA-256 are added; so the stem of a name does not
    depend on the order of the names.
    """
    distinct = list(dict.fromkeys(names))
    plain = {name: file_name(name) for name in distinct}
    taken = Counter(stem.casefold() for stem in plain.values())
    return {name: stem if _usable(stem, taken) else marked_stem(name) for name, stem in plain.items()}


def marked_stem(name: str) -> str:
    """A file name without ending that no other name has: with 8 hex digits of the name's SHA-256."""
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    kept = file_name(name).lstrip(".-")[:LONGEST] or "unnamed"
    return f"{'_' if _reserved(kept) else ''}{kept}~{digest}"


def _usable(stem: str, taken: Counter[str]) -> bool:
    known_bad = not stem or stem.startswith((".", "-")) or len(stem) > LONGEST or _reserved(stem)
    return not known_bad and taken[stem.casefold()] == 1


def _reserved(stem: str) -> bool:
    return stem.casefold().split(".")[0] in _RESERVED


def visible(text: str) -> str:
    """A text in which nothing is hidden: control characters, direction marks and lone surrogates become their codes."""
    return "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in text)
