"""The report's numbers against hand arithmetic, and where each base model stands."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from analysis.report.site import ArchReport, ModelReport, Standing
from tests.result_cells import PRETRAINED, baseline_cells, cell, model_cells
from tests.site_reports import START, TASKS, build_report, small_rows


def model(report: ArchReport, name: str) -> ModelReport:
    return next(m for m in report.models if m.name == name)


def test_numbers_of_a_model_ten_points_up(small: ArchReport) -> None:
    """Deviation 7.0711 a task, one seed against two: se = sqrt(4 * 50 * 1.5) / 4, four degrees of freedom."""
    up = model(small, "org/up")
    noise = math.sqrt(4 * 50 * 1.5) / 4
    half = stats.t.ppf(0.975, 4) * noise
    assert (up.rank, up.n_tasks, up.standing) == (1, 4, Standing.OK)
    assert (up.avg_gain, up.avg_score, up.noise) == pytest.approx((10, 70, noise))
    assert (up.low, up.high) == pytest.approx((10 - half, 10 + half))
    rte = up.cells[TASKS.index("rte")]
    assert (rte.gain, rte.score, rte.noise, rte.n_seeds) == (
        pytest.approx(10),
        pytest.approx(55),
        pytest.approx(math.sqrt(75)),
        1,
    )
    assert not rte.beyond_noise and up.probe == pytest.approx(62)


def test_baseline(small: ArchReport) -> None:
    boolq = small.baseline[0]
    assert (boolq.task, boolq.mean, boolq.n_seeds, boolq.test_size) == ("cola", pytest.approx(55), 2, 200)
    assert boolq.sd == pytest.approx(math.sqrt(50)) and small.avg_score == pytest.approx(60)
    assert small.avg_sd == pytest.approx(math.sqrt(50)), "seed means 55 and 65"
    assert len(small.baseline_runs) == 8


def test_order_and_standing(small: ArchReport) -> None:
    assert [(m.name, m.standing.value, m.rank) for m in small.models] == [
        ("org/up", "ok", 1),
        ("startline/acme_arch-mnli", "ok", 2),
        ("org/down", "ok", 3),
        ("org/partial", "ok", None),
        ("org/broken", "quarantined", None),
        ("org/probed", "untested", None),
        ("org/zero", "untested", None),
    ]


def test_what_was_seen_in_training_is_known_for_models_made_here_only(small: ArchReport) -> None:
    made = model(small, "startline/acme_arch-mnli")
    assert made.trained_on == ("qnli",) and made.saw_target is True
    assert [cell.trained_on for cell in made.cells] == [False, False, True, False]
    assert model(small, "org/up").saw_target is None and model(small, "org/up").cells[0].trained_on is None


def test_a_failed_cell_and_a_set_aside_row(small: ArchReport) -> None:
    partial = model(small, "org/partial")
    assert partial.cells[TASKS.index("rte")].status == "failed"
    assert partial.failures[0].reason == "<b>out of memory</b>"
    assert (partial.n_tasks, partial.avg_gain) == (3, pytest.approx((9.5 - 0.5 - 0.5) / 3))
    broken = model(small, "org/broken")
    assert broken.findings[0].kind == "counts" and math.isnan(broken.avg_gain)
    assert [cell.recorded for cell in broken.cells] == pytest.approx([75] * 4)


def test_a_probe_score_of_zero_is_no_score(small: ArchReport) -> None:
    zero = model(small, "org/zero")
    assert math.isnan(zero.probe) and "0 is set aside" in zero.probe_note


def test_probe_line_over_ranked_models(small: ArchReport) -> None:
    """Three points (62, 10), (55, 6.5), (50, -5)."""
    line = stats.linregress([62, 55, 50], [10, 6.5, -5])
    assert (small.probe_fit.slope, small.probe_fit.intercept) == pytest.approx((line.slope, line.intercept))
    assert (small.probe_fit.n, small.probe_fit.spearman) == (3, pytest.approx(1))


def test_groups_are_true_parts(small: ArchReport) -> None:
    assert small.groups == {"nli": ("qnli", "rte")}


def test_one_seed_of_the_pretrained_model_gives_gains_without_intervals() -> None:
    rows = [*baseline_cells({t: s[:1] for t, s in START.items()}), *model_cells("org/m", dict.fromkeys(TASKS, 0.7))]
    report = build_report(rows)
    only = report.models[0]
    assert (
        only.avg_gain == pytest.approx(70 - (50 + 70 + 60 + 40) / 4) and math.isnan(only.noise) and math.isnan(only.low)
    )
    assert report.verdict.value == "unknown" and math.isnan(report.avg_sd) and math.isnan(report.baseline[0].sd)


def test_several_seeds_of_a_model_are_averaged() -> None:
    rows = [*baseline_cells(START)]
    for seed, shift in enumerate((0.0, 0.02)):
        rows += model_cells("org/m", {t: s[0] + shift for t, s in START.items()}, seed=seed)
    report = build_report(rows)
    assert report.models[0].n_scores == 8 and report.models[0].cells[0].n_seeds == 2
    assert report.models[0].cells[0].score == pytest.approx(51) and len(report.models[0].cells[0].runs) == 2


def test_a_source_cell_is_no_base_model_under_test() -> None:
    report = build_report([*small_rows(), cell(PRETRAINED, "qnli", 0.5, role="source", seed=3)])
    assert PRETRAINED not in {m.name for m in report.models}


def test_a_published_row_that_lacks_tasks_is_set_aside_with_its_scores() -> None:
    rows = [*baseline_cells(START), *model_cells("org/all", dict.fromkeys(TASKS, 0.7))]
    rows += model_cells("org/some", dict.fromkeys(TASKS[:3], 0.7))
    published = [row | {"kind": "published", "run_id": f"run-{row['base_model']}", "seed": None} for row in rows[8:]]
    report = build_report([row | {"kind": "published"} for row in rows[:8]] + published)
    some = model(report, "org/some")
    assert (some.standing, some.rank, some.n_tasks) == (Standing.QUARANTINED, None, 3)
    assert some.findings[0].kind == "partial" and model(report, "org/all").standing is Standing.OK
