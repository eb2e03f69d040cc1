"""Model cards: the sentence, the rank, intervals by hand, and how a section finds its place in a README."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from scipy import stats

from analysis.report.card import (
    BEGIN,
    END,
    METRIC_NAME,
    TaskSource,
    card_results,
    card_section,
    refusal,
    with_section,
    without_own,
)
from analysis.report.site import ArchReport
from tests.site_reports import HOSTILE, hostile_report, small_report

DAY = date(2026, 3, 21)


@pytest.fixture(scope="module")
def small() -> ArchReport:
    return small_report()


def test_section(small: ArchReport) -> None:
    text = card_section(small, small.models[0], as_of=DAY, version="1.2", site="https://site.example")
    lines = text.splitlines()
    assert (lines[0], lines[-1]) == (BEGIN, END)
    assert (
        "[Evaluation on 4 datasets](https://site.example/arch/acme_arch/model/org_up.html) using org/up as a base model yields "
        "average score of 70.00 in comparison to 60.00 by acme/base: a gain of +10.00 points (95 % interval -2.02 to +22.02)."
    ) in text
    assert "The model is ranked 1st among all 3 tested models for the acme/arch architecture as of 21/03/2026" in text
    table = [line for line in lines if line.startswith("|")]
    assert [cell.strip() for cell in table[2].split("|")][1:6] == ["score", "65", "85", "75", "55"]
    assert [cell.strip() for cell in table[3].split("|")][1:6] == ["gain", "+10.00", "+10.00", "+10.00", "+10.00"]
    assert small.sentence[:40] in text and "settings `5e77195`" in text


def test_a_model_with_missing_tasks_has_no_rank(small: ArchReport) -> None:
    partial = next(m for m in small.models if m.name == "org/partial")
    text = card_section(small, partial, as_of=DAY, version="1")
    assert "Evaluation on 3 datasets (of 4) using" in text and "not ranked" in text and "1 tasks" in text


def test_names_are_escaped() -> None:
    report = hostile_report()
    for model in report.models:
        text = card_section(report, model, as_of=DAY, version="1")
        assert "<script" not in text and "<img" not in text and "\u2028" not in text
        assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1
    assert {model.name for model in report.models} == set(HOSTILE)


@pytest.mark.parametrize(
    ("name", "words"), [("org/broken", "integrity gate set it aside"), ("org/probed", "not finetuned")]
)
def test_no_card_without_trusted_scores(small: ArchReport, name: str, words: str) -> None:
    model = next(m for m in small.models if m.name == name)
    assert words in refusal(model)
    with pytest.raises(ValueError, match=words):
        card_section(small, model, as_of=DAY, version="1")


def test_results_carry_intervals_and_where_they_come_from(small: ArchReport) -> None:
    """One degree of freedom: t = 12.706, half = 12.706 * sqrt(75)."""
    source = TaskSource(dataset="nyu-mll/glue", config="mnli", metric="accuracy", revision="c" * 40)
    results = card_results(small, small.models[0], sources={"mnli": source})
    cola = next(result for result in results if result.task == "mnli")
    half = stats.t.ppf(0.975, 1) * 75**0.5
    assert (cola.score, cola.gain, cola.low, cola.high) == pytest.approx((0.85, 10, 10 - half, 10 + half))
    assert (
        cola.source == source
        and "after finetuning this model on the task (1 seed); gain +10.00 points over acme/base" in cola.notes
    )
    assert results[0].source.dataset == "" and len(results) == 4


def test_without_noise_there_is_no_interval(small: ArchReport) -> None:
    bare = replace(small, baseline=tuple(replace(task, pooled_df=0.0) for task in small.baseline))
    (first, *_) = card_results(bare, small.models[0], sources={})
    assert first.low != first.low and "interval" not in first.notes


SECTION = f"{BEGIN}\nnew\n{END}\n"


def test_a_section_is_added_at_the_end_and_replaced_in_place() -> None:
    assert with_section("", SECTION) == SECTION
    assert with_section("# Model\ntext\n\n\n", SECTION) == f"# Model\ntext\n\n{SECTION}"
    old = f"# Model\n{BEGIN}\nold\n{END}\nafter\n"
    assert with_section(old, SECTION) == f"# Model\n{SECTION}after\n"
    assert with_section(with_section(old, SECTION), SECTION) == with_section(old, SECTION)


@pytest.mark.parametrize("text", [BEGIN, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}", END])
def test_broken_marks_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="remove the leftover"):
        with_section(text, SECTION)


def test_own_results_are_told_by_their_metrics() -> None:
    own = {"metrics": [{"name": f"accuracy {METRIC_NAME}", "value": 1}]}
    others = [{"metrics": [{"name": "Accuracy"}]}, {"metrics": "odd"}, {}]
    assert without_own([own, *others]) == others
