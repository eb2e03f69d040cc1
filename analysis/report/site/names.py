"""File names of the pages of many names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tracking.names import is_usable, marked_stem, slashes_as_underscores


def file_stems(names: Iterable[str]) -> dict[str, str]:
    """A file name without ending for each name, all different also where letters of either case are one.

    '/' becomes '_', as on the model-recycling site. Where that is ambiguous among the names given ('a/b' and 'a_b'), too long,
    hidden, or reserved on Windows, 8 hex digits of the name's SHA-256 are added; so the stem of a name does not depend on the
    order of the names.
    """
    distinct = list(dict.fromkeys(names))
    plain = {name: slashes_as_underscores(name) for name in distinct}
    taken = Counter(stem.casefold() for stem in plain.values())
    return {
        name: stem if is_usable(stem) and taken[stem.casefold()] == 1 else marked_stem(name)
        for name, stem in plain.items()
    }
