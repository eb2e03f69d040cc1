"""What `make analyze` prints: a table a question, a reason where there is no answer."""

from __future__ import annotations

import math

import numpy as np

from analysis.analyses import TOPS, Analyses, Factors
from analysis.association import Association
from analysis.factor_studies import SizeLine
from analysis.report.figures import DrawnFigure
from analysis.report.paper_sets import PaperAnalyses, printed_line_note
from ray_app.commands.console import console, points, print_table


def print_analyses(analyses: Analyses, figures: tuple[DrawnFigure, ...]) -> None:
    """Print all results, and which figures could not be drawn."""
    study = analyses.study
    console.print(
        f"{study.arch}: {len(study.bases)} base models ({int(study.complete.sum())} of them on every target) on "
        f"{len(study.tasks)} targets, gains over {study.pretrained}"
    )
    if analyses.left_out:
        some = ", ".join(analyses.left_out[:3]) + (", ..." if len(analyses.left_out) > 3 else "")
        console.print(f"left out, for they lack a target: {len(analyses.left_out)} base models ({some})")
    rows = [
        *_model_rows(analyses),
        *_target_rows(analyses),
        *_interaction_rows(analyses),
        *_factor_rows(analyses.factors),
    ]
    print_table("Where to start: analyses", ["section", "question", "answer"], rows, left=3)
    _print_lost_gain(analyses)
    _print_groups(analyses)
    for note in study.notes:
        console.print(f"note: {note}")
    for figure in figures:
        if figure.reason:
            console.print(f"no figure {figure.name}: {figure.reason}")


def _correlation(found: Association) -> str:
    if found.reason:
        return f"- ({found.reason})"
    return (
        f"Pearson {found.pearson:.2f} (p {found.pearson_p:.2g}), Spearman {found.spearman:.2f} (p {found.spearman_p:.2g}), "
        f"n = {found.n}"
    )


def _model_rows(analyses: Analyses) -> list[list[str]]:
    share, marks, fit, influence = analyses.share, analyses.beyond_noise, analyses.probe, analyses.influence
    better = f"{share.n_better} of {share.n_models} = {share.share:.2f} (95 % {share.low:.2f} to {share.high:.2f})"
    cells = f"{int(marks.better.sum())} better, {int(marks.worse.sum())} worse, {int(marks.undecided.sum())} unknown"
    rows = [
        ["4", "share of base models better than the pretrained one", f"- ({share.reason})" if share.reason else better],
        ["4", "cells beyond 2 standard errors", cells + (f" ({marks.reason})" if marks.reason else "")],
        ["4.2", "probe gain on MNLI and average gain", _correlation(fit.association)],
    ]
    if not fit.line.reason:
        line = fit.line
        text = f"average gain = {line.slope:.4f} LP {line.intercept:+.3f} (slope ± {line.slope_se:.4f}, residual {line.residual_sd:.2f})"
        rows.append(["4.2", "least-squares line", text])
    if influence.most_influential and not fit.reason:
        place = influence.families.index(influence.most_influential)
        text = (
            f"without {influence.most_influential}: Pearson {influence.pearson[place]:.2f}, Spearman "
            f"{influence.spearman[place]:.2f}, n = {influence.n_left[place]}"
        )
        rows.append(["4.2", "most influential family", text])
    return rows


def _target_rows(analyses: Analyses) -> list[list[str]]:
    found, study = analyses.sensitivity, analyses.study
    strong = study.bases[found.strong] if found.strong >= 0 else "none"
    text = f"- ({found.reason})" if found.reason else _correlation(found.association)
    return [["4.1", f"best gain by target and gain of {strong}", text]]


def _interaction_rows(analyses: Analyses) -> list[list[str]]:
    found = analyses.interaction
    errors, ridge, test = found.regression, found.ridge, found.symmetry
    if errors.reason:
        rows = [["5", "regression (b + t) t'", f"- ({errors.reason})"]]
    else:
        text = (
            f"MSE {errors.full:.2f}; source only {errors.source:.2f}, target only {errors.target:.2f}, shuffled "
            f"{errors.shuffled_full_mean:.2f} ± {errors.shuffled_full_sd:.2f}"
        )
        rows = [["5", f"regression (b + t) t', {errors.n_cells} cells", text]]
    if ridge.reason:
        rows.append(["5", "the same on held-out cells", f"- ({ridge.reason})"])
    else:
        best = float(np.min(ridge.held_out_error))
        text = f"MSE {best:.2f} (ridge {ridge.ridge:.3g}); source only {ridge.source_error:.2f}, target only {ridge.target_error:.2f}"
        rows.append(["5", "the same on held-out cells", text])
    score = test.observed
    text = f"- ({score.reason})" if score.reason else f"{score.score:.3f} over {score.n_pairs} pairs"
    if not math.isnan(test.p):
        text += f"; at random {test.shuffled_mean:.3f} ± {test.shuffled_sd:.3f}, p {test.p:.2g}"
    elif test.reason and not score.reason:
        text += f" ({test.reason})"
    return [*rows, ["5", "symmetry of gains", text]]


def _factor_rows(found: Factors) -> list[list[str]]:
    rows = [
        ["6.1", "source size and average gain", _correlation(found.source_size.raw)],
        ["6.1", "target size and average gain", _correlation(found.target_size.raw)],
    ]
    smallest = found.smallest
    shared = f"{smallest.n_shared} of {smallest.count} shared (p {smallest.p:.2g})"
    text = f"- ({smallest.reason})" if smallest.reason else shared
    rows.append(["6.1", "smallest targets and widest gains", text])
    rows += _line_rows("gain by source size", found.source_lines, found.source_lines_reason)
    rows += _line_rows("gain by target size", found.target_lines, found.target_lines_reason)
    for task, shape in found.u_shapes:
        text = (
            f"- ({shape.reason})" if shape.reason else f"drop {shape.drop:.2f}, rise {shape.rise:.2f}, p {shape.p:.2g}"
        )
        rows.append(["6.1", f"U-shape: {task}", text])
    for each in found.seeds:
        rows.append(
            [
                "6.2",
                f"{len(each.seeds)} seeds of {each.task}: source and target score",
                _correlation(each.spread.association),
            ]
        )
    if not found.seeds:
        rows.append(["6.2", "same source, other seeds", f"- ({found.seeds_reason})"])
    for study in found.conditions:
        contrast = study.contrast
        text = f"{contrast.mean_a:+.2f} and {contrast.mean_b:+.2f}"
        if contrast.reason:
            text += f" ({contrast.reason})"
        else:
            text += (
                f": {contrast.difference:+.2f} (95 % {contrast.low:+.2f} to {contrast.high:+.2f}, p {contrast.p:.2g})"
            )
        rows.append(
            ["6.2, I.1", f"{study.a} against {study.b}" + (f" on {study.source}" if study.source else ""), text]
        )
    if not found.conditions:
        rows.append(["I.1", "conditions of training", f"- ({found.conditions_reason})"])
    for pair in found.architectures:
        names = {
            "sensitivity": "best gain by target",
            "source_average": "sources",
            "target_average": "targets' average",
        }
        rows += [
            ["6.3", f"{names[part]}: {pair.first} and {pair.second}", _correlation(getattr(pair, part))]
            for part in names
        ]
    return rows


def _line_rows(question: str, lines: tuple[SizeLine, ...], reason: str) -> list[list[str]]:
    if not lines:
        return [["6.1", question, f"- ({reason})"]]
    rows = []
    for line in lines:
        trend = line.trend
        text = f"{trend.line.slope:+.2f} points a doubling, {trend.direction.value} (p {trend.p:.2g})"
        rows.append(["6.1", f"{question}: {line.name}", f"- ({trend.reason})" if trend.reason else text])
    return rows


def _print_lost_gain(analyses: Analyses) -> None:
    lost = analyses.lost
    tables = {
        "by probe gain": lost.by_probe,
        "by average gain": lost.by_average,
        "by average gain on the other targets": lost.by_average_of_others,
    }
    rows = []
    for name, table in tables.items():
        for top in TOPS:
            found = table[top]
            counts = f"{found.n_over}/{found.n_targets}" if not found.reason else "-"
            rows.append([name, str(top), points(found.mean), points(found.max), counts, found.reason])
    for top, floor in lost.floor.items():
        count = "-" if floor.reason else f"{floor.mean_n_over:.1f}"
        rows.append(
            [
                "noise alone: all alike, tried at random",
                str(top),
                points(floor.mean_loss),
                points(floor.mean_max_loss),
                count,
                floor.reason,
            ]
        )
    columns = ["ranking", "tried", "mean lost", "max", "> 1 point", "why not"]
    print_table("Lost gain by trying only the top of a static ranking, points (Tables 1 and 6)", columns, rows)


def _print_groups(analyses: Analyses) -> None:
    table, reason = analyses.interaction.groups, analyses.interaction.groups_reason
    if table is None or reason:
        console.print(f"no table of source and target groups: {reason}")
        return
    rows = [
        [source, *(points(value, signed=True) for value in means)]
        for source, means in zip(table.source_groups, table.mean_gain, strict=True)
    ]
    rows.append(["ANOVA p", *("-" if math.isnan(test.p) else f"{test.p:.2g}" for test in table.by_target)])
    print_table(
        "Average gain of source groups (rows) on target groups (Table 2)", ["sources", *table.target_groups], rows
    )


def print_paper_set(found: PaperAnalyses) -> None:
    """Print what a printed table allows."""
    share = found.share
    console.print(
        f"{found.name}: {share.n_better} of {share.n_models} base models better than {found.study.pretrained} "
        f"({share.share:.2f}, 95 % {share.low:.2f} to {share.high:.2f})"
    )
    console.print(f"probe gain on MNLI and average gain: {_correlation(found.probe.association)}")
    if found.table.printed_line is not None:
        console.print(printed_line_note(found))
