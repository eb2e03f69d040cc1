"""All pages in Chromium: nothing hostile runs, everyone can read and use them, on a phone and without scripts too."""

from __future__ import annotations

from typing import Any

import pytest

from analysis.report.site import ArchReport
from tests.site_reports import HOSTILE
from tracking.names import visible

pytestmark = pytest.mark.browser

KINDS = [
    "index.html",
    *(f"arch/small/{name}.html" for name in ("index", "baseline", "heatmap", "probe")),
    "arch/small/model/org_up.html",
]
HOSTILE_KINDS = [address.replace("small", "hostile") for address in KINDS[:5]]

CONTRAST = """() => {
  const channel = value => { value /= 255; return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4 };
  const parse = text => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a] };
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = element => { for (let e = element; e; e = e.parentElement) {
    const colour = parse(getComputedStyle(e).backgroundColor); if (colour[3] > 0) return colour } return [255, 255, 255, 1] };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility() || element.closest('svg, .hide, .skip, [disabled]')) continue;
    if (parseFloat(getComputedStyle(element).fontSize) === 0) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) poor.push([element.className || element.tagName, ((a + 0.05) / (b + 0.05)).toFixed(2)]);
  }
  return poor }"""


@pytest.mark.parametrize("address", KINDS + HOSTILE_KINDS)
def test_nothing_hostile_runs(visit: Any, address: str) -> None:
    page = visit(address)
    assert page.evaluate("window.pwned") is None and page.locator("h1").count() == 1
    assert page.locator("img, iframe, form, body script:not([src])").count() == 0


def test_hostile_models_have_pages_that_show_their_names(visit: Any, hostile: ArchReport) -> None:
    assert {model.name for model in hostile.models} == set(HOSTILE)
    for model in hostile.models:
        page = visit(f"arch/hostile/model/{model.stem}.html")
        assert page.locator("h1").inner_text() == visible(model.name) and page.evaluate("window.pwned") is None
    page = visit("arch/hostile/index.html")
    page.fill("#search", "<script>")
    assert page.locator("#table > tbody:last-of-type th").all_inner_texts() == ["<script>window.pwned=1</script>"]


def test_the_policy_stops_what_would_slip_through(browser: Any, site: Any) -> None:
    """Inline code, markup from text and requests are refused by the browser itself."""
    page = browser.new_page()
    page.goto(f"file://{site}/arch/small/index.html")
    refused = page.evaluate(
        """async () => { const found = [];
        document.addEventListener('securitypolicyviolation', event => found.push(event.effectiveDirective));
        for (const attempt of [
          () => { document.body.innerHTML += '<b>x</b>' },
          () => { const script = document.createElement('script'); script.textContent = 'window.pwned=1'; document.body.append(script) },
          () => { const image = document.createElement('img'); image.src = 'https://example.org/x.png'; document.body.append(image) },
          () => { document.body.setAttribute('style', 'color: red') },
        ]) try { attempt() } catch (error) { found.push(error.name) }
        await fetch('https://example.org/').catch(error => found.push(error.name));
        await new Promise(done => setTimeout(done, 100)); return [...found, window.pwned ?? 'safe'] }"""
    )
    assert {"require-trusted-types-for", "TypeError", "img-src", "connect-src", "style-src-attr", "safe"} <= set(
        refused
    )
    page.close()


@pytest.mark.parametrize("address", KINDS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_their_ground(visit: Any, address: str, scheme: str) -> None:
    """Contrast of at least 4.5 to 1 (WCAG 2.2, 1.4.3)."""
    page = visit(address, color_scheme=scheme)
    assert page.evaluate(CONTRAST) == []


def test_heat_map_colours_are_readable(visit: Any) -> None:
    for scheme in ("light", "dark"):
        page = visit("arch/large/heatmap.html", color_scheme=scheme)
        classes = page.evaluate(
            "[...new Set([...document.querySelectorAll('.heat td')].map(cell => cell.className.split(' ')[0]))]"
        )
        assert {"u1", "u4", "d1", "d4", "z"} <= set(classes)
        assert page.evaluate(CONTRAST) == []


@pytest.mark.parametrize("address", [*KINDS, "arch/large/index.html", "arch/large/heatmap.html"])
@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_scrolls_down_only(visit: Any, address: str, width: int) -> None:
    page = visit(address, width=width, height=700, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate("[...document.querySelectorAll('.scroll')].map(box => getComputedStyle(box).overflowX)")
    assert set(wide) <= {"auto"}


def test_a_phone_shows_the_columns_that_matter(visit: Any) -> None:
    page = visit("arch/large/index.html", width=390, height=844)
    shown = page.locator("#table thead th:visible").evaluate_all("heads => heads.map(head => head.dataset.key)")
    assert shown == ["rank", "name", "gain", "interval"]
    assert page.locator("#table").bounding_box()["width"] <= 390
    assert not page.locator("#group").is_visible()
    page.click("#more > summary")
    page.select_option("#group", "first")
    assert "over 6 of 36 tasks" in page.locator("#scope").inner_text()


def test_everything_is_reached_and_worked_by_keyboard(visit: Any) -> None:
    page = visit("arch/small/index.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    stops = []
    for _ in range(60):
        page.keyboard.press("Tab")
        stops.append(
            page.evaluate("document.activeElement.id || document.activeElement.textContent.trim().slice(0, 20)")
        )
    places = [
        stops.index(stop)
        for stop in ("Ranking", "search", "group", "coverage", "seen", "reset", "Rank", "Base model", "org/up")
    ]
    assert places == sorted(places), "in the order of reading"
    page.focus("#search")
    page.keyboard.type("org")
    page.locator('th[data-key="gain"] button').focus()
    page.keyboard.press("Enter")
    assert page.locator('th[data-key="gain"]').get_attribute("aria-sort") == "descending"
    assert page.evaluate("document.activeElement.closest('th')?.dataset.key") == "gain", "the focus stays"
    page.keyboard.press("Space")
    assert page.locator('th[data-key="gain"]').get_attribute("aria-sort") == "ascending"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize("address", KINDS)
def test_what_a_screen_reader_finds(visit: Any, address: str) -> None:
    page = visit(address)
    assert page.evaluate("document.documentElement.lang") == "en" and page.title().endswith("· Startline")
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('input, select, button, [role=region], [role=search], nav')].filter(element =>
        !(element.getAttribute('aria-label') || element.getAttribute('aria-labelledby') || element.textContent.trim() ||
          [...(element.labels || [])].some(label => label.textContent.trim()))).map(element => element.outerHTML)"""
    )
    assert unnamed == []
    assert page.locator("table").count() == page.locator("table > caption").count()
    assert page.locator("table th:not([scope])").count() == 0
    assert page.locator("[tabindex]:not([tabindex='0'])").count() == 0
    assert page.locator("main").count() == page.locator("h1").count() == 1
    levels = page.locator("h1, h2, h3").evaluate_all("all => all.map(heading => Number(heading.tagName[1]))")
    assert levels[0] == 1 and all(level <= 2 for level in levels)


def test_the_model_page_has_a_bar_a_task_and_its_runs(visit: Any, small: ArchReport) -> None:
    page = visit("arch/small/model/org_up.html")
    bars = page.locator("td.chart svg rect.up")
    assert bars.count() == 4 and bars.first.bounding_box()["width"] > 20
    zero = page.locator("td.chart svg path.zero").first.bounding_box()
    assert bars.first.bounding_box()["x"] == pytest.approx(zero["x"], abs=1.5)
    run = small.models[0].cells[0].runs[0]
    assert page.locator(f'a[href="https://mlflow.example/#/runs/{run}"]').count() == 2
    page.locator('th[data-key="task"] button').click()
    assert page.locator("tbody th").all_inner_texts() == sorted(small.tasks)


def test_the_heat_map_sorts_by_task_and_hides_its_numbers(visit: Any, large: ArchReport) -> None:
    page = visit("arch/large/heatmap.html")
    assert page.locator("#table tbody tr").count() == 45
    page.locator("#table thead th.task button").nth(4).click()
    best = max(large.ranked, key=lambda model: model.cells[4].gain)
    shown = page.locator("#table tbody tr").first
    gain = best.cells[4].gain
    assert shown.locator("td").nth(5).inner_text() == (f"{gain:+.0f}" if abs(gain) >= 9.95 else f"{gain:+.1f}")
    page.uncheck("#numbers")
    assert (
        "numbers=no" in page.url
        and page.locator("#table td.u1").first.evaluate("cell => getComputedStyle(cell).fontSize") == "0px"
    )


def test_the_scatter_has_a_dot_a_ranked_model_and_its_line(visit: Any, large: ArchReport) -> None:
    page = visit("arch/large/probe.html")
    assert (
        page.locator(".scatter circle").count() == len(large.ranked) and page.locator(".scatter path.fit").count() == 1
    )
    assert page.locator(".scatter circle title").first.text_content().startswith(large.ranked[0].name)
    assert f"{len(large.ranked)} ranked" in page.locator(".lead").inner_text()


def test_without_scripts_every_row_shows(visit: Any, large: ArchReport) -> None:
    page = visit("arch/large/index.html", java_script_enabled=False)
    assert page.locator("#table > tbody:last-of-type tr:visible").count() == len(large.models)
    assert not page.locator("#controls").is_visible()


def test_links_lead_on(visit: Any, large: ArchReport) -> None:
    page = visit("index.html")
    assert "No ranking: no cell of the pretrained model <script>" in page.locator("main").inner_text()
    page.locator("#table tbody a").first.click()
    page.locator("#table > tbody:last-of-type a").first.click()
    assert page.locator("h1").inner_text() == large.models[0].name
    page.get_by_role("link", name="Heat map").click()
    page.get_by_role("link", name="All architectures").click()
    assert page.locator("h1").inner_text() == "Which checkpoint to start finetuning from"
