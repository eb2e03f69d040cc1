"""The script with the page's numbers: one assignment that no text can leave."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.report.site import ArchReport
from analysis.report.site.data_file import SCALE, data_script, safe_json
from tests.site_reports import HOSTILE


def read(report: ArchReport) -> dict:
    text = data_script(report).decode("ascii")
    assert text.startswith("window.startlineData = {") and text.endswith("};\n") and text.count("\n") == 1
    return json.loads(text.removeprefix("window.startlineData = ").removesuffix(";\n"))


def test_numbers_come_back_to_a_ten_thousandth(small: ArchReport) -> None:
    data = read(small)
    assert data["tasks"] == list(small.tasks) and data["groups"] == {"nli": [2, 3]}
    assert data["scores"][0] == [65 * SCALE, 85 * SCALE, 75 * SCALE, 55 * SCALE]
    assert data["start"] == [55 * SCALE, 75 * SCALE, 65 * SCALE, 45 * SCALE] and data["startSeeds"] == [2] * 4
    assert data["sd"] == [round(50**0.5 * SCALE)] * 4 and data["df"] == [SCALE] * 4
    assert data["rank"] == [1, 2, 3, None, None, None, None]
    assert data["scores"][3][3] is None and data["scores"][4] is None and data["seeds"] is None
    assert data["seen"][:2] == [None, True] and data["probe"][-1] is None


def test_quantiles_are_those_of_student(small: ArchReport) -> None:
    data = read(small)
    assert (data["t"][0], data["t"][50], data["t"][200]) == (1.95996, 2.77645, 12.7062), "tables: df = inf, 4, 1"
    assert len(data["t"]) == 201


def test_hostile_names_stay_inside(hostile: ArchReport) -> None:
    text = data_script(hostile).decode("ascii")
    assert not set("<>&") & set(text) and "\u2028" not in text
    assert set(read(hostile)["name"]) == set(HOSTILE)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_ascii_without_markup_and_reads_back(text: str) -> None:
    encoded = safe_json({text: text})
    assert encoded.isascii() and not set("<>&\n") & set(encoded) and json.loads(encoded) == {text: text}
