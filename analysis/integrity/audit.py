"""The audit in tables: what was found per architecture, and what it does to the ranking (Markdown)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.integrity.counts import Bools, Floats
from analysis.integrity.damage import DamageResult
from analysis.integrity.ledger import RowAudit
from analysis.noise import estimate_gains

COPIES = ("duplicate", "identical", "conflict")
KINDS = (
    ("shifted", ("shifted", "exchanged")),
    ("other split", ("other_split", "counts")),
    ("collapsed", ("collapsed",)),
    ("copies", COPIES),
    ("partial", ("partial",)),
    ("other", ("out_of_range", "percent", "recipe", "level", "unnamed")),
)


@dataclass(frozen=True, kw_only=True)
class RankChange:
    """One base model of a ranking, as published and after the gate."""

    base_model: str
    published_rank: int
    """Rank by the average as published, 1 the best."""
    published_gain: float
    """Published average less the pretrained model's, points."""
    status: str
    """'ok', 'repaired' or 'quarantined'."""
    gain: float
    """Average gain over the tasks with a trusted score, points; NaN without any."""
    n_tasks: int
    """Number of those tasks."""
    rank: int
    """Rank among the rows that may be ranked; 0 for those set aside or covering too few tasks."""
    reason: str


def summarise(audit: RowAudit) -> dict[str, int]:
    """Counts of rows: all, tested, intact, by kind of fault, and fit for a full ranking."""
    kinds = Counter(audit.kind)
    counts = {
        "rows": len(audit.names),
        "tested": len(audit.names) - kinds["untested"],
        "intact": kinds["intact"],
    }
    counts |= {name: sum(kinds[kind] for kind in members) for name, members in KINDS}
    counts |= {"remain": int(audit.usable().sum()), "probe 0": audit.probe_status.count("quarantined")}
    return counts


def audit_table(audits: Mapping[str, RowAudit]) -> str:
    """Markdown: a line of counts for each architecture."""
    counted = {name: summarise(audit) for name, audit in audits.items()}
    if not counted:
        return "No table was audited.\n"
    columns = list(next(iter(counted.values())))
    lines = [[name, *(str(counts[column]) for column in columns)] for name, counts in counted.items()]
    return markdown_table(["architecture", *columns], lines)


def damage_table(results: Sequence[DamageResult]) -> str:
    """Markdown: precision and recall on known damage."""
    header = [
        "damage",
        "rows damaged",
        "found",
        "recall",
        "precision",
        "exactly undone or set aside",
        "wrong scores trusted",
    ]
    lines = [
        [
            result.damage,
            str(result.damaged),
            str(result.found),
            f"{result.recall:.3f}",
            f"{result.precision:.3f}",
            str(result.exact),
            str(result.wrong_cells),
        ]
        for result in results
    ]
    return markdown_table(header, lines)


def compare_rankings(
    audit: RowAudit, scores: Floats, pretrained: npt.ArrayLike, *, listed: Bools | None = None
) -> tuple[RankChange, ...]:
    """The ranking by average score as published beside the ranking after the gate.

    Published: rows with every score, by their mean. After: ``audit.usable()`` rows by average gain. Ties in the order given.

    Args:
        audit: verdicts on the rows.
        scores: (n_rows, n_tasks) as published, NaN where missing.
        pretrained: (n_tasks, n_seeds) fractions of the pretrained model.
        listed: (n_rows,) rows that the published ranking shows; default all.
    Returns:
        the published rows in published order.
    Raises:
        ValueError: shapes that do not belong together.
    """
    table, start = np.asarray(scores, dtype=float), np.asarray(pretrained, dtype=float)
    if table.shape != audit.scores.shape:
        raise ValueError(
            f"got scores of shape {table.shape} for an audit of shape {audit.scores.shape}: give the same rows"
        )
    shown = np.isfinite(table).all(axis=1) & (np.ones(len(table), dtype=bool) if listed is None else listed)
    means = table.mean(axis=1)
    order = np.flatnonzero(shown)[np.argsort(-means[shown], kind="stable")]
    base = np.nanmean(np.where(np.isfinite(start).any(axis=1), np.nanmean(start, axis=1), np.nan))
    after = estimate_gains(audit.scores, start)
    usable = np.flatnonzero(audit.usable() & (np.ones(len(table), dtype=bool) if listed is None else listed))
    rank = np.zeros(len(table), dtype=np.int64)
    rank[usable[np.argsort(-after.gain[usable], kind="stable")]] = np.arange(1, len(usable) + 1)
    return tuple(
        RankChange(
            base_model=audit.names[row],
            published_rank=place + 1,
            published_gain=float(means[row] - base) * 100,
            status=audit.status[row],
            gain=float(after.gain[row]),
            n_tasks=int(np.isfinite(audit.scores[row]).sum()),
            rank=int(rank[row]),
            reason=audit.reason[row],
        )
        for place, row in enumerate(order.tolist())
    )


def rank_change_table(changes: Sequence[RankChange], *, top: int = 5) -> str:
    """Markdown: the first ``top`` published rows and those that take their places."""
    first = [change for change in changes if change.published_rank <= top or 0 < change.rank <= top]
    lines = [
        [
            str(change.published_rank),
            change.base_model,
            f"{change.published_gain:+.2f}",
            change.status,
            f"{change.gain:+.2f} ({change.n_tasks})" if np.isfinite(change.gain) else "-",
            str(change.rank) if change.rank else "-",
        ]
        for change in first
    ]
    return markdown_table(
        ["published rank", "base model", "published gain", "verdict", "gain after (tasks)", "rank after"], lines
    )


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; names are untrusted, so characters with a meaning in Markdown or HTML are escaped."""
    rows = [header, ["---"] * len(header), *([_plain(cell) for cell in line] for line in lines)]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _plain(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join("".join("\\" + c if c in "\\`*_{}[]|" else c for c in escaped).split())
