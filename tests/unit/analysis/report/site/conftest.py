"""The small report, made once."""

from __future__ import annotations

import pytest

from analysis.report.site import ArchReport
from tests.site_reports import hostile_report, small_report


@pytest.fixture(scope="session")
def small() -> ArchReport:
    return small_report(run_prefix="https://mlflow.example/#/runs/")


@pytest.fixture(scope="session")
def hostile() -> ArchReport:
    return hostile_report()
