"""Untrusted names (models, architectures) as file names and as text."""

from __future__ import annotations

import hashlib
import re

LONGEST = 100
"""Characters of a name that its file name keeps."""
_ODD = re.compile(r"[^A-Za-z0-9_\-.]")
_RESERVED = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))})


def file_name(name: str) -> str:
    """A file name without ending that no other name has, safe on every system.

    '/' becomes '_', as on the model-recycling site. Where that alone would be ambiguous ('a_b' beside 'a/b'), or the name is odd,
    too long, hidden or reserved on Windows, 8 hex digits of its SHA-256 are added. So the file name of a name does not depend on
    what other names there are.

    >>> file_name("google/t5-v1_1-base"), file_name("t5-small")
    ('google_t5-v1_1-base', 't5-small')
    >>> file_name("a_b")
    'a_b~648fa9b3'
    """
    stem = slashes_as_underscores(name)
    owner, slash, rest = name.rpartition("/")
    # the first '_' of an unmarked file name is the slash, so that no two names have the same
    is_plain = _ODD.sub("", owner + rest) == owner + rest and "_" not in (owner if slash else rest)
    return stem if is_plain and is_usable(stem) else marked_stem(name)


def slashes_as_underscores(name: str) -> str:
    """The name with '/' and anything odd as '_': not unique, and not always usable as a file name."""
    return _ODD.sub("_", name)


def marked_stem(name: str) -> str:
    """A file name without ending that no other name has: with 8 hex digits of the name's SHA-256."""
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    kept = slashes_as_underscores(name).lstrip(".-")[:LONGEST] or "unnamed"
    return f"{'_' if _is_reserved(kept) else ''}{kept}~{digest}"


def is_usable(stem: str) -> bool:
    """False for a file name that is empty, hidden, too long, taken for an option, or reserved on Windows."""
    known_bad = not stem or stem.startswith((".", "-")) or stem.endswith(".") or len(stem) > LONGEST
    return not known_bad and not _is_reserved(stem)


def _is_reserved(stem: str) -> bool:
    return stem.casefold().split(".")[0] in _RESERVED


def visible(text: str) -> str:
    """A text in which nothing is hidden: control characters, direction marks and lone surrogates become their codes."""
    return "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in text)


def visible_lines(text: str) -> str:
    """As ``visible``, but lines stay lines."""
    return "\n".join(visible(line) for line in text.split("\n"))
