"""Scores that tell from frozen features how well a candidate would be finetuned."""

from analysis.proxies.ensemble import average_places
from analysis.proxies.registry import ENSEMBLE, PROXIES, ProxyScores, score_all
from analysis.proxies.rows import LabelledRows, RefusalError, prepare_rows

__all__ = [
    "ENSEMBLE",
    "PROXIES",
    "LabelledRows",
    "ProxyScores",
    "RefusalError",
    "average_places",
    "prepare_rows",
    "score_all",
]
