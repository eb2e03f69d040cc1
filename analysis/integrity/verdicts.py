"""The integrity gate: nothing, published or own, enters a ranking unseen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.integrity.counts import Floats, TestSizes, constant_predictions, informative
from analysis.integrity.ledger import MISSING, OK, QUARANTINED, Ledger, RowAudit
from analysis.integrity.placement import check_placement

COLLAPSED_SHARE = 0.5
"""Share of a row's scores that may be those of constant predictions before the row is set aside."""
IDENTICAL_NATS = 20.0
"""Summed log of the test sizes above which two equal rows are no coincidence."""


def audit_rows(
    names: Sequence[str],
    scores: Floats,
    *,
    test_sizes: TestSizes,
    repetitions: Floats | None = None,
    probe: Floats | None = None,
    recipe: Sequence[str] | None = None,
    n_correct: Floats | None = None,
    n_eval: Floats | None = None,
    class_counts: Mapping[str, Sequence[int]] | None = None,
    min_coverage: float = 1.0,
) -> RowAudit:
    """Verdict on every row and cell of a score table.

    Checks, in this order; the first that speaks gives the row its verdict, the later ones are added to its evidence:
    scores outside their range, or in percent; a missing name; a name or a whole row that stands twice; another recipe
    version than most rows; counts that contradict the score or the test size; a collapsed model (more than half of the
    scores are those of constant predictions); values under the wrong names (``check_placement``); missing tasks. Row status: 'ok'; 'repaired' where scores were put back under their names; else 'quarantined'.

    Args:
        names: (n_rows,) base model of each row.
        scores: (n_rows, n_tasks) fractions, NaN where missing, columns as in ``test_sizes.tasks``.
        test_sizes: denominators, from ``recover_test_sizes``; tasks without one are checked for range and copies only.
        repetitions: (n_reps, n_tasks) scores of the pretrained model: the usual level of each task.
        probe: (n_rows,) linear-probe score, NaN where missing.
        recipe: (n_rows,) version of the training recipe, "" where unknown.
        n_correct, n_eval: (n_rows, n_tasks) right answers and examples evaluated, NaN where not logged.
        class_counts: per task the number of test examples of each class (finds constant predictions exactly).
        min_coverage: share of tasks below which a row without other fault is quarantined as partial, in [0, 1].
    Returns:
        the verdicts, rows in the order given. The same input always gives the same verdicts.
    Raises:
        ValueError: shapes that do not belong together.
    Cost: n_rows * n_tasks^2; 2,037 rows of 36 tasks take about a second.
    """
    table = _checked(scores, (len(names), len(test_sizes.tasks)), "scores")
    reps = None if repetitions is None else _checked(repetitions, (None, len(test_sizes.tasks)), "repetitions")
    ledger = Ledger(names, table, test_sizes)
    _check_range(ledger)
    _check_copies(ledger)
    if recipe is not None:
        _check_recipe(ledger, _checked_names(recipe, len(names)))
    _check_counts(ledger, n_correct, n_eval)
    _check_collapse(ledger, class_counts)
    check_placement(ledger, reps)
    ledger.collapsed = constant_predictions(ledger.scores, test_sizes, class_counts=class_counts)
    _check_coverage(ledger, min_coverage)
    return ledger.close(_probe_status(probe, len(names)))


def _check_range(ledger: Ledger) -> None:
    low = np.where(ledger.sizes.n == 0, -1.0, 0.0)
    with np.errstate(invalid="ignore"):
        outside = ~np.isnan(ledger.raw) & ~((ledger.raw >= low) & (ledger.raw <= 1.0))
    for row in np.flatnonzero(outside.any(axis=1)).tolist():
        column = int(np.flatnonzero(outside[row])[0])
        held = ledger.raw[row][np.isfinite(ledger.raw[row])]
        value = ledger.raw[row, column]
        if len(held) and 1.0 < np.median(held) <= 100.0:
            kind, reason = "percent", "scores look like percent where fractions in [0, 1] are expected"
        else:
            kind, reason = (
                "out_of_range",
                f"{ledger.sizes.tasks[column]} holds {value:.6g}, outside the range of a score",
            )
        ledger.set_aside(row)
        ledger.rule(row, kind=kind, reason=reason, evidence=f"{int(outside[row].sum())} scores out of range")


def _check_copies(ledger: Ledger) -> None:
    by_name: dict[str, list[int]] = {}
    for row, name in enumerate(ledger.names):
        if name.strip():
            by_name.setdefault(name, []).append(row)
        else:
            ledger.set_aside(row)
            ledger.rule(row, kind="unnamed", reason="the row has no base model name")
    for rows in by_name.values():
        if len(rows) > 1:
            _rule_namesakes(ledger, rows)
    _rule_identical(ledger)


def _rule_namesakes(ledger: Ledger, rows: list[int]) -> None:
    """Rows of one name: the first tested one stands if no other contradicts it, else none does."""
    tested = [row for row in rows if ledger.tested[row]]
    differing = [row for row in tested if not np.array_equal(ledger.raw[row], ledger.raw[tested[0]], equal_nan=True)]
    if differing:
        for row in tested:
            ledger.set_aside(row)
            ledger.rule(
                row,
                kind="conflict",
                reason=f"the name stands {len(rows)} times, with different scores",
                evidence=f"rows {', '.join(str(r) for r in rows)}, counted from 0",
            )
    first = tested[0] if tested else rows[0]
    for row in rows:
        if row != first and (not differing or row not in tested):
            ledger.set_aside(row)
            ledger.rule(row, kind="duplicate", reason=f"the same name already stands in row {first}, counted from 0")


def _rule_identical(ledger: Ledger) -> None:
    nats = np.where(ledger.sizes.n > 0, np.log(np.maximum(ledger.sizes.n, 2)), IDENTICAL_NATS)
    telling = informative(ledger.raw)
    seen: dict[bytes, int] = {}
    for row in np.flatnonzero(ledger.open_rows()).tolist():
        if telling[row].sum() < 3 or nats[telling[row]].sum() < IDENTICAL_NATS:
            continue
        first = seen.setdefault(ledger.raw[row].tobytes(), int(row))
        if first != row:
            ledger.set_aside(row)
            ledger.rule(
                row,
                kind="identical",
                reason=f"every score equals that of {ledger.names[first]}: a copy, not a second measurement",
                evidence=f"{int(telling[row].sum())} scores, row {first}, counted from 0",
            )


def _check_recipe(ledger: Ledger, recipe: list[str]) -> None:
    known = Counter(version for version, tested in zip(recipe, ledger.tested, strict=True) if version and tested)
    if len(known) < 2:
        return
    usual = min(known, key=lambda version: (-known[version], version))
    for row in np.flatnonzero(ledger.tested).tolist():
        if recipe[row] and recipe[row] != usual:
            ledger.set_aside(row)
            ledger.rule(
                row,
                kind="recipe",
                reason=f"trained by recipe {recipe[row]} where {known[usual]} of {known.total()} rows used {usual}",
                evidence="scores of different recipes are not comparable",
            )


def _check_counts(ledger: Ledger, n_correct: Floats | None, n_eval: Floats | None) -> None:
    if n_eval is None:
        return
    size = _checked(n_eval, ledger.raw.shape, "n_eval")
    stated = ledger.sizes.n > 0
    other = np.isfinite(ledger.scores) & np.isfinite(size) & stated & (size != ledger.sizes.n)
    unequal = np.zeros_like(other)
    if n_correct is not None:
        right = _checked(n_correct, ledger.raw.shape, "n_correct")
        with np.errstate(invalid="ignore", divide="ignore"):
            far = np.abs(right / size - ledger.scores) > 1e-6 + 2 * ledger.sizes.resolution
        unequal = np.isfinite(ledger.scores) & np.isfinite(right) & np.isfinite(size) & far & ~ledger.sizes.correlations
    for row in np.flatnonzero((other | unequal).any(axis=1)).tolist():
        wrong = other[row] | unequal[row]
        column = int(np.flatnonzero(wrong)[0])
        task = ledger.sizes.tasks[column]
        said = (
            f"{task} was evaluated on {size[row, column]:.0f} examples, its test set has {ledger.sizes.n[column]}"
            if other[row, column]
            else f"{task} scores {ledger.scores[row, column]:.6g}, but its counts say otherwise"
        )
        ledger.set_aside(row, wrong)
        ledger.rule(row, kind="counts", reason=said, evidence=f"{int(wrong.sum())} scores contradict their counts")


def _check_collapse(ledger: Ledger, class_counts: Mapping[str, Sequence[int]] | None) -> None:
    constant = constant_predictions(ledger.scores, ledger.sizes, class_counts=class_counts)
    held = np.isfinite(ledger.scores)
    share = constant.sum(axis=1) / np.maximum(held.sum(axis=1), 1)
    for row in np.flatnonzero((share > COLLAPSED_SHARE) & (held.sum(axis=1) >= 3)).tolist():
        counted = f"{int(constant[row].sum())} of {int(held[row].sum())}"
        ledger.set_aside(row)
        ledger.rule(
            row,
            kind="collapsed",
            reason=f"{counted} scores are those of a model that answers every question alike",
            evidence="each equals the share of one class, or is 0",
        )


def _check_coverage(ledger: Ledger, min_coverage: float) -> None:
    held = np.asarray(np.isfinite(ledger.raw))
    tasks = ledger.sizes.tasks
    for row in range(len(ledger.names)):
        count = int(held[row].sum())
        if not ledger.tested[row]:
            ledger.rule(row, kind="untested", status=OK, reason="not tested: no target task has a score")
        elif ledger.kind[row] == "intact" and count < min_coverage * len(tasks):
            missing = [task for task, there in zip(tasks, held[row], strict=True) if not there]
            shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            ledger.rule(row, kind="partial", reason=f"{count} of {len(tasks)} tasks have a score; missing: {shown}")


def _probe_status(probe: Floats | None, n_rows: int) -> list[str]:
    if probe is None:
        return [MISSING] * n_rows
    values = np.asarray(probe, dtype=float)
    if values.shape != (n_rows,):
        raise ValueError(f"probe has shape {values.shape}, expected ({n_rows},): give one probe score per row, or NaN")
    return [MISSING if np.isnan(v) else OK if 0 < v <= 1 else QUARANTINED for v in values]


def _checked(values: Floats, shape: tuple[int | None, int], name: str) -> Floats:
    table = np.array(values, dtype=float)
    if table.ndim != 2 or table.shape[1] != shape[1] or (shape[0] is not None and table.shape[0] != shape[0]):
        wanted = f"({'any' if shape[0] is None else shape[0]}, {shape[1]})"
        raise ValueError(
            f"{name} has shape {table.shape}, expected {wanted}: one row per base model, one column per task"
        )
    return table


def _checked_names(values: Sequence[str], n_rows: int) -> list[str]:
    if len(values) != n_rows:
        raise ValueError(f"recipe has {len(values)} entries for {n_rows} rows: give one per row, '' where unknown")
    return [str(value) for value in values]
