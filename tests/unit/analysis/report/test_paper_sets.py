"""Tables 4 and 5 as sets: the published numbers, and both lines."""

from __future__ import annotations

import json

import pytest

from analysis.report.paper_sets import PAPER_SETS, analyse_paper_set, paper_set_as_plain, printed_line_note


def test_table_4_has_the_published_numbers_and_both_lines() -> None:
    found = json.loads(json.dumps(paper_set_as_plain(analyse_paper_set("paper_table_4")), allow_nan=False))
    assert (found["n_models"], found["n_better"]) == (66, 12) and found["share_better"] == pytest.approx(12 / 66)
    probe = found["probe"]
    assert (round(probe["pearson"], 2), round(probe["spearman"], 2)) == (0.66, 0.51) and probe["p"] < 0.01
    assert (round(probe["slope"], 4), round(probe["intercept"], 3)) == (0.1261, -1.832)
    assert (probe["printed_line"]["slope"], probe["printed_line"]["intercept"]) == (0.0822, -0.940)
    # means of the 66 rows are 0.792 and -1.732: -1.732 - (-0.940 + 0.0822 * 0.792)
    assert probe["printed_line"]["miss_at_the_means"] == pytest.approx(-0.857, abs=0.001)
    assert found["regression"] is None and "no gain by target" in found["reasons"]["regression"]


def test_the_note_names_both_lines() -> None:
    note = printed_line_note(analyse_paper_set("paper_table_4"))
    assert "0.0822" in note and "-0.940" in note and "0.1261" in note and "-1.832" in note


def test_table_5_has_no_probe_and_says_so() -> None:
    found = paper_set_as_plain(analyse_paper_set("paper_table_5"))
    assert (found["n_models"], found["n_better"]) == (25, 18)
    assert found["probe"]["pearson"] is None and "no probe gain" in found["reasons"]["probe"]


def test_both_tables_are_sets() -> None:
    assert set(PAPER_SETS) == {"paper_table_4", "paper_table_5"}
