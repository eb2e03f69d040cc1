"""What must hold of every statistic: order of base models and tasks, names, level and scale of gains, copies of rows.

One entry per statistic in STATISTICS: how it is computed from a gain matrix, as a dictionary of numbers (``row``:
one per base model, ``column``: one per task, ``scalar``), and what a change of the matrix does to it. A new statistic is
one entry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from analysis.association import associate, fit_line
from analysis.factors import compare_conditions, compare_smallest_targets, correlate_size
from analysis.gain_matrix import Spread, average_gain, mark_significant, order_by_group, share_better
from analysis.groups import Unit, tabulate_groups
from analysis.lost_gain import average_order, measure_lost_gain, simulate_noise_floor
from analysis.probe_gain import fit_probe_gain
from analysis.regression import compare_regressions, fit_gain_model
from analysis.sensitivity import measure_sensitivity
from analysis.size_curves import find_u_shape, fit_trend
from analysis.symmetry import measure_symmetry

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A gain matrix with one probe gain per base model and names of groups."""

    gain: Floats
    probe: Floats
    sources: list[str]
    targets: list[str]


@dataclass(frozen=True, kw_only=True)
class Found:
    """Numbers of a statistic by what they belong to."""

    row: Mapping[str, Floats] = field(default_factory=dict)
    column: Mapping[str, Floats] = field(default_factory=dict)
    scalar: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """How to compute it, and how each of its numbers answers to a common shift and scale of all gains.

    ``power`` of the scale: 0 unchanged, 1 as the gain, 2 as its square; without an entry there is no rule. ``shifts``: numbers that grow by the shift;
    ``not_shift``: numbers for which a shift of all gains has no simple rule.
    """

    compute: Callable[[Case], Found]
    power: Mapping[str, int]
    shifts: frozenset[str] = frozenset()
    not_shift: frozenset[str] = frozenset()
    square: bool = False
    """Base models and tasks are one list: permuted together."""
    copies: frozenset[str] = frozenset()
    """Numbers unchanged when every base model is listed twice."""


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def probe_statistic(case: Case) -> Found:
    fit = fit_probe_gain(case.probe, case.gain.mean(axis=1))
    a, line = fit.association, fit.line
    return Found(
        scalar={
            "pearson": a.pearson, "pearson_p": a.pearson_p, "spearman": a.spearman, "spearman_p": a.spearman_p,
            "slope": line.slope, "intercept": line.intercept, "slope_se": line.slope_se,
        }
    )  # fmt: skip


def sensitivity_statistic(case: Case) -> Found:
    found = measure_sensitivity(case.gain)
    return Found(
        column={"max_gain": found.max_gain, "strong_gain": found.strong_gain, "gain_range": found.gain_range},
        scalar={"pearson": found.association.pearson, "spearman": found.association.spearman},
    )


def lost_gain_statistic(case: Case) -> Found:
    by_probe = measure_lost_gain(case.gain, case.probe, top=2, threshold=0.0)
    by_average = measure_lost_gain(case.gain, average_order(case.gain, leave_target_out=True), top=1)
    return Found(
        column={"by_probe": by_probe.loss, "by_average": by_average.loss},
        scalar={"mean": by_probe.mean, "max": by_probe.max, "n_over": by_probe.n_over},
    )


def group_statistic(case: Case, unit: Unit) -> Found:
    found = tabulate_groups(case.gain, case.sources, case.targets, unit=unit)
    scalar = {}
    for s, source in enumerate(found.source_groups):
        for t, target in enumerate(found.target_groups):
            scalar[f"mean {source} {target}"] = float(found.mean_gain[s, t])
    for anova in found.by_target:
        scalar[f"p on {anova.within}"] = anova.p
    for anova in found.by_source:
        scalar[f"p of {anova.within}"] = anova.p
    return Found(scalar=scalar)


GROUP_MEANS = frozenset(f"mean {s} {t}" for s in ("nli", "other") for t in ("nli", "other"))
GROUP_POWER = dict.fromkeys(GROUP_MEANS, 1) | {f"p {word} {g}": 0 for word in ("on", "of") for g in ("nli", "other")}


def regression_statistic(case: Case) -> Found:
    model = fit_gain_model(case.gain, rng=rng())
    compared = compare_regressions(case.gain, rng=rng(), n_shuffles=2)
    # with a small gap between the singular values b and t' are ill-determined; the errors are not
    assume(model.second_ratio < 0.9 and abs(model.target_slope.sum()) > 0.1)
    return Found(
        row={"base": model.base_effect},
        column={"slope": model.target_slope, "level": model.target_level},
        scalar={"full": compared.full, "source": compared.source, "target": compared.target, "all": compared.constant},
    )


def symmetry_statistic(case: Case) -> Found:
    n = min(case.gain.shape)
    return Found(scalar={"score": measure_symmetry(case.gain[:n, :n]).score})


def share_statistic(case: Case) -> Found:
    found = share_better(case.gain)
    return Found(row={"average": average_gain(case.gain)}, scalar={"share": found.share, "low": found.low})


def significance_statistic(case: Case) -> Found:
    noise = np.random.default_rng(1).normal(0.5, 0.02, size=(1, 1, 4))
    found = mark_significant(case.gain, np.broadcast_to(noise, (*case.gain.shape, 4)), spread=Spread.CELL)
    return Found(row={"n_better": found.better.sum(axis=1)}, column={"std": found.std.max(axis=0)})


def size_statistic(case: Case) -> Found:
    # a size per task that moves with its column: one more than the square of the gain range
    found = correlate_size(1 + np.ptp(case.gain, axis=0) ** 2, case.gain.mean(axis=0))
    return Found(scalar={"raw": found.raw.pearson, "rank": found.log.spearman})


STATISTICS = {
    "share": Statistic(
        compute=share_statistic, power={"average": 1, "share": 0, "low": 0}, shifts=frozenset({"average"}),
        not_shift=frozenset({"share", "low"}), copies=frozenset({"share"}),
    ),
    "significance": Statistic(
        compute=significance_statistic, power={"std": 0}, not_shift=frozenset({"n_better"}), copies=frozenset({"std"}),
    ),
    "probe": Statistic(
        compute=probe_statistic,
        power={"pearson": 0, "pearson_p": 0, "spearman": 0, "spearman_p": 0, "slope": 1, "intercept": 1, "slope_se": 1},
        shifts=frozenset({"intercept"}), copies=frozenset({"pearson", "spearman", "slope", "intercept"}),
    ),
    "sensitivity": Statistic(
        compute=sensitivity_statistic,
        power={"max_gain": 1, "strong_gain": 1, "gain_range": 1, "pearson": 0, "spearman": 0},
        shifts=frozenset({"max_gain", "strong_gain"}),
        copies=frozenset({"max_gain", "strong_gain", "gain_range", "pearson", "spearman"}),
    ),
    "lost gain": Statistic(
        compute=lost_gain_statistic, power={"by_probe": 1, "by_average": 1, "mean": 1, "max": 1, "n_over": 0},
        copies=frozenset({"by_average"}),
    ),
    "groups": Statistic(
        compute=lambda case: group_statistic(case, Unit.CELL), power=GROUP_POWER, shifts=GROUP_MEANS,
        copies=GROUP_MEANS,
    ),
    "groups by model": Statistic(
        compute=lambda case: group_statistic(case, Unit.MEAN), power=GROUP_POWER, shifts=GROUP_MEANS,
        copies=GROUP_MEANS,
    ),
    "regression": Statistic(
        compute=regression_statistic,
        power={"base": 1, "slope": 0, "level": 1, "full": 2, "source": 2, "target": 2, "all": 2},
        shifts=frozenset({"level"}), copies=frozenset({"slope", "level", "full", "source", "target", "all"}),
    ),
    "symmetry": Statistic(
        compute=symmetry_statistic, power={"score": 0}, not_shift=frozenset({"score"}), square=True,
    ),
    "size": Statistic(
        compute=size_statistic, power={"rank": 0}, not_shift=frozenset(), copies=frozenset({"raw", "rank"}),
    ),
}  # fmt: skip


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Gains of 4 to 8 base models on as many tasks, of one scale, with two groups on either side."""
    n = draw(st.integers(4, 8))
    seed = draw(st.integers(0, 2**32 - 1))
    source = np.random.default_rng(seed)
    scale = draw(st.sampled_from([0.1, 1.0, 10.0]))
    signal = np.outer(source.normal(size=n), source.uniform(0.2, 2, size=n))
    # rounded, as published gains are; equal values may occur
    gain = np.round(scale * (2 * signal + source.normal(size=(n, n)) + source.normal(size=n)), 4)
    names = ["nli" if i % 2 else "other" for i in range(n)]
    return Case(gain=gain, probe=source.normal(size=n), sources=names, targets=list(reversed(names)))


def agree(left: npt.ArrayLike, right: npt.ArrayLike, what: str) -> None:
    np.testing.assert_allclose(np.asarray(left), np.asarray(right), rtol=1e-6, atol=1e-7, err_msg=what)


few = settings(
    max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.filter_too_much]
)


def every_statistic(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.parametrize("name", sorted(STATISTICS))(test)


def reordered(case: Case, rows: list[int], columns: list[int]) -> Case:
    return Case(
        gain=case.gain[np.ix_(rows, columns)],
        probe=case.probe[rows],
        sources=[case.sources[i] for i in rows],
        targets=[case.targets[j] for j in columns],
    )


@every_statistic
@few
@given(case=cases(), data=st.data())
def test_order_of_base_models_and_tasks_does_not_matter(name: str, case: Case, data: st.DataObject) -> None:
    statistic, n = STATISTICS[name], len(case.probe)
    rows = data.draw(st.permutations(range(n)))
    columns = rows if statistic.square else data.draw(st.permutations(range(n)))
    before, after = statistic.compute(case), statistic.compute(reordered(case, rows, columns))
    for key, value in before.row.items():
        agree(after.row[key], value[rows], f"{name} {key}")
    for key, value in before.column.items():
        agree(after.column[key], value[columns], f"{name} {key}")
    for key, number in before.scalar.items():
        agree(after.scalar[key], number, f"{name} {key}")


@every_statistic
@few
@given(case=cases(), factor=st.sampled_from([0.25, 3.0, 100.0]))
def test_scaling_all_gains_scales_each_number_by_its_power(name: str, case: Case, factor: float) -> None:
    statistic = STATISTICS[name]
    scaled = Case(gain=factor * case.gain, probe=case.probe, sources=case.sources, targets=case.targets)
    before, after = statistic.compute(case), statistic.compute(scaled)
    for part in ("row", "column", "scalar"):
        for key, value in getattr(before, part).items():
            if key in statistic.power:
                agree(getattr(after, part)[key], np.multiply(value, factor ** statistic.power[key]), f"{name} {key}")


@every_statistic
@few
@given(case=cases(), shift=st.sampled_from([-7.0, 0.5, 40.0]))
def test_shifting_all_gains_shifts_levels_only(name: str, case: Case, shift: float) -> None:
    statistic = STATISTICS[name]
    moved = Case(gain=case.gain + shift, probe=case.probe, sources=case.sources, targets=case.targets)
    before, after = statistic.compute(case), statistic.compute(moved)
    for part in ("row", "column", "scalar"):
        for key, value in getattr(before, part).items():
            if key not in statistic.not_shift:
                agree(
                    getattr(after, part)[key], np.add(value, shift if key in statistic.shifts else 0), f"{name} {key}"
                )


@every_statistic
@few
@given(case=cases())
def test_listing_every_base_model_twice_changes_no_average(name: str, case: Case) -> None:
    statistic, n = STATISTICS[name], len(case.probe)
    twice = reordered(case, [*range(n), *range(n)], list(range(n)))
    before, after = statistic.compute(case), statistic.compute(twice)
    for part in ("column", "scalar"):
        for key, value in getattr(before, part).items():
            if key in statistic.copies:
                agree(getattr(after, part)[key], value, f"{name} {key}")


@few
@given(case=cases(), names=st.permutations(["zebra", "apple", "möwe", "<b>", "=x"]))
def test_renaming_groups_renames_the_table_only(case: Case, names: list[str]) -> None:
    new = {"nli": names[0], "other": names[1]}
    before = tabulate_groups(case.gain, case.sources, case.targets)
    after = tabulate_groups(case.gain, [new[g] for g in case.sources], [new[g] for g in case.targets])
    for s, source in enumerate(before.source_groups):
        for t, target in enumerate(before.target_groups):
            place = (after.source_groups.index(new[source]), after.target_groups.index(new[target]))
            agree(after.mean_gain[place], before.mean_gain[s, t], f"{source} {target}")
    for anova in before.by_target:
        again = next(other for other in after.by_target if other.within == new[anova.within])
        agree(again.p, anova.p, anova.within)
    average = average_gain(case.gain)
    order = order_by_group(average, case.sources, group_order=["nli", "other"])
    renamed = order_by_group(average, [new[g] for g in case.sources], group_order=[new["nli"], new["other"]])
    assert order.tolist() == renamed.tolist()


@few
@given(case=cases(), a=st.sampled_from([0.5, 2.0, 30.0]), b=st.sampled_from([-3.0, 11.0]))
def test_correlation_knows_no_units_and_no_sides(case: Case, a: float, b: float) -> None:
    x, y = case.probe, case.gain[:, 0]
    before, after, swapped = associate(x, y), associate(a * x + b, y), associate(y, x)
    negated = associate(-x, y)
    for one in (after, swapped):
        agree(
            [one.pearson, one.pearson_p, one.spearman, one.spearman_p],
            [before.pearson, before.pearson_p, before.spearman, before.spearman_p],
            "association",
        )
    agree([negated.pearson, negated.spearman], [-before.pearson, -before.spearman], "sign")
    line, moved = fit_line(x, y), fit_line(a * x + b, y)
    agree([moved.slope * a, moved.intercept + moved.slope * b], [line.slope, line.intercept], "line")


@few
@given(case=cases(), shift=st.sampled_from([-2.0, 5.0]))
def test_contrast_changes_sign_with_its_sides_and_ignores_a_common_shift(case: Case, shift: float) -> None:
    a, b = case.gain[:, 0], case.gain[:, 1]
    for pair in (True, False):
        before, swapped = compare_conditions(a, b, pair=pair), compare_conditions(b, a, pair=pair)
        agree([swapped.difference, swapped.low, swapped.p], [-before.difference, -before.high, before.p], "swapped")
        moved = compare_conditions(a + shift, b + shift, pair=pair)
        agree(
            [moved.difference, moved.low, moved.high, moved.p],
            [before.difference, before.low, before.high, before.p],
            "",
        )


@few
@given(case=cases(), data=st.data(), factor=st.sampled_from([2.0, 16.0]))
def test_u_shape_and_trend_ignore_units_of_size_and_order_of_models(
    case: Case, data: st.DataObject, factor: float
) -> None:
    n = len(case.probe)
    sizes = [50 * 2**k for k in range(n)]
    rows = data.draw(st.permutations(range(n)))
    before, after = find_u_shape(sizes, case.gain), find_u_shape([int(factor * s) for s in sizes], case.gain[rows])
    agree([after.p, after.drop, after.rise], [before.p, before.drop, before.rise], "u-shape")
    assert after.lowest == before.lowest
    trends = [fit_trend([int(f * s) for s in sizes], case.gain[0]) for f in (1, factor)]
    agree([trends[1].line.slope, trends[1].p], [trends[0].line.slope, trends[0].p], "trend")


@few
@given(case=cases(), data=st.data())
def test_smallest_targets_follow_their_columns(case: Case, data: st.DataObject) -> None:
    size, spread = np.abs(case.probe) + 1, np.ptp(case.gain, axis=0)
    columns = data.draw(st.permutations(range(size.size)))
    before = compare_smallest_targets(size, spread, count=2)
    after = compare_smallest_targets(size[columns], spread[columns], count=2)
    assume(not before.reason)
    assert tuple(columns[j] for j in after.smallest) == before.smallest
    assert (after.n_shared, after.p) == (before.n_shared, pytest.approx(before.p))


@few
@given(errors=st.lists(st.floats(0.1, 3), min_size=3, max_size=6), factor=st.sampled_from([0.5, 4.0]))
def test_noise_floor_grows_with_the_error(errors: list[float], factor: float) -> None:
    column = np.array(errors)[:, None]
    before = simulate_noise_floor(column, top=1, rng=rng(), n_draws=50)
    after = simulate_noise_floor(factor * column, top=1, rng=rng(), n_draws=50)
    agree(after.max_gain, factor * before.max_gain, "max")
    agree(after.loss, factor * before.loss, "loss")


@every_statistic
@few
@given(case=cases(), data=st.data())
def test_missing_cells_give_numbers_or_nan_but_no_error(name: str, case: Case, data: st.DataObject) -> None:
    gain = case.gain.copy()
    share = data.draw(st.sampled_from([0.1, 0.5, 1.0]))
    gain[np.random.default_rng(data.draw(st.integers(0, 999))).random(gain.shape) < share] = math.nan
    holed = Case(gain=gain, probe=case.probe, sources=case.sources, targets=case.targets)
    if name == "regression":
        model = fit_gain_model(gain, rng=rng(), n_starts=1)
        assert math.isnan(model.mse) == bool(model.reason)
        return
    for value in STATISTICS[name].compute(holed).scalar.values():
        assert not math.isinf(value)
