"""The performance matrix: base models finetuned on benchmark tasks, validated at every stage and tested at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PerformanceMatrix:
    """Scores as fractions; NaN where a cell or a stage is missing."""

    base_models: tuple[str, ...]
    tasks: tuple[str, ...]
    test: FloatArray
    """(n_bases, n_tasks) after the last stage."""
    validation: FloatArray
    """(n_bases, n_tasks, n_stages); no stages at all where only final scores are known."""

    def __post_init__(self) -> None:
        """Refuse shapes that do not fit and names given twice."""
        shape = (len(self.base_models), len(self.tasks))
        if self.test.shape != shape or self.validation.shape[:2] != shape or self.validation.ndim != 3:
            raise ValueError(
                f"got {shape[0]} base models and {shape[1]} tasks with test scores {self.test.shape} and validation scores "
                f"{self.validation.shape}; expected (n_bases, n_tasks) and (n_bases, n_tasks, n_stages)"
            )
        for what, names in (("base model", self.base_models), ("task", self.tasks)):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"got {what} {', '.join(twice)} more than once; expected every name once")

    @property
    def n_stages(self) -> int:
        """Stages recorded."""
        return int(self.validation.shape[2])

    @property
    def average(self) -> FloatArray:
        """(n_bases,) mean test score over the tasks a base model has; NaN where it has none."""
        known = np.isfinite(self.test)
        counts = known.sum(axis=1)
        totals = np.where(known, self.test, 0.0).sum(axis=1)
        return np.divide(totals, counts, out=np.full(len(self.base_models), np.nan), where=counts > 0)

    def row(self, base_model: str) -> int:
        """Row of a base model; ValueError for one that is not in the matrix."""
        if base_model not in self.base_models:
            raise ValueError(
                f"got base model {base_model!r}; expected one of the {len(self.base_models)} of the matrix"
            )
        return self.base_models.index(base_model)

    def select(
        self, *, base_models: Sequence[str] | None = None, tasks: Sequence[str] | None = None
    ) -> PerformanceMatrix:
        """Part of it, in the order asked for; ValueError for a name that it has not."""
        bases = self.base_models if base_models is None else tuple(base_models)
        columns = self.tasks if tasks is None else tuple(tasks)
        unknown = sorted(set(columns) - set(self.tasks))
        if unknown:
            raise ValueError(f"got tasks {', '.join(unknown)}; expected some of {', '.join(self.tasks)}")
        rows = np.array([self.row(base) for base in bases], dtype=np.int64)
        places = np.array([self.tasks.index(task) for task in columns], dtype=np.int64)
        return PerformanceMatrix(
            base_models=bases,
            tasks=columns,
            test=self.test[np.ix_(rows, places)],
            validation=self.validation[np.ix_(rows, places)],
        )

    def without_task(self, task: str) -> PerformanceMatrix:
        """All but one task, for a target is new to its own selection."""
        return self.select(tasks=[name for name in self.tasks if name != task])

    def curves(self, task: str) -> dict[str, tuple[float, ...]]:
        """Base model -> validation scores on a task at stages 1, 2, ... up to its last one; base models with none are left out."""
        column = self.validation[:, self.tasks.index(task)]
        found = {}
        for base, scores in zip(self.base_models, column, strict=True):
            known = np.flatnonzero(np.isfinite(scores))
            if known.size:
                found[base] = tuple(float(score) for score in scores[: known[-1] + 1])
        return found

    def finals(self, task: str) -> dict[str, float]:
        """Base model -> test score on a task, for those that have one."""
        column = self.test[:, self.tasks.index(task)]
        return {base: float(score) for base, score in zip(self.base_models, column, strict=True) if np.isfinite(score)}
