"""Tables to download: the same numbers in both formats, nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.report.site import ArchReport, downloads
from tests.site_reports import HOSTILE


def rows_of(table: pa.Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(downloads.csv_bytes(table).decode())))


def test_ranking_in_both_formats(small: ArchReport) -> None:
    table = downloads.ranking_download(small)
    rows = rows_of(table)
    assert [row["base_model"] for row in rows] == [m.name for m in small.models]
    assert float(rows[0]["avg_gain"]) == pytest.approx(10) and float(rows[0]["score.mnli"]) == pytest.approx(85)
    assert (rows[0]["rank"], rows[1]["trained_on"], rows[0]["trained_on"]) == ("1", "qnli", "")
    assert (rows[3]["score.rte"], rows[5]["avg_gain"], rows[4]["integrity"]) == ("", "", "quarantined")
    back = pq.read_table(io.BytesIO(downloads.parquet_bytes(table)))
    assert back.equals(table) and back["avg_gain"][5].as_py() is None


@pytest.mark.parametrize(
    ("table", "n_rows"),
    [("integrity", 1), ("baseline", 4), ("gains", 4), ("probe", 4)],
)
def test_other_tables(small: ArchReport, table: str, n_rows: int) -> None:
    made = getattr(downloads, f"{table}_download")(small)
    assert made.num_rows == n_rows == len(rows_of(made))
    assert pq.read_table(io.BytesIO(downloads.parquet_bytes(made))).equals(made)


def test_a_models_table(small: ArchReport) -> None:
    rows = rows_of(downloads.model_download(small, small.models[3]))
    assert [row["status"] for row in rows] == ["ok", "ok", "ok", "failed"]
    assert float(rows[0]["gain"]) == pytest.approx(9.5) and rows[3]["gain"] == ""


def test_architectures(small: ArchReport) -> None:
    (row,) = rows_of(downloads.architectures_table([small]))
    assert (row["best_model"], row["n_ranked"], row["n_quarantined"]) == ("org/up", "3", "1")


def test_a_formula_becomes_text_in_csv_and_stays_itself_in_parquet(hostile: ArchReport) -> None:
    table = downloads.ranking_download(hostile)
    names = {row["base_model"] for row in rows_of(table)}
    assert "'=cmd|'/c calc'!A1" in names and not any(name.startswith(("=", "+", "@", "-")) for name in names)
    assert set(table["base_model"].to_pylist()) == set(HOSTILE)
