"""A Chromium without a network, and sites to open in it from file://."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from analysis.report.site import ArchReport, Unranked, write_site
from tests.site_reports import hostile_report, large_report, small_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
Open = Callable[..., Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, or a skip with the reason."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as api:
        launched = api.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def large() -> ArchReport:
    """1,300 base models, 45 of them tested on 36 tasks."""
    return large_report(1300, 45)


@pytest.fixture(scope="session")
def hostile() -> ArchReport:
    return hostile_report()


@pytest.fixture(scope="session")
def small() -> ArchReport:
    return small_report(run_prefix="https://mlflow.example/#/runs/")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, large: ArchReport, hostile: ArchReport, small: ArchReport) -> Path:
    """The folder of a site of three architectures, and one without a ranking."""
    reports = [_named(large, "large"), _named(hostile, "hostile"), _named(small, "small")]
    unranked = [Unranked(name="no/baseline", reason="no cell of the pretrained model <script>window.pwned=1</script>")]
    folder = tmp_path_factory.mktemp("site") / "report"
    return write_site(reports, folder, unranked=unranked, version="1", day=date(2026, 1, 2)).index.parent


def _named(report: ArchReport, stem: str) -> ArchReport:
    from dataclasses import replace

    return replace(report, stem=stem)


class Visit:
    """One page and what it complained of."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("request", lambda request: self.requests.append(request.url))


@pytest.fixture
def visit(browser: Any, site: Path) -> Iterator[Open]:
    """Opens a page of the site; afterwards nothing may have been complained of or asked from anywhere."""
    contexts, visits = [], []

    def go(address: str, *, width: int = 1280, height: int = 900, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(60_000)
        contexts.append(context)
        made = Visit(context.new_page())
        visits.append(made)
        made.page.goto(f"file://{site}/{address}")
        return made.page

    yield go
    for made in visits:
        assert made.complaints == []
        assert [url for url in made.requests if not url.startswith((f"file://{site}/", "data:"))] == []
    for context in contexts:
        context.close()
