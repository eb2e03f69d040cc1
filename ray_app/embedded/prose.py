"""From a docstring to English prose: runs of consecutive sentences, without code, tables and markup."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field

MIN_WORDS = 5
"""Shorter sentences say too little to be labelled."""
MAX_WORDS = 40
"""Longer ones are mostly lists, and do not fit the model's rows."""
_WORD_SHARE = 0.8
"""Least share of a sentence's tokens that have to be plain words."""

_UNDERLINE = re.compile(r"^\s*([=\-~^*+#\"'.`_])\1{2,}\s*$")
_DIRECTIVE = re.compile(r"^\s*\.\.(\s|$)")
_ADMONITION = re.compile(r"^\s*\.\. (note|warning|tip|important|caution|hint|seealso)::\s*(.*)$", re.IGNORECASE)
_BULLET = re.compile(r"^\s*([-*+•]|\(?(\d+|[a-zA-Z]|[ivx]+)[.)])\s+\S")
_FIELD = re.compile(r"^\s*[:@]\w[^:]*:")
_ENTRY = re.compile(r"^\s*[*`]*[\w.]+[*`]*(,\s*[*`]*[\w.]+[*`]*)*(\s+:\s|\s*\([^)]*\)\s*:|\s*:\s*$)")
_TABLE = re.compile(r"^\s*(\||\+[-=+]+|=+\s+=+)|\S {3,}\S")
_DOCTEST = re.compile(r"^\s*(>>>|\.\.\. |In \[\d+\]:|\$ )")
_TABLE_SECTIONS = re.compile(
    r"^(other )?(parameters?|arguments?|args|keyword arguments|returns?|yields?|receives|raises|warns|attributes|methods"
    r"|properties|options|inputs?|outputs?)$"
)
_SKIPPED_SECTIONS = frozenset({"references", "see also", "routine listings"})
_GOOGLE_HEADING = re.compile(
    r"^\s*((\w+ )?(args|arguments|parameters|returns?|yields?|raises|attributes|examples?"
    r"|shape|usage|inputs?|outputs?|params|references|see also|todo|kwargs)):+\s*$",
    re.IGNORECASE,
)

_MARKUP: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r":[\w:+-]+:`[~!]?(?:[^`<]*\.)?([^`<.]+?)\s*(?:<[^>`]*>)?`"), r"\1"),
    (re.compile(r"``([^`]+)``"), r"\1"),
    (re.compile(r"`([^`<]+?)\s*<[^>`]*>`_{1,2}"), r"\1"),
    (re.compile(r"`([^`]+)`_{0,2}"), r"\1"),
    (re.compile(r"(?<!\w)\*\*(\S[^*]*?)\*\*(?!\w)"), r"\1"),
    (re.compile(r"(?<!\w)\*(\S[^*]*?)\*(?!\w)"), r"\1"),
    (re.compile(r"\s*\[[\w#*-]+\]_"), ""),
    (re.compile(r"(?<=[a-z])_(?=[\s.,;:)])"), ""),
    (re.compile(r"\s+"), " "),
)
_ABBREVIATION = re.compile(
    r"\b(e\.g|i\.e|cf|etc|vs|eq|eqs|fig|figs|sec|ref|refs|al|approx|resp|no|dr|prof|ch|vol|pp|p)\.$", re.IGNORECASE
)
_BOUNDARY = re.compile(r"(?<=[.!?])\)?\s+(?=[\"'(]?[A-Z])")
_FORBIDDEN = re.compile(r"[{}<>|\\$=^~@\[\]`*/_%#&]|::|https?:|www\.|\bTODO\b|[^\x20-\x7e]")
_PLAIN_WORD = re.compile(r"^[\"'(]*[A-Za-z][A-Za-z'-]*[\"')]*[,;:.!?]*[\"')]*$")
_SENTENCE_SHAPE = re.compile(r"^[A-Z].*[A-Za-z)\"'0-9][.!?]$")


@dataclass(kw_only=True)
class _Reader:
    """State while the lines of one docstring are read: finished paragraphs (None marks dropped material), and the open one."""

    paragraphs: list[str | None] = field(default_factory=list)
    open_lines: list[str] = field(default_factory=list)
    open_indent: int = 0
    skip_deeper: int | None = None
    in_table: bool = False
    skip_section: bool = False
    skip_block: bool = False

    def close(self) -> None:
        """End the open paragraph."""
        if self.open_lines:
            self.paragraphs.append(" ".join(self.open_lines))
            self.open_lines = []

    def drop(self) -> None:
        """End the open paragraph and remember that something was left out after it."""
        self.close()
        if self.paragraphs and self.paragraphs[-1] is not None:
            self.paragraphs.append(None)


def prose_runs(docstring: str) -> list[list[str]]:
    """Runs of consecutive clean sentences of a docstring; a run ends wherever something was left out.

    Args:
        docstring: as written in the source, with or without its indentation; reStructuredText, numpydoc or Google style.
    """
    runs: list[list[str]] = [[]]
    for paragraph in _paragraphs(docstring):
        if paragraph is None:
            runs.append([])
            continue
        for sentence in split_sentences(_without_markup(paragraph)):
            if is_prose(sentence):
                runs[-1].append(sentence)
            elif runs[-1]:
                runs.append([])
    return [run for run in runs if run]


def is_prose(sentence: str) -> bool:
    """Whether a sentence is complete, of usual length, and made of words (no code, formula, address or markup left)."""
    words = sentence.split()
    if not MIN_WORDS <= len(words) <= MAX_WORDS or not _SENTENCE_SHAPE.match(sentence) or _FORBIDDEN.search(sentence):
        return False
    return sum(1 for word in words if _PLAIN_WORD.match(word)) >= _WORD_SHARE * len(words)


def split_sentences(text: str) -> list[str]:
    """Sentences of one paragraph, cut after . ! ? before a capital, but not after abbreviations such as 'e.g.'."""
    sentences: list[str] = []
    for piece in _BOUNDARY.split(text):
        if sentences and _ABBREVIATION.search(sentences[-1]):
            sentences[-1] += " " + piece
        else:
            sentences.append(piece)
    return [sentence.strip() for sentence in sentences if sentence.strip()]


def _without_markup(text: str) -> str:
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return text.strip()


def _paragraphs(docstring: str) -> list[str | None]:
    lines = inspect.cleandoc(docstring).splitlines()
    reader = _Reader()
    for number, line in enumerate(lines):
        if number + 1 < len(lines) and line.strip() and _UNDERLINE.match(lines[number + 1]):
            reader.drop()
            reader.skip_deeper, reader.skip_block = None, False
            heading = line.strip().rstrip(":").lower()
            reader.in_table = bool(_TABLE_SECTIONS.match(heading))
            reader.skip_section = heading in _SKIPPED_SECTIONS
        elif not _UNDERLINE.match(line):
            _read_line(reader, line)
    reader.close()
    return reader.paragraphs


def _read_line(reader: _Reader, line: str) -> None:
    if not line.strip():
        reader.close()
        reader.skip_block = False
        return
    indent = len(line) - len(line.lstrip())
    if reader.skip_deeper is not None and indent <= reader.skip_deeper:
        reader.skip_deeper = None
    if reader.skip_section or reader.skip_block or reader.skip_deeper is not None:
        return
    admonition = _ADMONITION.match(line)
    if admonition:
        reader.drop()
        line = admonition.group(2)
        if not line:
            return
    if _ENTRY.match(line) or _FIELD.match(line) or (reader.in_table and indent == 0):
        reader.drop()
        return
    if _is_structure(line):
        reader.drop()
        reader.skip_block = bool(_DOCTEST.match(line))
        reader.skip_deeper = indent
        return
    if reader.open_lines and indent != reader.open_indent:
        reader.close()
    reader.open_indent = indent
    reader.open_lines.append(line.strip())
    if line.rstrip().endswith("::"):
        reader.drop()
        reader.skip_deeper = indent


def _is_structure(line: str) -> bool:
    """Lines that are not prose: directives, list items, fields, table rows, entries of parameter lists, doctests."""
    patterns = (_DOCTEST, _DIRECTIVE, _BULLET, _FIELD, _ENTRY, _GOOGLE_HEADING)
    return any(pattern.match(line) for pattern in patterns) or bool(_TABLE.search(line))
