"""What every score reads: training rows of one candidate on one task, checked and put in an order of their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class RefusalError(ValueError):
    """A score that is not defined for these rows; its message is the reason."""


@dataclass(frozen=True, kw_only=True)
class LabelledRows:
    """Training rows, made by ``prepare_rows``: their order depends on the features alone, class codes on that order."""

    features: FloatArray
    """(n_rows, n_features), finite, not constant."""
    codes: IntArray
    """(n_rows,) classes as 0, 1, ... by first appearance; empty for regression."""
    targets: FloatArray
    """(n_rows,) numbers to be predicted; empty for classification."""
    source: FloatArray | None
    """(n_rows, n_source_classes) probabilities that the model's own head gives; None without a trained one."""
    no_source_head: str
    """Why there is no ``source``; empty where there is one."""

    @property
    def n_classes(self) -> int:
        """Classes that occur; 0 for regression."""
        return int(self.codes.max()) + 1 if self.codes.size else 0

    @property
    def regression(self) -> bool:
        """Whether numbers are predicted."""
        return not self.codes.size

    def one_hot(self) -> FloatArray:
        """(n_rows, n_classes) 1 at the class of each row."""
        return np.asarray(self.codes[:, None] == np.arange(self.n_classes)[None, :], dtype=np.float64)

    def require_classes(self, name: str) -> None:
        """Refuse a regression task."""
        if self.regression:
            raise RefusalError(f"{name} is defined for classes, this task predicts a number")


def prepare_rows(
    features: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    regression: bool = False,
    source_logits: npt.ArrayLike | None = None,
    no_source_head: str = "no answers of the model's own head were given",
) -> LabelledRows:
    """Check rows and bring them into the order of one fixed projection of their features.

    After that, no score depends on the order rows came in or on what classes are called, whatever rounding or seeded start it has
    inside.

    Args:
        features: (n_rows, n_features).
        labels: (n_rows,) classes (any kind that can be sorted), or numbers.
        regression: labels are numbers to be predicted.
        source_logits: (n_rows, n_source_classes) answers of the model's own head.
        no_source_head: why there are none.

    Raises:
        RefusalError: values that are not finite, constant features, one class, more classes than rows can show, too few rows.
        ValueError: shapes that do not belong together.
    """
    matrix = np.asarray(features, dtype=np.float64)
    given = np.asarray(labels)
    if matrix.ndim != 2 or given.shape != matrix.shape[:1] or not matrix.shape[1]:
        raise ValueError(
            f"got features of shape {matrix.shape} and labels of shape {given.shape}; expected (n, d) and (n,)"
        )
    _check_features(matrix)
    order = _own_order(matrix)
    matrix, given = matrix[order], given[order]
    codes, targets = np.zeros(0, np.int64), np.zeros(0)
    if regression:
        targets = _checked_targets(given)
    else:
        codes = _by_appearance(given)
    source = None
    if source_logits is not None:
        source = _softmax(np.asarray(source_logits, dtype=np.float64)[order])
    return LabelledRows(
        features=matrix,
        codes=codes,
        targets=targets,
        source=source,
        no_source_head="" if source is not None else no_source_head,
    )


def _check_features(matrix: FloatArray) -> None:
    if len(matrix) < 4:
        raise RefusalError(f"{len(matrix)} rows are too few, four are the least")
    bad = int((~np.isfinite(matrix)).any(axis=1).sum())
    if bad:
        raise RefusalError(f"{bad} of {len(matrix)} rows of features hold values that are not finite")
    if not (np.ptp(matrix, axis=0) > 0).any():
        raise RefusalError("the features are constant: every row is the same")


def _own_order(matrix: FloatArray) -> IntArray:
    """Order by a fixed projection; rows that agree in it by their first columns."""
    projection = matrix @ np.cos(np.arange(matrix.shape[1]))
    first = matrix[:, :4].T[::-1]
    return np.lexsort((*first, projection))


def _by_appearance(labels: npt.NDArray[np.generic]) -> IntArray:
    """Class codes in the order in which classes appear."""
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise RefusalError("the labels hold values that are not finite")
    _, first, codes = np.unique(labels, return_index=True, return_inverse=True)
    if len(first) < 2:
        raise RefusalError("all rows are of one class")
    if 2 * len(first) > len(labels):
        raise RefusalError(
            f"{len(first)} classes are too many for {len(labels)} rows: there must be two a class on average"
        )
    place = np.empty(len(first), np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    return place[codes]


def _checked_targets(labels: npt.NDArray[np.generic]) -> FloatArray:
    numbers = labels.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise RefusalError("the numbers to be predicted hold values that are not finite")
    if np.ptp(numbers) == 0:
        raise RefusalError("all rows have the same number to be predicted")
    return numbers


def _softmax(logits: FloatArray) -> FloatArray:
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(
            f"got source logits of shape {logits.shape}; expected (n_rows, n_source_classes), two classes or more"
        )
    if not np.isfinite(logits).all():
        raise RefusalError("the model's own head gives values that are not finite")
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
