"""English that every installation already holds: docstrings of installed libraries, as clean sentences with provenance."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import platform
import re
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ray_app.embedded.prose import prose_runs
from tracking.errors import InputError

PYTHON = "python"
"""Name under which the standard library goes."""
_SKIPPED_FOLDERS = frozenset(
    {"tests", "test", "testing", "_vendor", "vendored", "externals", "site-packages", "dist-packages", "idlelib"}
    | {"lib2to3", "benchmarks", "_pyinstaller", "__pycache__", "ensurepip", "pydoc_data", "turtledemo"}
)
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_KEY = "startline.corpus"
_COLUMNS = {
    "library": pa.string(),
    "module": pa.string(),
    "name": pa.string(),
    "kind": pa.string(),
    "opening": pa.bool_(),
    "sentences": pa.list_(pa.string()),
}
_NOT_LETTERS = re.compile(r"[^a-z]+")


@dataclass(frozen=True, kw_only=True)
class Passage:
    """Consecutive sentences of one docstring, with where they stand."""

    library: str
    """Import name of the package; 'python' for the standard library."""
    module: str
    """Dotted module, e.g. 'scipy.stats.qmc'."""
    name: str
    """Dotted name within the module of what is documented; '' for the module itself."""
    kind: str
    """'module', 'class', 'function' or 'method'."""
    opening: bool
    """The passage opens its docstring."""
    sentences: tuple[str, ...]
    """Sentences in the order of the text; in the source each directly follows the one before."""


def build_corpus(*, max_bytes: int, libraries: Sequence[str]) -> list[Passage]:
    """Prose of the docstrings of installed libraries, read by AST: nothing is imported or run.

    Every sentence occurs once, compared by its letters alone (case, digits and punctuation aside): the first in the order
    of the libraries and files wins, and a repeated one cuts its passage in two. Files are read in the order of the hash of
    their path, so that a cut at ``max_bytes`` takes a spread sample of the modules.

    Args:
        max_bytes: most bytes of sentences in all; each library may give an equal share of it.
        libraries: import names; 'python' is the standard library.

    Raises:
        InputError: a library is not installed, or none of them holds any prose.

    Cost: about 0.2 s for each MB of source, on one core.
    """
    seen: set[str] = set()
    corpus: list[Passage] = []
    for library in libraries:
        budget = max_bytes // len(libraries)
        for path, module in _source_files(library):
            if budget <= 0:
                break
            for passage in read_passages(_source_text(path), library=library, module=module):
                for fresh in _without_repeats(passage, seen):
                    budget -= sum(len(sentence) for sentence in fresh.sentences)
                    corpus.append(fresh)
    if not corpus:
        raise InputError(
            f"no prose found in the docstrings of {', '.join(libraries)}; name libraries that have docstrings"
        )
    return corpus


def read_passages(source: str, *, library: str, module: str) -> list[Passage]:
    """Passages of one module's source text, in the order of the text; none if it is not valid Python."""
    if '"""' not in source and "'''" not in source:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    passages = []
    for node, name, kind in _documented(tree, prefix="", within_class=False):
        docstring = ast.get_docstring(node, clean=False)
        for number, run in enumerate(prose_runs(docstring) if docstring else []):
            opening = number == 0 and docstring is not None and docstring.lstrip().startswith(run[0].split()[0])
            passages.append(
                Passage(library=library, module=module, name=name, kind=kind, opening=opening, sentences=tuple(run))
            )
    return passages


def sentence_key(sentence: str) -> str:
    """What two sentences are compared by: their letters in lower case."""
    return _NOT_LETTERS.sub(" ", sentence.lower()).strip()


def write_corpus(corpus: Sequence[Passage], path: Path, *, key: str) -> None:
    """Write passages as Parquet, with ``key`` (what they were made from) in the file's metadata."""
    columns = {name: pa.array([getattr(passage, name) for passage in corpus], kind) for name, kind in _COLUMNS.items()}
    pq.write_table(pa.table(columns).replace_schema_metadata({_KEY: key}), path, compression="zstd")


def read_corpus(path: Path, *, key: str) -> list[Passage] | None:
    """Passages that ``write_corpus`` wrote with the same key; None where there are none, others, or the file is damaged."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid):
        return None
    if (table.schema.metadata or {}).get(_KEY.encode()) != key.encode() or table.column_names != list(_COLUMNS):
        return None
    return [Passage(**{**row, "sentences": tuple(row["sentences"])}) for row in table.to_pylist()]


def library_versions(libraries: Sequence[str]) -> dict[str, str]:
    """Installed version of each library, by import name.

    Raises:
        InputError: one is not installed.
    """
    owners = importlib.metadata.packages_distributions()
    versions = {}
    for library in libraries:
        if library == PYTHON:
            versions[library] = platform.python_version()
        elif library in owners:
            versions[library] = importlib.metadata.version(owners[library][0])
        else:
            raise InputError(
                f"library {library!r} is not installed; install it or take it out of the embedded libraries",
                library=library,
            )
    return versions


def _documented(node: ast.AST, *, prefix: str, within_class: bool) -> Iterator[tuple[_Documented, str, str]]:
    """Module, classes, functions and methods below ``node`` with dotted name and kind, in the order of the text."""
    if isinstance(node, ast.Module):
        yield node, "", "module"
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            name = f"{prefix}{child.name}"
            yield child, name, "class"
            yield from _documented(child, prefix=f"{name}.", within_class=True)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child, f"{prefix}{child.name}", "method" if within_class else "function"
        elif isinstance(child, ast.If | ast.Try | ast.With):
            yield from _documented(child, prefix=prefix, within_class=within_class)


def _without_repeats(passage: Passage, seen: set[str]) -> Iterator[Passage]:
    """The passage cut where a sentence was seen before; notes the new ones in ``seen``."""
    run: list[str] = []
    opening = passage.opening
    for sentence in (*passage.sentences, None):
        key = sentence_key(sentence) if sentence is not None else None
        if sentence is not None and key is not None and key not in seen:
            seen.add(key)
            run.append(sentence)
            continue
        if run:
            yield Passage(
                library=passage.library,
                module=passage.module,
                name=passage.name,
                kind=passage.kind,
                opening=opening,
                sentences=tuple(run),
            )
        run, opening = [], False


def _source_files(library: str) -> list[tuple[Path, str]]:
    """Python files of a library with their dotted module names, in the order of a hash of the name."""
    root = _root(library)
    prefix = "" if library == PYTHON else f"{library}."
    files = []
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        if _SKIPPED_FOLDERS.isdisjoint(parts) and "conftest" not in parts:
            files.append((path, (prefix + ".".join(parts)).removesuffix(".__init__")))
    return sorted(files, key=lambda item: hashlib.sha256(item[1].encode()).digest())


def _root(library: str) -> Path:
    if library == PYTHON:
        return Path(sysconfig.get_paths()["stdlib"])
    spec = importlib.util.find_spec(library)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"library {library!r} is not installed as a package; install it or take it out of the embedded libraries",
            library=library,
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _source_text(path: Path) -> str:
    """Text of a source file; '' if it is not UTF-8 (a few old files are not) or is gone."""
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError):
        return ""
