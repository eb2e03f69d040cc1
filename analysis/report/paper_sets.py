"""Tables 4 and 5 of "Where to start?" as sets that `make analyze SET=...` takes without any cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.gain_matrix import ShareBetter, share_better
from analysis.noise import POINTS
from analysis.probe_gain import FamilyInfluence, ProbeFit, fit_probe_gain, leave_family_out
from analysis.published_tables import PRINTED_LINE, TABLE_4, TABLE_5, PublishedLine, PublishedModel
from analysis.report.analysis_json import FORMAT, finite
from analysis.report.factors_json import association_as_plain
from analysis.study import GainStudy

AVERAGE = "the General targets"
"""The one column of these tables: an average over them."""
ONLY_AVERAGES = "the printed table holds one average gain a model, no gain by target"


@dataclass(frozen=True, kw_only=True)
class PaperSet:
    """A printed table."""

    arch: str
    rows: tuple[PublishedModel, ...]
    printed_line: PublishedLine | None
    """The line the paper prints for it; None: none."""


PAPER_SETS = {
    "paper_table_4": PaperSet(arch="roberta-base", rows=TABLE_4, printed_line=PRINTED_LINE),
    "paper_table_5": PaperSet(arch="t5-small", rows=TABLE_5, printed_line=None),
}


@dataclass(frozen=True, kw_only=True)
class PaperAnalyses:
    """What average gains and probe gains alone allow."""

    name: str
    table: PaperSet
    study: GainStudy
    """Its only target is AVERAGE."""
    share: ShareBetter
    probe: ProbeFit
    influence: FamilyInfluence
    printed_miss: float
    """Mean average gain minus the printed line at the mean probe gain, points: 0 for any least-squares line; NaN without one."""


def analyse_paper_set(name: str) -> PaperAnalyses:
    """Share of base models that are better, and probe gain against average gain, of a printed table.

    Source: "Where to start?", Tables 4 and 5, section 4.2, appendix F.
    """
    table = PAPER_SETS[name]
    average = np.array([row.average_gain for row in table.rows])
    probe = np.array([row.probe_gain for row in table.rows])
    n = len(table.rows)
    study = GainStudy(
        arch=table.arch,
        pretrained=table.arch,
        settings="",
        bases=tuple(row.name for row in table.rows),
        tasks=(AVERAGE,),
        scores=average[:, None, None] / POINTS,
        baseline=np.zeros((1, 1)),
        probe=probe,
        probe_pretrained=float("nan"),
        origins=(None,) * n,
        target_groups=("general",),
        target_sizes=np.full(1, np.nan),
        source_groups=("",) * n,
    )
    line = table.printed_line
    miss = average.mean() - (line.intercept + line.slope * probe.mean()) if line else np.nan
    return PaperAnalyses(
        name=name,
        table=table,
        study=study,
        share=share_better(average[:, None]),
        probe=fit_probe_gain(probe, average),
        influence=leave_family_out(probe, average, study.families),
        printed_miss=float(miss),
    )


def paper_set_as_plain(found: PaperAnalyses) -> dict[str, Any]:
    """The same keys as for cells; what a table of averages cannot tell is null, with the reason."""
    fit, share = found.probe, found.share
    line = found.table.printed_line
    absent = ("sensitivity", "lost_gain", "groups", "symmetry", "regression", "factors")
    reasons = dict.fromkeys(absent, ONLY_AVERAGES)
    if fit.reason:
        reasons["probe"] = f"the printed table holds no probe gain ({fit.reason})"
    printed = (
        {"slope": line.slope, "intercept": line.intercept, "miss_at_the_means": found.printed_miss} if line else None
    )
    plain = {
        "format": FORMAT,
        "arch": found.study.arch,
        "set": found.name,
        "n_models": len(found.study.bases),
        "share_better": share.share,
        "share_better_low": share.low,
        "share_better_high": share.high,
        "n_better": share.n_better,
        "probe": {
            **association_as_plain(fit.association),
            "slope": fit.line.slope,
            "slope_se": fit.line.slope_se,
            "intercept": fit.line.intercept,
            "intercept_se": fit.line.intercept_se,
            "residual_sd": fit.line.residual_sd,
            "printed_line": printed,
        },
        **dict.fromkeys(absent),
        "notes": [] if line is None else [printed_line_note(found)],
        "reasons": reasons,
    }
    return dict(finite(plain))


def printed_line_note(found: PaperAnalyses) -> str:
    """That the line the paper prints is not the least-squares line of its own table."""
    line, fitted = found.table.printed_line, found.probe.line
    assert line is not None
    return (
        f"the paper prints average gain = {line.slope:.4f} LP {line.intercept:+.3f}; ordinary least squares over the same "
        f"{fitted.n} rows gives {fitted.slope:.4f} LP {fitted.intercept:+.3f}. A least-squares line passes through the means, "
        f"the printed one misses them by {found.printed_miss:+.2f} points"
    )
