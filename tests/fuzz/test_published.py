"""Published result files: read with stated faults, or refused in one sentence; an import of what was read is whole."""

from __future__ import annotations

import contextlib
import csv
import io
import tempfile
from functools import cache
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.surface import damaged, fuzzed, texts, user_sees
from tests.published_folder import write_folder
from tracking.published import read_published
from tracking.published_import import import_published, published_runs
from tracking.table import sync_table

FILES = ("models_tested.csv", "models_results_acme_tiny_1_pretrain.csv")


@cache
def sound(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return (write_folder(Path(folder)) / name).read_bytes()


@st.composite
def edited(draw: st.DrawFn, name: str) -> bytes:
    """The file with some cells of it replaced, rows and columns moved, dropped or repeated, in any dialect."""
    delimiter = "," if name == FILES[0] else "\t"
    rows = list(csv.reader(io.StringIO(sound(name).decode(), newline=""), delimiter=delimiter))
    for _ in range(draw(st.integers(1, 4))):
        row, column = draw(st.integers(0, len(rows) - 1)), draw(st.integers(0, 60))
        kind = draw(
            st.sampled_from(["cell", "cell", "cell", "name", "drop row", "repeat row", "cut row", "swap columns"])
        )
        if kind == "cell":
            rows[row][column % len(rows[row])] = draw(texts)
        elif kind == "name":
            rows[row][0] = draw(texts)
        elif kind == "drop row" and len(rows) > 1:
            del rows[row]
        elif kind == "repeat row":
            rows.insert(row, list(rows[row]))
        elif kind == "cut row":
            rows[row] = rows[row][: 1 + column % len(rows[row])]
        elif kind == "swap columns":
            place = column % (len(rows[0]) - 1)
            for cells in rows:
                if len(cells) > place + 1:
                    cells[place], cells[place + 1] = cells[place + 1], cells[place]
    out = io.StringIO()
    dialect = draw(st.sampled_from([delimiter] * 8 + [",", "\t", ";", "|"]))
    writer = csv.writer(
        out, delimiter=dialect, lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r"])), escapechar="\\"
    )
    with contextlib.suppress(csv.Error):
        writer.writerows(rows)
    return out.getvalue().encode("utf-8", errors="surrogatepass")


files = st.one_of(
    *(st.tuples(st.just(name), edited(name)) for name in FILES for _ in range(2)),
    *(st.tuples(st.just(name), st.deferred(lambda name=name: damaged(sound(name)))) for name in FILES),
)


@given(st.lists(files, min_size=1, max_size=2))
@fuzzed(quick=60)
def test_files_are_read_or_refused(changed: list[tuple[str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = write_folder(Path(folder))
        for name, content in changed:
            (place / name).write_bytes(content)
        with user_sees("published CSV"):
            results = read_published(place)
            for arch in results.architectures:
                runs = published_runs(arch, results.sha256)
                assert len({run.key for run in runs}) == len(runs)
            for fault in results.faults:
                fault.message.encode()


@given(edited(FILES[0]))
@fuzzed(quick=2, share=0.02)
def test_an_import_of_what_was_read_is_whole(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = write_folder(Path(folder))
        (place / FILES[0]).write_bytes(content)
        uri = f"sqlite:///{folder}/mlflow.db"
        with user_sees("import of published CSV"):
            results = read_published(place)
            first = import_published(results, store_uri=uri, artifact_root=folder)
            again = import_published(results, store_uri=uri, artifact_root=folder)
            assert again.n_written == again.n_deleted == 0 and again.n_unchanged == first.n_written
            for arch in results.architectures:
                table, report = sync_table(uri, arch.name, place / "table.parquet", rebuild=True)
                assert not report.faults
                assert set(table["base_model"].to_pylist()) <= {*arch.models, arch.name}
