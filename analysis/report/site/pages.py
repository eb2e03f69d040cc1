"""The pages, rendered from one set of templates with autoescape on."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analysis.report.faithful_card import ordinal
from analysis.report.site import numbers
from analysis.report.site.charts import gain_bars, heat_cell, heat_legend, scatter
from analysis.report.site.content import ArchReport, ModelReport, Unranked
from tracking.names import visible

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Content-Security-Policy of every page: nothing but this site's own scripts and styles, no request to anywhere, no inline
code, and no text turned into markup by a script."""
PAGE_ROWS = 50
"""Base models shown at a time."""
COLUMNS = (
    ("rank", "Rank", "number", "by average gain, among base models with every task"),
    ("name", "Base model", "text", ""),
    ("gain", "Gain", "number", "average score less the pretrained model's, points"),
    ("interval", "95 % interval", "number", "of the gain, under other seeds; sorts by its lower end"),
    ("noise", "± se", "number", "standard error of the gain from seeds, points"),
    ("avg", "Average", "number", "average score over tasks, points"),
    ("shrunken", "Drawn in", "number", "gain with the winner's curse taken off, points"),
    ("ranks", "Ranks", "number", "ranks that the noise of seeds and tasks allows (95 %)"),
    ("tie", "Tie", "number", "1: cannot be told from the best"),
    ("p", "p", "number", "against the pretrained model, corrected for the number of base models (Holm)"),
    ("tasks", "Tasks", "number", "tasks with a trusted score"),
    ("standing", "Integrity", "text", "verdict of the integrity gate"),
    ("probe", "Probe", "number", "linear-probe score on MNLI, points"),
    (
        "seen",
        "Saw target",
        "text",
        "whether it was finetuned on one of the target tasks before; – where that is not known",
    ),
)
"""Columns of the ranking: key, heading, type, explanation."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_OWN_PREFIX = "startline/"


class Pages:
    """Renders the pages of one build."""

    def __init__(self, *, version: str, day: date) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "points": numbers.points,
            "signed": numbers.signed,
            "signed0": lambda value: numbers.signed(value, 0),
            "signed3": lambda value: numbers.signed(value, 3),
            "p_value": numbers.p_value,
            "interval": numbers.interval,
            "rank_span": numbers.rank_span,
            "rank_span_seeds": numbers.rank_span_seeds,
            "yes_no": numbers.yes_no,
            "seeds": numbers.seeds,
            "ordinal": ordinal,
            "visible": visible,
        }
        self._environment.globals |= {"policy": POLICY, "version": version, "day": day.isoformat(), "nan": math.nan}

    def _render(self, template: str, *, root: str, **values: object) -> bytes:
        return self._environment.get_template(template).render(root=root, **values).encode()

    def index(self, reports: Sequence[ArchReport], unranked: Sequence[Unranked]) -> bytes:
        """The start page."""
        return self._render("index.html.j2", root="", reports=reports, unranked=unranked)

    def ranking(self, report: ArchReport) -> bytes:
        """The ranking of an architecture."""
        return self._render("ranking.html.j2", root="../../", report=report, columns=COLUMNS, page_size=PAGE_ROWS)

    def baseline(self, report: ArchReport) -> bytes:
        """The pretrained model's scores."""
        return self._render("baseline.html.j2", root="../../", report=report)

    def heatmap(self, report: ArchReport) -> bytes:
        """Gains of base models by task."""
        models = [model for model in report.models if model.n_tasks]
        rows = [{"model": model, "cells": [heat_cell(cell) for cell in model.cells]} for model in models]
        return self._render(
            "heatmap.html.j2",
            root="../../",
            report=report,
            models=models,
            rows=rows,
            legend=heat_legend(),
            page_size=PAGE_ROWS,
        )

    def probe(self, report: ArchReport) -> bytes:
        """Probe score against gain."""
        fit = report.probe_fit
        models = [model for model in report.models if not math.isnan(model.probe)]
        return self._render(
            "probe.html.j2",
            root="../../",
            report=report,
            plot=scatter(report),
            rows=[(model, fit.intercept + fit.slope * model.probe) for model in models],
            page_size=PAGE_ROWS,
        )

    def model(self, report: ArchReport, model: ModelReport) -> bytes:
        """One base model."""
        scale, bars = gain_bars(report, model)
        return self._render(
            "model.html.j2",
            root="../../../",
            report=report,
            model=model,
            scale=scale,
            bars=bars,
            any_recorded=any(_differs(cell.recorded, cell.score) for cell in model.cells),
            show_runs=len(model.runs) > 1,
            hub=hub_address(model.name),
        )


def _differs(recorded: float, score: float) -> bool:
    return not math.isnan(recorded) and not abs(recorded - score) < 1e-6


def hub_address(name: str) -> str:
    """Page of a base model on the hub; empty where its name cannot be there."""
    if not _HUB_ID.fullmatch(name) or name.startswith(_OWN_PREFIX):
        return ""
    return "https://huggingface.co/" + quote(name)
