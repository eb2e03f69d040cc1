"""The pages as text: policy, escaping, what they say; what they do is in tests/browser."""

from __future__ import annotations

import re
from datetime import date
from html.parser import HTMLParser

import pytest

from analysis.report.site import ArchReport, Unranked
from analysis.report.site.pages import COLUMNS, POLICY, Pages, hub_address
from tests.site_reports import HOSTILE
from tracking.names import visible

PAGES = Pages(version="1.2.3", day=date(2026, 1, 2))
VOID = {"wbr", "meta", "link", "input", "br", "img", "rect", "path", "circle"}


class Reader(HTMLParser):
    """Elements, texts and what stands open."""

    def __init__(self, page: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


def every_page(report: ArchReport) -> dict[str, bytes]:
    pages = {
        "index": PAGES.index([report], [Unranked(name=HOSTILE[0], reason=HOSTILE[1])]),
        "ranking": PAGES.ranking(report),
        "baseline": PAGES.baseline(report),
        "heatmap": PAGES.heatmap(report),
        "probe": PAGES.probe(report),
    }
    return pages | {f"model {m.name}": PAGES.model(report, m) for m in report.models}


@pytest.fixture(scope="module")
def pages(small: ArchReport, hostile: ArchReport) -> list[Reader]:
    found = [Reader(page) for report in (small, hostile) for page in every_page(report).values()]
    assert len(found) == 5 + 7 + 5 + len(HOSTILE)
    return found


def test_every_element_is_closed_and_every_page_has_one_heading(pages: list[Reader]) -> None:
    for page in pages:
        assert page.open == [] and len(page.all("h1")) == 1 and page.all("html") == [{"lang": "en"}]


def test_the_policy_stands_before_anything_that_could_load(pages: list[Reader]) -> None:
    for page in pages:
        head = [(tag, attrs) for tag, attrs in page.elements if tag in ("meta", "link", "script")]
        assert head[1] == ("meta", {"http-equiv": "Content-Security-Policy", "content": POLICY})
    assert "'unsafe" not in POLICY and "default-src 'none'" in POLICY and "http:" not in POLICY and "*" not in POLICY


def test_no_inline_code_no_style_no_request_to_elsewhere(pages: list[Reader]) -> None:
    for page in pages:
        for tag, attrs in page.elements:
            assert tag not in ("img", "iframe", "object", "embed", "base", "form", "style"), tag
            assert not [name for name in attrs if name.startswith("on") or name in ("style", "srcdoc")], attrs
            loaded = attrs.get("src") or (attrs.get("href") if tag == "link" else None)
            if loaded is not None:
                assert loaded == "data:," or not re.match(r"[a-z]+:|//", loaded), loaded
        assert all(script.get("src") for script in page.all("script"))


def test_links_lead_into_the_site_to_mlflow_or_to_the_hub(pages: list[Reader]) -> None:
    for page in pages:
        for link in page.all("a"):
            address = link["href"] or ""
            if ":" in address:
                assert address.startswith(("https://huggingface.co/", "https://mlflow.example/#/runs/")), address
                assert link["rel"] == "noreferrer noopener"
            else:
                assert re.fullmatch(r"[A-Za-z0-9_.~/#-]+", address), address


def test_a_hostile_name_is_text_and_nothing_else(hostile: ArchReport) -> None:
    for model in hostile.models:
        page = Reader(PAGES.model(hostile, model))
        assert visible(model.name) in page.texts
        assert len(page.all("script")) == 1 and not page.all("img")
    ranking = Reader(PAGES.ranking(hostile))
    assert {visible(name) for name in HOSTILE} <= set(ranking.texts)
    assert [tag for tag, _ in ranking.elements].count("i") == 4, "those of the page's own text"


def test_a_failure_is_told_as_text(small: ArchReport, hostile: ArchReport) -> None:
    partial = next(m for m in small.models if m.failures)
    assert "<b>out of memory</b>" in Reader(PAGES.model(small, partial)).texts
    failed = next(m for m in hostile.models if m.failures)
    assert HOSTILE[1] in Reader(PAGES.model(hostile, failed)).texts


def test_runs_are_linked_where_mlflow_is_a_server(small: ArchReport, hostile: ArchReport) -> None:
    linked = PAGES.model(small, small.models[0]).decode()
    run = small.models[0].cells[0].runs[0]
    assert f'href="https://mlflow.example/#/runs/{run}"' in linked
    plain = PAGES.model(hostile, hostile.models[0]).decode()
    assert hostile.models[0].cells[0].runs[0] in plain and "#/runs/" not in plain


def test_the_ranking_states_the_verdict_every_row_and_every_column(small: ArchReport) -> None:
    page = Reader(PAGES.ranking(small))
    text = " ".join(page.texts)
    assert small.sentence in text and "3 ranked on 4 tasks" in re.sub(r"\s+", " ", text).replace("  ", " ")
    heads = [attrs for attrs in page.all("th") if attrs.get("scope") == "col"]
    assert [attrs["data-key"] for attrs in heads] == [key for key, *_ in COLUMNS]
    assert len([attrs for attrs in page.all("th") if attrs.get("scope") == "row"]) == 1 + len(small.models)


def test_set_aside_rows_say_why(small: ArchReport) -> None:
    broken = next(m for m in small.models if m.name == "org/broken")
    text = " ".join(Reader(PAGES.model(small, broken)).texts)
    assert "its counts say otherwise" in text and "As recorded" in text and "75.00" in text


def test_hub_links_are_made_for_hub_names_only() -> None:
    assert hub_address("org/name-1.0_x") == "https://huggingface.co/org/name-1.0_x"
    for name in ("name", "startline/a-b", "a/b/c", "../x", "a/../b", "javascript:x", "a b/c", "é/b"):
        assert hub_address(name) == ""
