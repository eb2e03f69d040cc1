"""Reading published files: every bad input has its sentence or its stated fault."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tests.published_folder import (
    TASKS,
    model_line,
    write_folder,
    write_models,
    write_pretrained,
)
from tracking.delimited import spreadsheet_safe
from tracking.errors import TableError
from tracking.published import FaultKind, PublishedResults, read_published


def kinds(results: PublishedResults) -> list[FaultKind]:
    return [fault.kind for fault in results.faults]


def test_a_sound_folder_is_read_cell_by_cell(tmp_path: Path) -> None:
    results = read_published(write_folder(tmp_path))
    assert results.tasks == tuple(TASKS)
    assert results.faults == ()
    (arch,) = results.architectures
    assert arch.name == "acme/tiny-1"
    assert arch.models == ("ann/one", "bob/two", "cat/three")
    assert arch.source_rows == (2, 3, 4)
    assert arch.probe.tolist() == [0.25, 0.5, 0.125]
    assert arch.scores.shape == (3, 36)
    assert arch.scores[0].tolist() == [0.75] * 36
    assert np.isnan(arch.scores[1]).all()
    assert arch.scores[2].tolist() == [0.5 + place / 128 for place in range(36)]
    assert arch.metadata[0] == {
        "size": "1000.0",
        "tokenizer": "acme/tok",
        "model_type": "tiny",
        "last_modified": "2022-08-04",
    }
    assert arch.pretrained.tolist() == [[0.5] * 36, [0.5625] * 36, [0.625] * 36]
    assert arch.pretrained_stages == (0, 1, 2)
    assert arch.pretrained_rows == (2, 38, 74)
    data = (tmp_path / "models_tested.csv").read_bytes()
    assert results.sha256["models_tested.csv"] == hashlib.sha256(data).hexdigest()
    assert results.source_bytes("models_tested.csv") == data


def test_tasks_are_taken_by_name_not_by_place(tmp_path: Path) -> None:
    line = model_line("ann/one", 0.25, {task: place / 64 for place, task in enumerate(TASKS)})
    turned = dict([*list(line.items())[:7], *reversed(list(line.items())[7:])])
    write_models(tmp_path, [turned])
    write_pretrained(tmp_path, [0.5, 0.5])
    (arch,) = read_published(tmp_path).architectures
    assert arch.scores[0].tolist() == [place / 64 for place in range(36)]


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = write_folder(tmp_path) / "models_tested.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_published(tmp_path).architectures[0].models[0] == "ann/one"


def test_several_architectures_in_the_order_of_the_file(tmp_path: Path) -> None:
    lines = [model_line(f"m/{place}", 0.5, 0.5, arch=arch) for place, arch in enumerate(["z-1", "a/b", "z-1"])]
    write_models(tmp_path, lines)
    write_pretrained(tmp_path, [0.5, 0.5], arch="z-1")
    write_pretrained(tmp_path, [0.5, 0.5], arch="a/b")
    results = read_published(tmp_path)
    assert [(arch.name, arch.source_rows) for arch in results.architectures] == [("z-1", (2, 4)), ("a/b", (3,))]
    assert results.architecture("a/b").models == ("m/1",)
    with pytest.raises(TableError, match="no published architecture 'c'; the folder holds z-1, a/b"):
        results.architecture("c")


@pytest.mark.parametrize(("delimiter", "name"), [(";", "a semicolon"), ("\t", "a tab"), ("|", "a bar")])
def test_wrong_delimiter_of_the_models(tmp_path: Path, delimiter: str, name: str) -> None:
    write_models(tmp_path, [model_line("ann/one", 0.25, 0.75)], delimiter=delimiter)
    with pytest.raises(TableError, match=rf"models_tested\.csv is separated by {name}, expected a comma"):
        read_published(tmp_path)


def without(line: dict, column: str) -> dict:
    return {name: value for name, value in line.items() if name != column}


@pytest.mark.parametrize("column", ["model_name", "base_model", "mnli_lp"])
def test_missing_column(tmp_path: Path, column: str) -> None:
    write_models(tmp_path, [without(model_line("ann/one", 0.25, 0.75), column)])
    with pytest.raises(TableError, match=f"models_tested.csv has no column {column}; its header is"):
        read_published(tmp_path)


def test_missing_and_extra_tasks_are_named_with_the_nearest(tmp_path: Path) -> None:
    line = model_line("ann/one", 0.25, 0.75)
    write_models(tmp_path, [without(line, "wic")])
    with pytest.raises(TableError, match="lacks the task column wic; expected exactly the 36 published tasks"):
        read_published(tmp_path)
    write_models(tmp_path, [without(line, "wic") | {"wicc": 0.5}])
    with pytest.raises(
        TableError, match=r"lacks the task column wic and has the unknown task column 'wicc' \(nearest: wic\)"
    ):
        read_published(tmp_path)
    write_models(tmp_path, [line | {"squad": 0.5}])
    with pytest.raises(TableError, match="has the unknown task column 'squad'"):
        read_published(tmp_path)


def test_a_column_given_twice(tmp_path: Path) -> None:
    path = write_folder(tmp_path) / "models_tested.csv"
    path.write_text(path.read_text().replace("tokenizer", "size", 1))
    with pytest.raises(TableError, match="has the column 'size' more than once"):
        read_published(tmp_path)


def test_percent_instead_of_fraction(tmp_path: Path) -> None:
    write_models(tmp_path, [model_line(f"m/{place}", 0.25, 75.5) for place in range(3)])
    with pytest.raises(TableError, match=r"3 of 3 values of cola exceed 1 \(the first is 75.5\).*divide by 100"):
        read_published(tmp_path)


def test_percent_in_one_column_or_in_the_probe(tmp_path: Path) -> None:
    write_models(tmp_path, [model_line("m/0", 0.25, {task: 0.5 for task in TASKS} | {"rte": 61.0})])
    with pytest.raises(TableError, match="1 of 1 values of rte exceed 1"):
        read_published(tmp_path)
    write_models(tmp_path, [model_line("m/0", 25.0, 0.5)])
    with pytest.raises(TableError, match="1 of 1 values of mnli_lp exceed 1"):
        read_published(tmp_path)


def test_a_single_row_in_percent_is_a_stated_fault(tmp_path: Path) -> None:
    write_models(
        tmp_path,
        [model_line("m/0", 0.2, 0.5), model_line("m/1", 0.2, 75.0), model_line("m/2", 0.2, {"cola": -0.25})],
    )
    write_pretrained(tmp_path, [0.5, 0.5])
    results = read_published(tmp_path)
    outside = [fault for fault in results.faults if fault.kind is FaultKind.OUT_OF_RANGE]
    assert [(fault.line, fault.model) for fault in outside] == [(3, "m/1"), (4, "m/2")]
    assert results.architectures[0].in_range().tolist() == [True, False, False]
    assert results.architectures[0].scores[1, 0] == 75.0


def test_a_negative_spearman_correlation_is_in_range(tmp_path: Path) -> None:
    write_models(tmp_path, [model_line("m/0", 0.2, {task: 0.5 for task in TASKS} | {"stsb": -0.0132})])
    write_pretrained(tmp_path, [0.5, 0.5])
    assert read_published(tmp_path).faults == ()


def test_repeated_names_are_kept_and_stated(tmp_path: Path) -> None:
    write_models(
        tmp_path, [model_line("ann/one", 0.1, 0.5), model_line("b", 0.1, 0.5), model_line("ann/one", 0.2, 0.7)]
    )
    write_pretrained(tmp_path, [0.5, 0.5])
    results = read_published(tmp_path)
    assert results.architectures[0].models == ("ann/one", "b", "ann/one")
    assert [(fault.kind, fault.line) for fault in results.faults] == [
        (FaultKind.REPEATED_NAME, 2),
        (FaultKind.REPEATED_NAME, 4),
    ]


def test_partial_rows_and_the_pretrained_model_among_the_models_are_stated(tmp_path: Path) -> None:
    write_models(tmp_path, [model_line("acme/tiny-1", 0.1, {"cola": 0.5, "rte": 0.5}), model_line("b", None, None)])
    write_pretrained(tmp_path, [0.5, 0.5])
    results = read_published(tmp_path)
    assert kinds(results) == [FaultKind.PARTIAL_ROW, FaultKind.PRETRAINED_AS_MODEL]
    assert "has 2 of 36 task scores" in results.faults[0].message


def test_not_utf_8_names_the_byte(tmp_path: Path) -> None:
    path = write_folder(tmp_path) / "models_tested.csv"
    data = path.read_bytes()
    place = data.index(b"bob")
    path.write_bytes(data[:place] + b"\xff" + data[place + 1 :])
    with pytest.raises(TableError, match=rf"is not UTF-8: byte 0xff at byte offset {place} \(line 3\)"):
        read_published(tmp_path)


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "=cmd()", "@SUM(A1)", "a\u0007b"])
def test_names_that_something_may_run_are_kept_and_stated(tmp_path: Path, name: str) -> None:
    write_models(tmp_path, [model_line(name, 0.1, 0.5)])
    write_pretrained(tmp_path, [0.5, 0.5])
    results = read_published(tmp_path)
    assert results.architectures[0].models == (name,)
    assert kinds(results) == [FaultKind.UNSAFE_NAME]


def test_formula_cells_get_an_apostrophe() -> None:
    assert [spreadsheet_safe(text) for text in ("=cmd()", "+1", "-1", "@x", "\tx", "a/b-c=d", "")] == [
        "'=cmd()", "'+1", "'-1", "'@x", "'\tx", "a/b-c=d", "",
    ]  # fmt: skip


@pytest.mark.parametrize("arch", ["", "../up", "a/b/c", "<b>", "a b"])
def test_rows_of_no_architecture_are_left_out_and_stated(tmp_path: Path, arch: str) -> None:
    write_models(
        tmp_path, [model_line("m/0", 0.1, 0.5), model_line("m/1", 0.1, 0.5, arch=arch), model_line("", 0.1, 0.5)]
    )
    write_pretrained(tmp_path, [0.5, 0.5])
    results = read_published(tmp_path)
    assert [arch.models for arch in results.architectures] == [("m/0",)]
    assert [(fault.kind, fault.line) for fault in results.faults] == [
        (FaultKind.BAD_ARCHITECTURE, 3),
        (FaultKind.NO_NAME, 4),
    ]


def test_architectures_that_would_share_files(tmp_path: Path) -> None:
    write_models(tmp_path, [model_line("m/0", 0.1, 0.5, arch="a/b"), model_line("m/1", 0.1, 0.5, arch="a-b")])
    with pytest.raises(TableError, match="a/b and a-b share the file name models_results_a_b_pretrain"):
        read_published(tmp_path)


@pytest.mark.parametrize("text", ["", "\ufeff", "\n\n"])
def test_empty_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "models_tested.csv").write_text(text, encoding="utf-8")
    with pytest.raises(TableError, match=r"models_tested\.csv is empty; expected a header line"):
        read_published(tmp_path)


def test_a_header_without_rows(tmp_path: Path) -> None:
    path = write_folder(tmp_path) / "models_tested.csv"
    path.write_text(path.read_text().splitlines()[0])
    with pytest.raises(TableError, match="holds no model"):
        read_published(tmp_path)


@pytest.mark.parametrize("cell", ["0,83", "1_0", "inf", "1e999", "eighty", "0x1p-1", "٣"])
def test_a_cell_that_is_no_finite_number(tmp_path: Path, cell: str) -> None:
    write_models(tmp_path, [model_line("m/0", 0.2, 0.5), model_line("m/1", 0.2, {"rte": cell})])  # type: ignore[dict-item]
    with pytest.raises(TableError, match=r"line 3: column rte holds .*, expected a finite number or an empty cell"):
        read_published(tmp_path)


def test_an_unclosed_quote(tmp_path: Path) -> None:
    path = write_folder(tmp_path) / "models_tested.csv"
    path.write_text(path.read_text().replace("bob/two", '"bob/two'))
    with pytest.raises(TableError, match="the record that begins on line 3 cannot be read"):
        read_published(tmp_path)


def test_no_folder_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="is no folder"):
        read_published(tmp_path / "absent")
    with pytest.raises(TableError, match=r"models_tested\.csv cannot be read \(No such file or directory\)"):
        read_published(tmp_path)


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """The file with a slice removed, doubled or overwritten with bytes that matter to a reader of tables."""
    start, stop = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    stop = min(stop, start + int(rng.integers(1, 200)))
    alphabet = np.frombuffer(b',;\t"\r\n\x00\xff=<0919.e-+nan', dtype=np.uint8)
    noise = rng.choice(alphabet, size=int(rng.integers(0, 6))).tobytes()
    return data[:start] + (noise if rng.random() < 0.7 else data[start:stop] * 2) + data[stop:]


@pytest.mark.parametrize("name", ["models_tested.csv", "models_results_acme_tiny_1_pretrain.csv"])
def test_damaged_files_give_results_or_a_sentence_and_nothing_else(tmp_path: Path, name: str) -> None:
    path = write_folder(tmp_path) / name
    data = path.read_bytes()
    rng = np.random.default_rng(11)
    n_refused = 0
    for _ in range(150):
        path.write_bytes(mutated(data, rng))
        try:
            results = read_published(tmp_path)
        except TableError as error:
            n_refused += 1
            assert "\n" not in error.message
        else:
            assert all(arch.scores.shape == (len(arch.models), 36) for arch in results.architectures)
    assert n_refused > 50


def test_a_file_that_changed_since_is_not_copied(tmp_path: Path) -> None:
    results = read_published(write_folder(tmp_path))
    (tmp_path / "models_tested.csv").write_text("other")
    with pytest.raises(TableError, match="changed while it was in use"):
        results.source_bytes("models_tested.csv")
