"""The analyses as plain values for ``outputs/analyze/<arch>[-<set>].json``: numbers or null, and for every null the reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.analyses import Analyses, Interaction
from analysis.groups import Anova, GroupTable
from analysis.lost_gain import LostGain, NoiseFloor
from analysis.report.factors_json import association_as_plain, factors_as_plain
from analysis.sensitivity import Sensitivity

FORMAT = 1
"""Version of the file."""


def analyses_as_plain(analyses: Analyses, *, name: str | None = None) -> dict[str, Any]:
    """All results as JSON-ready values.

    Gains, slopes and losses are in points, squared errors in points squared, shares and p values fractions.

    Args:
        analyses: the results.
        name: set that they are about; None for all cells.
    """
    reasons: dict[str, str] = {}
    study = analyses.study
    plain = {
        "format": FORMAT,
        "arch": study.arch,
        "set": name,
        "settings": study.settings,
        "pretrained": study.pretrained,
        "n_models": len(study.bases),
        "n_complete": int(study.complete.sum()),
        "left_out": list(analyses.left_out),
        "n_targets": len(study.tasks),
        "tasks": list(study.tasks),
        **_share(analyses, reasons),
        "significance": _significance(analyses, reasons),
        "probe": _probe(analyses, reasons),
        "sensitivity": _sensitivity(analyses, reasons),
        "lost_gain": _lost_gain(analyses, reasons),
        **_interaction(analyses.interaction, reasons),
        "factors": factors_as_plain(analyses.factors, study.tasks, reasons),
        "targets": _targets(analyses),
        "notes": list(study.notes),
    }
    plain["reasons"] = {path: reason for path, reason in reasons.items() if reason}
    return finite(plain)


def finite(value: Any) -> Any:
    """The same values with NaN and infinities as None, numpy numbers as Python's, tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [finite(item) for item in value]
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value


def _share(analyses: Analyses, reasons: dict[str, str]) -> dict[str, Any]:
    share = analyses.share
    reasons |= dict.fromkeys(("share_better", "share_better_low", "share_better_high"), share.reason)
    return {
        "share_better": share.share,
        "share_better_low": share.low,
        "share_better_high": share.high,
        "n_better": share.n_better,
    }


def _significance(analyses: Analyses, reasons: dict[str, str]) -> dict[str, Any]:
    marks, paper = analyses.beyond_noise, analyses.paper_rule
    reasons["significance"], reasons["significance.paper_rule"] = marks.reason, paper.reason
    counts = {name: int(getattr(marks, name).sum()) for name in ("better", "worse", "undecided")}
    return {
        "rule": "gain beyond 2 standard errors, seeds pooled by target",
        **counts,
        "paper_rule": None if paper.reason else {"better": int(paper.better.sum()), "worse": int(paper.worse.sum())},
    }


def _probe(analyses: Analyses, reasons: dict[str, str]) -> dict[str, Any]:
    fit, influence = analyses.probe, analyses.influence
    reasons["probe"] = fit.reason
    plain = association_as_plain(fit.association) | {
        "slope": fit.line.slope,
        "slope_se": fit.line.slope_se,
        "intercept": fit.line.intercept,
        "intercept_se": fit.line.intercept_se,
        "residual_sd": fit.line.residual_sd,
    }
    if influence.most_influential:
        place = influence.families.index(influence.most_influential)
        plain["without_family"] = {
            "family": influence.most_influential,
            "n_left": influence.n_left[place],
            "pearson": influence.pearson[place],
            "spearman": influence.spearman[place],
        }
    else:
        plain["without_family"] = None
        reasons["probe.without_family"] = influence.reason or fit.reason
    return plain


def _sensitivity(analyses: Analyses, reasons: dict[str, str]) -> dict[str, Any]:
    def part(found: Sensitivity, path: str) -> dict[str, Any]:
        reasons[path] = found.reason
        return association_as_plain(found.association)

    strong = analyses.sensitivity.strong
    return part(analyses.sensitivity, "sensitivity") | {
        "strong": analyses.study.bases[strong] if strong >= 0 else None,
        "without_strong": part(analyses.sensitivity_without_strong, "sensitivity.without_strong"),
    }


def _lost_gain(analyses: Analyses, reasons: dict[str, str]) -> dict[str, Any]:
    lost = analyses.lost

    def row(found: LostGain, path: str) -> dict[str, Any]:
        reasons[path] = found.reason
        known = not found.reason
        return {
            "mean": found.mean,
            "max": found.max,
            "n_over_1": found.n_over if known else None,
            "n_targets": found.n_targets,
            "tied": found.tied,
        }

    def floor(found: NoiseFloor, path: str) -> dict[str, Any]:
        reasons[path] = found.reason
        return {"mean": found.mean_loss, "max": found.mean_max_loss, "n_over_1": found.mean_n_over}

    tables = {
        "by_probe": lost.by_probe,
        "by_average": lost.by_average,
        "by_average_of_others": lost.by_average_of_others,
    }
    plain: dict[str, Any] = {
        name: {f"loss_{top}": row(found, f"lost_gain.{name}.loss_{top}") for top, found in table.items()}
        for name, table in tables.items()
    }
    plain["noise_floor"] = {
        f"loss_{top}": floor(found, f"lost_gain.noise_floor.loss_{top}") for top, found in lost.floor.items()
    }
    return plain


def _interaction(found: Interaction, reasons: dict[str, str]) -> dict[str, Any]:
    reasons["groups"] = reasons["groups_anova"] = found.groups_reason
    reasons["symmetry"], reasons["symmetry_test"] = found.symmetry.observed.reason, found.symmetry.reason
    reasons["regression"], reasons["regression.held_out"] = found.regression.reason, found.ridge.reason
    table = found.groups if found.groups is not None and not found.groups.reason else None
    if table is not None:
        for place in np.argwhere(table.n_cells == 0):
            source, target = table.source_groups[place[0]], table.target_groups[place[1]]
            reasons[f"groups.{source}.{target}"] = "no cell but those of a base model on its own source task"
    return {
        "groups": None if table is None else _group_means(table),
        "groups_anova": None if table is None else _group_tests(table),
        "symmetry": found.symmetry.observed.score,
        "symmetry_test": {
            "tasks": list(found.symmetry_tasks),
            "n_pairs": found.symmetry.observed.n_pairs,
            "norm": "Frobenius",
            "shuffled_mean": found.symmetry.shuffled_mean,
            "shuffled_sd": found.symmetry.shuffled_sd,
            "p": found.symmetry.p,
        },
        "regression": _regression(found),
    }


def _group_means(table: GroupTable) -> dict[str, Any]:
    """Source group -> target group -> mean gain."""
    rows = zip(table.source_groups, table.mean_gain, strict=True)
    return {source: dict(zip(table.target_groups, means, strict=True)) for source, means in rows}


def _group_tests(table: GroupTable) -> dict[str, Any]:
    def test(each: Anova) -> dict[str, Any]:
        return {"f": each.f, "p": each.p, "n": each.n, "reason": each.reason}

    sides = {"by_target": table.by_target, "by_source": table.by_source}
    return {side: {each.within: test(each) for each in tests} for side, tests in sides.items()}


def _regression(found: Interaction) -> dict[str, Any]:
    errors, ridge = found.regression, found.ridge
    best = int(np.argmin(ridge.held_out_error)) if not ridge.reason else 0
    return {
        "n_models": int(found.intervals.model.used.any(axis=1).sum()),
        "n_cells": errors.n_cells,
        "method": found.intervals.model.method or None,
        "mse_full": errors.full,
        "mse_source": errors.source,
        "mse_target": errors.target,
        "mse_constant": errors.constant,
        "mse_shuffled_mean": errors.shuffled_full_mean,
        "mse_shuffled_sd": errors.shuffled_full_sd,
        "n_shuffles": errors.n_shuffles,
        "held_out": {
            "mse_full": ridge.held_out_error[best],
            "ridge": ridge.ridge,
            "mse_full_without_ridge": ridge.held_out_error[0],
            "mse_source": ridge.source_error,
            "mse_target": ridge.target_error,
            "n_folds": ridge.n_folds,
        },
    }


def _targets(analyses: Analyses) -> list[dict[str, Any]]:
    study, found, model = analyses.study, analyses.sensitivity, analyses.interaction.intervals
    floor = next(iter(analyses.lost.floor.values()))
    return [
        {
            "target": task,
            "group": study.target_groups[column],
            "train_size": study.target_sizes[column],
            "n_models": found.n_models[column],
            "max_gain": found.max_gain[column],
            "max_gain_by_chance": floor.max_gain[column],
            "strong_gain": found.strong_gain[column],
            "gain_range": found.gain_range[column],
            "slope": model.model.target_slope[column],
            "slope_low": model.slope_low[column],
            "slope_high": model.slope_high[column],
            "level": model.model.target_level[column],
        }
        for column, task in enumerate(study.tasks)
    ]
