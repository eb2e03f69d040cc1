"""Reports to build sites from: a small one whose every number is known by hand, and a hostile one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.assessment import assess
from analysis.report.site import ArchReport, arch_report
from tests.result_cells import PRETRAINED, baseline_cells, cell, model_cells, result_table

TASKS = ("cola", "mnli", "qnli", "rte")
"""In this order by name and in the files of the model-recycling site alike."""
START = {"cola": (0.50, 0.60), "mnli": (0.70, 0.80), "qnli": (0.60, 0.70), "rte": (0.40, 0.50)}
"""Pretrained model: means 55, 75, 65, 45; standard deviation over two seeds 7.0711 on every task."""
HOSTILE = (
    "<script>window.pwned=1</script>",
    "</script><img src=x onerror=window.pwned=1>",
    "\"><svg onload='window.pwned=1'>",
    "=cmd|'/c calc'!A1",
    "javascript:window.pwned=1",
    "../../../../etc/passwd",
    "{{ 7 * 7 }}{% raw %}",
    "line\u2028separator\u202eevil",
    "con",
    "a/b",
    "a_b",
    "A/b",
)
"""Names that break out of carelessly written pages, scripts, spreadsheets and folders."""


def build_report(rows: Iterable[Mapping[str, Any]], **options: Any) -> ArchReport:
    """The report of a result table."""
    return report_of(result_table(rows), **options)


def report_of(table: pa.Table, *, name: str = "acme/arch", n_draws: int = 50, **options: Any) -> ArchReport:
    """The report of a result table, its finetune cells assessed."""
    rows = table.to_pylist()
    scored = [index for index, row in enumerate(rows) if row["score"] is not None and row["role"] == "target"]
    finetuned = [index for index in scored if rows[index]["method"] == "finetune"]
    probed = [index for index in scored if rows[index]["method"] == "probe"]
    cells, probes = (table.take(pa.array(chosen, pa.int64())) for chosen in (finetuned, probed))
    assessment = assess(cells, rng=np.random.default_rng(0), probes=probes, n_draws=n_draws)
    return arch_report(assessment, table, name=name, **options)


def small_rows() -> list[dict[str, Any]]:
    """Four tasks; a model 10 points up on each, one 5 points down, one made here from qnli, one with a failed cell, one that
    was only probed, and one whose counts contradict its scores."""
    up = {"cola": 0.65, "mnli": 0.85, "qnli": 0.75, "rte": 0.55}
    down = {"cola": 0.50, "mnli": 0.70, "qnli": 0.60, "rte": 0.40}
    made = {"cola": 0.60, "mnli": 0.80, "qnli": 0.80, "rte": 0.46}
    source = cell(PRETRAINED, "qnli", 0.7, role="source", checkpoint="/kept/mnli", base_revision="r0", seed=9)
    return [
        *baseline_cells(START),
        source,
        *model_cells("org/up", up, base_revision="abc"),
        *model_cells("org/down", down, base_revision="def"),
        *model_cells("startline/acme_arch-mnli", made, base_revision=source["key"]),
        *model_cells("org/partial", {"cola": 0.645, "mnli": 0.745, "qnli": 0.645}),
        cell("org/partial", "rte", None, state="failed", failed_stage="train", reason="<b>out of memory</b>"),
        *model_cells("org/broken", dict.fromkeys(TASKS, 0.75), n_correct=3),
        *[
            cell(name, "mnli", score, method="probe", settings="9806e")
            for name, score in [
                ("org/up", 0.62),
                ("org/down", 0.50),
                ("startline/acme_arch-mnli", 0.55),
                ("org/probed", 0.58),
                ("org/zero", 0.0),
            ]
        ],
    ]


def small_report(**options: Any) -> ArchReport:
    """The report of ``small_rows``."""
    groups = {"nli": ["qnli", "rte"], "general": ["mnli", "cola", "qnli", "rte"], "other": ["sst2"]}
    return build_report(small_rows(), **({"groups": groups} | options))


def hostile_report() -> ArchReport:
    """Models with hostile names, one of them with a hostile reason."""
    rows = baseline_cells(START)
    for place, name in enumerate(HOSTILE):
        scores = {
            task: round(sum(START[task]) / 2 + 0.005 * ((place * 7 + 3 * shift) % 13 - 3), 3)
            for shift, task in enumerate(TASKS)
        }
        rows += model_cells(name, scores)
    rows.append(cell(HOSTILE[0], "mnli", None, seed=5, state="failed", failed_stage="load", reason=HOSTILE[1]))
    return build_report(rows, name="<i>arch</i>")


def large_report(n_models: int, n_tested: int, *, n_tasks: int = 36, seed: int = 0) -> ArchReport:
    """As many base models as asked for, some of them tested on every task, the others with a probe score only."""
    rng = np.random.default_rng(seed)
    tasks = [f"task_{index:02d}" for index in range(n_tasks)]
    level = rng.integers(100, 170, n_tasks)
    rows = baseline_cells({t: (level[i] + rng.integers(-3, 4, 5)) / 200 for i, t in enumerate(tasks)})
    for index in range(n_models):
        name = f"org{index % 40}/model-number-{index}"
        if index < n_tested:
            shift = rng.normal(0, 3)
            scores = np.clip(level + shift + rng.normal(0, 3, n_tasks), 1, 199).round() / 200
            rows += model_cells(name, dict(zip(tasks, scores.tolist(), strict=True)))
        rows.append(cell(name, "mnli", float(rng.uniform(0.4, 0.9)), method="probe", settings="9806e"))
    return build_report(rows, groups={"first": tasks[:6], "general": tasks[4:18]})
