"""Section 6 as plain values: sizes, seeds, conditions of training, architectures."""

from __future__ import annotations

from typing import Any

from analysis.analyses import Factors
from analysis.association import Association
from analysis.factor_studies import ConditionStudy, SeedStudy, SizeLine
from analysis.factors import ArchitecturePair, SizeCorrelation, SmallestTargets
from analysis.size_curves import UShape


def association_as_plain(found: Association) -> dict[str, Any]:
    """A correlation; ``p`` belongs to Pearson's r."""
    return {
        "n": found.n,
        "pearson": found.pearson,
        "spearman": found.spearman,
        "p": found.pearson_p,
        "spearman_p": found.spearman_p,
    }


def factors_as_plain(found: Factors, tasks: tuple[str, ...], reasons: dict[str, str]) -> dict[str, Any]:
    """The analyses of section 6; ``reasons`` takes up why a part is missing, by dotted path."""
    alone = "one architecture: name others to compare with, AGAINST=name,name" if not found.architectures else ""
    reasons |= {
        "factors.source_size": found.source_size.reason,
        "factors.target_size": found.target_size.reason,
        "factors.smallest_targets": found.smallest.reason,
        "factors.source_size_curves": found.source_lines_reason,
        "factors.target_size_curves": found.target_lines_reason,
        "factors.u_shapes": found.target_lines_reason,
        "factors.source_seeds": found.seeds_reason,
        "factors.conditions": found.conditions_reason,
        "factors.architectures": alone,
    }
    return {
        "source_size": _size(found.source_size),
        "target_size": _size(found.target_size),
        "smallest_targets": _smallest(found.smallest, tasks),
        "source_size_curves": [_line(line) for line in found.source_lines] or None,
        "target_size_curves": [_line(line) for line in found.target_lines] or None,
        "u_shapes": [_u_shape(task, shape) for task, shape in found.u_shapes] or None,
        "source_seeds": [_seeds(each) for each in found.seeds] or None,
        "conditions": [_condition(each) for each in found.conditions] or None,
        "architectures": [_pair(pair) for pair in found.architectures] or None,
    }


def _size(found: SizeCorrelation) -> dict[str, Any]:
    return {"raw": association_as_plain(found.raw), "log": association_as_plain(found.log)}


def _smallest(found: SmallestTargets, tasks: tuple[str, ...]) -> dict[str, Any] | None:
    if found.reason:
        return None
    return {
        "n_shared": found.n_shared,
        "count": found.count,
        "p": found.p,
        "smallest": [tasks[place] for place in found.smallest],
        "widest": [tasks[place] for place in found.widest],
    }


def _line(line: SizeLine) -> dict[str, Any]:
    return {
        "name": line.name,
        "sizes": line.sizes,
        "mean_gain": line.mean,
        "se": line.se,
        "points_per_doubling": line.trend.line.slope,
        "p": line.trend.p,
        "direction": line.trend.direction.value,
        "reason": line.trend.reason,
    }


def _u_shape(task: str, shape: UShape) -> dict[str, Any]:
    return {
        "target": task,
        "n_models": shape.n_models,
        "drop": shape.drop,
        "rise": shape.rise,
        "p": shape.p,
        "starts_positive": shape.starts_positive,
        "dips_negative": shape.dips_negative,
        "reason": shape.reason,
    }


def _seeds(each: SeedStudy) -> dict[str, Any]:
    return {
        "source": each.task,
        **association_as_plain(each.spread.association),
        "source_range": each.spread.source_range,
        "target_range": each.spread.target_range,
        "target_sd": each.spread.target_sd,
        "excess_p": each.spread.excess_p,
        "reason": each.spread.reason,
    }


def _condition(each: ConditionStudy) -> dict[str, Any]:
    return {"source": each.source or None, "a": each.a, "b": each.b, **vars(each.contrast)}


def _pair(pair: ArchitecturePair) -> dict[str, Any]:
    parts = {name: getattr(pair, name) for name in ("sensitivity", "source_average", "target_average")}
    return {
        "first": pair.first,
        "second": pair.second,
        **{name: {**association_as_plain(part), "reason": part.reason} for name, part in parts.items()},
    }
