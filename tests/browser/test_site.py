"""The ranking page in Chromium: what it shows, chooses, computes and remembers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis.noise import estimate_gains
from analysis.report.site import ArchReport, Standing

pytestmark = pytest.mark.browser

RANKING = "arch/large/index.html"


def names(page: Any) -> list[str]:
    return page.locator("#table > tbody:last-of-type th a").all_inner_texts()


def column(page: Any, key: str) -> list[str]:
    """Texts of a column of the rows shown."""
    return page.evaluate(
        """key => { const table = document.getElementById('table');
        const at = table.querySelector(`th[data-key="${key}"]`).cellIndex;
        return [...table.tBodies[table.tBodies.length - 1].rows].map(row => row.cells[at].textContent.trim()) }""",
        key,
    )


def heading(page: Any, key: str) -> Any:
    return page.locator(f'#table th[data-key="{key}"]')


def position(page: Any) -> str:
    return page.locator("#pager [role=status]").inner_text()


def test_the_ranking_opens_with_the_best_first(visit: Any, large: ArchReport) -> None:
    page = visit(RANKING)
    assert names(page) == [model.name for model in large.models[:50]]
    assert position(page) == "1–50 of 1,300" and heading(page, "rank").get_attribute("aria-sort") == "ascending"
    assert page.locator("#table svg").count() == 45 and page.locator("#controls").is_visible()
    assert large.sentence in page.locator(".verdict").inner_text()


def test_sorting(visit: Any, large: ArchReport) -> None:
    page = visit(RANKING)
    heading(page, "probe").locator("button").click()
    by_probe = sorted(large.models, key=lambda model: -model.probe)
    assert names(page) == [model.name for model in by_probe[:50]]
    assert heading(page, "probe").get_attribute("aria-sort") == "descending"
    assert heading(page, "rank").get_attribute("aria-sort") is None
    heading(page, "probe").locator("button").click()
    assert names(page) == [model.name for model in by_probe[::-1][:50]]
    heading(page, "gain").locator("button").click()
    heading(page, "gain").locator("button").click()
    worst = sorted(large.ranked, key=lambda model: model.avg_gain)
    assert names(page)[:45] == [model.name for model in worst], "those without a gain stand last in either direction"
    heading(page, "name").locator("button").click()
    assert names(page) == sorted(model.name for model in large.models)[:50]


def test_search_and_filters(visit: Any, large: ArchReport) -> None:
    page = visit(RANKING)
    page.fill("#search", "NUMBER-12")
    expected = [model.name for model in large.models if "number-12" in model.name]
    assert names(page) == expected[:50] and position(page) == f"1–50 of {len(expected)}"
    page.uncheck('input[name="standing"][value="untested"]')
    assert names(page) == [name for name in expected if name in {model.name for model in large.ranked}]
    page.fill("#search", "no such model")
    assert page.locator("#table").inner_text().endswith("No row fits this choice.") and position(page) == "none of 1300"
    page.click("#reset")
    page.select_option("#coverage", "full")
    assert len(names(page)) == 45 and position(page) == "1–45 of 45"


def test_paging(visit: Any, large: ArchReport) -> None:
    page = visit(RANKING)
    assert page.get_by_role("button", name="Previous").is_disabled()
    page.get_by_role("button", name="Next").click()
    assert names(page) == [model.name for model in large.models[50:100]] and position(page) == "51–100 of 1,300"
    assert "page=2" in page.url
    page.goto(page.url.replace("page=2", "page=99"))
    page.reload()
    assert position(page) == "1251–1300 of 1,300" and page.get_by_role("button", name="Next").is_disabled()


@pytest.mark.parametrize("group", ["first", "general"])
def test_averages_over_a_group_are_those_of_the_maths(visit: Any, large: ArchReport, group: str) -> None:
    """What the page computes against analysis.noise and scipy's quantiles, to the two decimals shown."""
    page = visit(RANKING)
    page.select_option("#group", group)
    page.uncheck('input[name="standing"][value="untested"]')
    chosen = [large.tasks.index(task) for task in large.groups[group]]
    start = np.array([_seeds(large, place) for place in chosen])
    scores = np.array([[model.cells[place].score / 100 for place in chosen] for model in large.ranked])
    expected = estimate_gains(scores, start)
    low, high = expected.interval()
    order = np.argsort(-expected.gain.round(6), kind="stable")
    assert names(page) == [large.ranked[index].name for index in order]
    assert column(page, "rank") == [str(1 + int((expected.gain > expected.gain[i] + 1e-9).sum())) for i in order]
    assert [float(text) for text in column(page, "gain")] == pytest.approx(expected.gain[order], abs=0.0051)
    assert [float(text) for text in column(page, "noise")] == pytest.approx(expected.se[order], abs=0.0051)
    assert [float(text) for text in column(page, "avg")] == pytest.approx(100 * scores.mean(axis=1)[order], abs=0.0051)
    ends = [tuple(map(float, text.split(" to "))) for text in column(page, "interval")]
    assert ends == [pytest.approx((low[i], high[i]), abs=0.0061) for i in order]
    assert set(column(page, "tie")) == {"–"} and set(column(page, "tasks")) == {str(len(chosen))}
    assert f"{len(chosen)} of 36 tasks" in page.locator("#scope").inner_text()
    page.select_option("#group", "all")
    assert names(page) == [model.name for model in large.ranked]
    assert column(page, "gain")[0] == f"{large.ranked[0].avg_gain:+.2f}" and not page.locator("#scope").is_visible()


def _seeds(report: ArchReport, place: int) -> list[float]:
    """Scores with the mean and the deviation of a task's pretrained seeds (all that the maths sees of them)."""
    task = report.baseline[place]
    shape = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    return list((task.mean + task.sd * shape / shape.std(ddof=1)) / 100)


def test_students_quantile_in_the_page(visit: Any) -> None:
    page = visit(RANKING)
    freedoms = [1.0, 1.01, 1.7, 2.5, 7.9, 33.3, 119.5, 400.0, 5000.0]
    computed = page.evaluate("freedoms => freedoms.map(window.startline.quantile)", freedoms)
    assert computed == pytest.approx(stats.t.ppf(0.975, freedoms).tolist(), abs=1e-3)


def test_an_own_choice_of_tasks(visit: Any, small: ArchReport) -> None:
    """Over boolq and cola org/partial has every task: gains 9.5 and -0.5."""
    page = visit("arch/small/index.html")
    page.click("#own summary")
    for task in ("qnli", "rte"):
        page.get_by_label(task, exact=True).uncheck()
    rows = dict(zip(names(page), zip(column(page, "rank"), column(page, "gain"), strict=True), strict=True))
    assert rows["org/partial"] == ("3", "+4.50") and rows["org/up"] == ("1", "+10.00")
    assert rows["startline/acme_arch-mnli"] == ("2", "+5.00") and rows["org/broken"] == ("–", "–")
    assert page.locator("#group").input_value() == "own" and "t=cola&t=mnli" in page.url
    noise = math.sqrt(2 * 50 * 1.5) / 2
    assert column(page, "noise")[0] == f"{noise:.2f}"


def test_integrity_and_training_filters(visit: Any, small: ArchReport) -> None:
    page = visit("arch/small/index.html")
    page.select_option("#seen", "yes")
    assert names(page) == ["startline/acme_arch-mnli"]
    page.select_option("#seen", "unknown")
    assert "startline/acme_arch-mnli" not in names(page) and len(names(page)) == len(small.models) - 1
    page.click("#reset")
    for value in ("ok", "repaired", "untested"):
        page.uncheck(f'input[name="standing"][value="{value}"]')
    assert names(page) == ["org/broken"] and column(page, "standing") == ["set aside"]
    assert small.count(Standing.QUARANTINED) == 1


def test_a_permalink_shows_the_same_again(visit: Any) -> None:
    page = visit(RANKING)
    page.fill("#search", "org1")
    page.select_option("#group", "general")
    heading(page, "avg").locator("button").click()
    page.select_option("#coverage", "half")
    page.locator("#columns").evaluate("element => { element.closest('details').open = true }")
    page.locator('input[name="column"][value="p"]').uncheck()
    shown, address = names(page), page.url.partition("report/")[2]
    assert shown
    other = visit(address)
    assert names(other) == shown and column(other, "avg") == column(page, "avg")
    assert other.locator("#search").input_value() == "org1" and other.locator("#group").input_value() == "general"
    assert other.locator("#coverage").input_value() == "half" and not heading(other, "p").is_visible()
    other.evaluate("location.hash = '#q=org2'")
    other.wait_for_function("document.getElementById('search').value === 'org2'")
    assert all("org2" in name for name in names(other)) and heading(other, "p").is_visible()


@pytest.mark.parametrize(
    "state",
    [
        "sort=__proto__&page=-3&group=constructor&cover=toString&seen=x&standing=y.ok&hide=rank.zzz&t=nope",
        "q=%3Cscript%3Ewindow.pwned%3D1%3C%2Fscript%3E&page=NaN",
        "%E0%A4%A&&&=&sort=-&page=1e99",
        "group=own&t=",
    ],
)
def test_a_broken_or_hostile_permalink_does_no_harm(visit: Any, state: str) -> None:
    page = visit(f"{RANKING}#{state}")
    assert page.evaluate("window.pwned") is None and page.locator("#table").is_visible()
    assert position(page)


def test_columns_can_be_chosen(visit: Any) -> None:
    page = visit(RANKING, width=1600)
    assert heading(page, "shrunken").is_visible() and heading(page, "noise").is_visible()
    page.click("details:has(#columns) summary >> nth=1")
    page.locator('input[name="column"][value="shrunken"]').uncheck()
    assert not heading(page, "shrunken").is_visible() and "hide=" in page.url
    assert page.locator("#table tbody:last-of-type tr").first.locator("td:visible, th:visible").count() == 12


def test_downloads_hold_what_is_shown(visit: Any, site: Any, large: ArchReport) -> None:
    import csv

    page = visit(RANKING)
    links = page.locator(".downloads a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    assert len(links) == 4 and all((site / "arch/large" / link).is_file() for link in links)
    rows = list(csv.DictReader((site / "arch/large/download/ranking.csv").open()))
    assert [row["base_model"] for row in rows[:50]] == names(page)
    assert [f"{float(row['avg_gain']):+.2f}" for row in rows[:45]] == [
        m.replace("0.00", "+0.00") if m == "0.00" else m for m in column(page, "gain")[:45]
    ]
