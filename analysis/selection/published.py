"""The performance matrix of a folder in the published format."""

from __future__ import annotations

from pathlib import Path

from analysis.selection.performance import PerformanceMatrix
from tracking.two_phase import PublishedMatrix, read_matrix


def matrix_of(published: PublishedMatrix) -> PerformanceMatrix:
    """The same numbers as a matrix."""
    return PerformanceMatrix(
        base_models=published.base_models,
        tasks=published.tasks,
        test=published.test,
        validation=published.validation,
    )


def load_matrix(folder: Path) -> PerformanceMatrix:
    """Read a folder; TableError as ``tracking.two_phase.read_matrix`` raises it."""
    return matrix_of(read_matrix(folder))
