"""The leaderboard site of all published results: time and size of a build, first paint, sorting and filtering in Chromium.

Measured against: build at most 20 s and 60 MB; ranking page of 1,300 rows: first paint under 1 s, sorting or filtering under
100 ms (issue 3). The build is `make report` from the start of its process; the first one also makes the result tables from MLflow.
In the browser everything is timed by its own performance API: first paint from its paint entries; sorting and filtering as
the time from the event to the page laid out again (script and layout), and, from the same start, to the end of the next frame. Beside them
stands processor time (of the build's process; of the page's main thread, from the event to the end of the next frame), which other work
on the machine does not lengthen.

Command: PYTHONPATH=. python tests/bench/bench_site.py [--source ../shared/published/model-recycling | --results outputs]
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_report import ROOT, markdown, publish, spread
from playwright.sync_api import Page, sync_playwright

BUILDS, LOADS, REPEATS = 3, 5, 4
SORT_KEYS = ("name", "gain", "interval", "avg", "tasks", "probe", "standing", "rank")
TIMED = """async ([act, value]) => {
  const acts = {
    sort: key => document.querySelector(`th[data-key="${key}"] button`).click(),
    search: text => { const box = document.getElementById('search'); box.value = text; box.dispatchEvent(new Event('input')) },
    coverage: choice => { const list = document.getElementById('coverage'); list.value = choice; list.dispatchEvent(new Event('change')) },
    group: choice => { const list = document.getElementById('group'); list.value = choice; list.dispatchEvent(new Event('change')) },
    integrity: choice => document.querySelector(`input[name="standing"][value="${choice}"]`).click(),
    next: () => [...document.querySelectorAll('#pager button')].find(button => !button.disabled).click(),
  };
  await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
  const start = performance.now();
  acts[act](value);
  document.getElementById('table').offsetHeight;
  const laid = performance.now() - start;
  await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
  return [laid, performance.now() - start];
}"""


def ray_app(*arguments: str) -> tuple[float, float]:
    """Run a command of the front door; returns its wall time and its processor time, s."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "ray_app", *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, busy


def measure_build(results: Path) -> dict[str, Any]:
    """Times of the first and of later builds, and what was built."""
    shutil.rmtree(results / "table", ignore_errors=True)
    first, _ = ray_app("report", f"OUT={results}")
    again = [ray_app("report", f"OUT={results}") for _ in range(BUILDS)]
    files = [path for path in (results / "report").rglob("*") if path.is_file()]
    sizes = sum(path.stat().st_size for path in files)
    wall, busy = ([each[part] for each in again] for part in (0, 1))
    return {"first_s": first, "again_s": wall, "busy_s": busy, "n_files": len(files), "size_mb": sizes / 1e6}


def ranking_page(results: Path) -> tuple[Path, int]:
    """The ranking page with the most rows, and their number."""
    pages = (results / "report" / "arch").glob("*/index.html")
    rows = {page: page.read_text().count('<th scope="row">') - 1 for page in pages}
    page = max(rows, key=lambda each: rows[each])
    return page, rows[page]


def measure_browser(page_file: Path) -> dict[str, Any]:
    """First paints, and times of every action."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    paints, actions = [], {}
    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=executable, args=flags)
        for _ in range(LOADS):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(page_file.absolute().as_uri())
            page.wait_for_timeout(200)
            paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
            page.close()
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(page_file.absolute().as_uri())
        page.wait_for_timeout(500)
        for name, act in _actions().items():
            actions[name] = act(page)
        version = browser.version
        browser.close()
    return {"chromium": version, "first_contentful_paint_ms": paints, "actions_ms": actions}


def _actions() -> dict[str, Callable[[Page], list[list[float]]]]:
    def timed(page: Page, act: str, value: str) -> list[float]:
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        before = _task_s(session)
        times = page.evaluate(TIMED, [act, value])
        busy_ms = 1000 * (_task_s(session) - before)
        session.detach()
        return [*times, busy_ms]

    def repeat(act: str, values: tuple[str, ...]) -> Callable[[Page], list[list[float]]]:
        return lambda page: [timed(page, act, value) for _ in range(REPEATS) for value in values]

    return {
        "sort": repeat("sort", SORT_KEYS),
        "search": repeat("search", ("a", "ro", "roberta", "squad", "zzz", "")),
        "coverage filter": repeat("coverage", ("full", "1", "0")),
        "integrity filter": repeat("integrity", ("untested", "quarantined", "untested", "quarantined")),
        "next page": repeat("next", ("",)),
        "task group": repeat("group", ("general", "nli", "twitter", "all")),
    }


def _task_s(session: Any) -> float:
    """Processor time of the page's main thread so far, s."""
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    return float(metrics["TaskDuration"])


def report(results: Path) -> None:
    """Measure and publish."""
    build = measure_build(results)
    page_file, n_rows = ranking_page(results)
    browser = measure_browser(page_file)
    rows = [
        ["build, with result tables made anew, s", f"{build['first_s']:.1f}", "20"],
        ["build, s", spread(build["again_s"], 1), "20"],
        ["build, processor time, s", spread(build["busy_s"], 1), ""],
        ["size, MB", f"{build['size_mb']:.1f} ({build['n_files']} files)", "60"],
        [f"first contentful paint, {n_rows} rows, ms", spread(browser["first_contentful_paint_ms"], 0), "1000"],
    ]
    for name, times in browser["actions_ms"].items():
        laid, framed, busy = ([each[part] for each in times] for part in (0, 1, 2))
        rows.append([f"{name}: laid out, ms", spread(laid, 0), "100"])
        rows.append([f"{name}: next frame done, ms", spread(framed, 0), ""])
        rows.append([f"{name}: processor time, ms", spread(busy, 0), ""])
    notes = [
        f"Chromium {browser['chromium']}, headless, 1280 x 900, without a GPU; ranking page {page_file.parent.name}"
    ]
    table = markdown(["what", "median (range)", "at most"], rows)
    publish("site", table, {"build": build, "browser": browser, "n_rows": n_rows}, notes=notes)


def main() -> None:
    """Import where needed, measure, publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=Path("../shared/published/model-recycling"))
    parser.add_argument("--results", type=Path, help="folder that already holds imported results")
    chosen = parser.parse_args()
    if chosen.results is not None:
        report(chosen.results.absolute())
        return
    with tempfile.TemporaryDirectory(prefix="startline-site-") as folder:
        ray_app("import-published", f"FROM={chosen.source}", f"OUT={folder}")
        report(Path(folder))


if __name__ == "__main__":
    main()
