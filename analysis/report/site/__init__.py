"""The leaderboard site: static pages, tables to download and Markdown, made of finished assessments."""

from analysis.report.site.arch_report import arch_report
from analysis.report.site.content import ArchReport, ModelReport, Standing, Unranked
from analysis.report.site.writer import SiteSummary, write_site

__all__ = ["ArchReport", "ModelReport", "SiteSummary", "Standing", "Unranked", "arch_report", "write_site"]
