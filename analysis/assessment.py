"""From the result table to a ranking that can be trusted: gate first, then gains, noise and ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from analysis.cell_rows import CellRows, SourceRow, class_counts, gather_rows, probe_scores, stated_sizes
from analysis.comparable import comparable_cells, tasks_to_rank
from analysis.integrity import RowAudit, TestSizes, audit_rows, recover_test_sizes
from analysis.noise import POINTS, GainEstimate, cell_gains, estimate_gains
from analysis.noise_ranking import NoiseAwareRanking, rank_under_noise

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """Base models of one architecture, best first; arrays are (n_bases, ...) in that order."""

    settings: str
    """Hash of the settings that all cells share."""
    pretrained: str
    """Name of the pretrained model."""
    tasks: tuple[str, ...]
    """Tasks on which the pretrained model has a score."""
    test_sizes: TestSizes
    """Test set sizes by task."""
    baseline: FloatArray
    """(n_tasks, n_seeds) fractions of the pretrained model."""
    bases: tuple[str, ...]
    """Base models with at least one trusted score: those with all tasks by gain, then the others by gain."""
    scores: FloatArray
    """(n_bases, n_tasks, n_seeds) trusted fractions; NaN where there is none."""
    complete: BoolArray
    """Base models with a trusted score on every task: only these are ranked."""
    estimate: GainEstimate
    """Average gains over the tasks each base model has, with standard errors."""
    rank: IntArray
    """Rank by average gain; equal gains share one; 0 where not ranked."""
    ranking: NoiseAwareRanking
    """Intervals of rank, tie groups, significance and verdict over the ranked ones (the others are NaN or 0 there)."""
    integrity: tuple[str, ...]
    """Worst status of a base model's rows: 'ok' or 'repaired'."""
    probe: FloatArray
    """Linear-probe score on MNLI, fraction; NaN where there is none."""
    audit: RowAudit
    """Verdict on every row, those set aside too."""
    rows: tuple[SourceRow, ...]
    """What the rows of ``audit`` are."""
    notes: tuple[str, ...]
    """What was left out or could not be computed, a sentence each."""

    @property
    def gain(self) -> FloatArray:
        """(n_bases, n_tasks) gain by task, points."""
        return cell_gains(self.scores, self.baseline)

    @property
    def task_score(self) -> FloatArray:
        """(n_bases, n_tasks) mean score over seeds, points."""
        return POINTS * _mean(self.scores, axis=2)

    @property
    def baseline_score(self) -> FloatArray:
        """(n_tasks,) mean score of the pretrained model, points."""
        return POINTS * _mean(self.baseline, axis=1)

    @property
    def n_cells(self) -> IntArray:
        """(n_bases,) trusted scores of each base model."""
        return np.isfinite(self.scores).sum(axis=(1, 2))

    @property
    def n_tasks(self) -> IntArray:
        """(n_bases,) tasks with a trusted score."""
        return np.isfinite(self.scores).any(axis=2).sum(axis=1)


def assess(
    cells: pa.Table,
    *,
    rng: np.random.Generator,
    probes: pa.Table | None = None,
    wanted: str | None = None,
    tasks: Sequence[str] | None = None,
    n_draws: int = 1000,
) -> Assessment:
    """Gate and rank the base models of one architecture.

    Published rows (one a model) and own rows (one a base model and seed) pass the same gate. Own rows may lack tasks while a
    study grows, published ones may not. Quarantined rows are in ``audit`` only; repaired ones count with the tasks they have
    left. Only base models with every task are ranked.

    Args:
        cells: scored finetune cells, one a key, in the order of their end.
        rng: source of chance for the bootstrap.
        probes: scored linear-probe cells on MNLI.
        wanted: settings hash to compare under, or the start of one.
        tasks: tasks to rank over; None: as ``tasks_to_rank`` chooses.
        n_draws: bootstrap draws.

    Raises:
        ValueError: no cell of the pretrained model under these settings.
    """
    kept, notes = comparable_cells(cells, wanted=wanted)
    is_baseline = pc.fill_null(pc.equal(kept["baseline"], "true"), False)
    pretrained_cells, others = kept.filter(is_baseline), kept.filter(pc.invert(is_baseline))
    ranked_tasks, left_out = tasks_to_rank(pretrained_cells, others, wanted=tasks)
    notes += left_out
    return _assess(
        kept.filter(pc.is_in(kept["task"], pa.array(ranked_tasks))),
        ranked_tasks,
        notes,
        rng=rng,
        probes=probes,
        n_draws=n_draws,
    )


def _assess(
    kept: pa.Table,
    tasks: tuple[str, ...],
    notes: list[str],
    *,
    rng: np.random.Generator,
    probes: pa.Table | None,
    n_draws: int,
) -> Assessment:
    """Gate and rank cells that all belong to the ranking."""
    is_baseline = pc.fill_null(pc.equal(kept["baseline"], "true"), False)
    pretrained_cells, others = kept.filter(is_baseline), kept.filter(pc.invert(is_baseline))
    repetitions, found = gather_rows(pretrained_cells, tasks), gather_rows(others, tasks)
    audit, sizes = _gate(kept, found, repetitions.scores, tasks, found.probe(probe_scores(probes)))
    trusted, names = _by_base(audit, found)
    baseline = repetitions.scores.T
    order, complete = _order(trusted, names, baseline)
    trusted, bases = trusted[order], tuple(names[index] for index in order)
    estimate = estimate_gains(trusted, baseline)
    ranked = np.where(complete[:, None, None], trusted, np.nan)
    ranking = rank_under_noise(ranked, baseline, rng=rng, n_draws=n_draws)
    above = estimate.gain[complete][None, :] > estimate.gain[:, None]
    repaired = {name for name, status in zip(found.names, audit.status, strict=True) if status == "repaired"}
    probe_of = dict(zip(found.names, found.probe(probe_scores(probes)), strict=True))
    return Assessment(
        settings=str(kept["settings"][0].as_py()),
        pretrained=str(pretrained_cells["base_model"][0].as_py()),
        tasks=tasks,
        test_sizes=sizes,
        baseline=baseline,
        bases=bases,
        scores=trusted,
        complete=complete,
        estimate=estimate,
        rank=np.where(complete, 1 + above.sum(axis=1), 0),
        ranking=ranking,
        integrity=tuple("repaired" if name in repaired else "ok" for name in bases),
        probe=np.array([probe_of[name] for name in bases]),
        audit=audit,
        rows=tuple(found.rows),
        notes=tuple([*notes, *sizes.conflicts, *ranking.reasons]),
    )


def _gate(
    kept: pa.Table, found: CellRows, repetitions: FloatArray, tasks: tuple[str, ...], probe: FloatArray
) -> tuple[RowAudit, TestSizes]:
    """The integrity gate over all rows but the pretrained model's."""
    own = bool(pc.any(pc.equal(kept["kind"], "cell")).as_py())
    scores = found.scores if found.names else None
    sizes = recover_test_sizes(repetitions, tasks, known=stated_sizes(kept), scores=scores)
    audit = audit_rows(
        found.labels,
        found.scores,
        test_sizes=sizes,
        repetitions=repetitions,
        probe=probe if np.isfinite(probe).any() else None,
        n_correct=found.n_correct if own else None,
        n_eval=found.n_eval if own else None,
        class_counts=class_counts(kept),
        min_coverage=0.0 if own else 1.0,
    )
    return audit, sizes


def _order(trusted: FloatArray, names: list[str], baseline: FloatArray) -> tuple[IntArray, BoolArray]:
    """Order of base models, complete ones first, then by gain, then by name; and which are complete, in that order."""
    complete: BoolArray = np.all(np.isfinite(_mean(trusted, axis=2)), axis=1)
    gains = _mean(cell_gains(trusted, baseline), axis=1)
    order = np.lexsort((np.array(names, dtype=str), -np.nan_to_num(gains, nan=-np.inf), ~complete))
    return order, complete[order]


def _by_base(audit: RowAudit, found: CellRows) -> tuple[FloatArray, list[str]]:
    """Trusted scores (n_bases, n_tasks, n_rows_of_a_base) of the base models that have any."""
    by_name: dict[str, list[int]] = {}
    for index, name in enumerate(found.names):
        if np.isfinite(audit.scores[index]).any():
            by_name.setdefault(name, []).append(index)
    depth = max((len(rows) for rows in by_name.values()), default=1)
    trusted = np.full((len(by_name), len(audit.tasks), depth), np.nan)
    for place, rows in enumerate(by_name.values()):
        trusted[place, :, : len(rows)] = audit.scores[rows].T
    return trusted, list(by_name)


def _mean(values: FloatArray, *, axis: int) -> FloatArray:
    """Mean over what is there; NaN where nothing is."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(there, values, 0.0).sum(axis=axis) / there.sum(axis=axis))
