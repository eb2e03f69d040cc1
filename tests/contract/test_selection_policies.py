"""Every policy of selection rounds keeps the same promises, whatever the curves."""

from __future__ import annotations

import math
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.selection.halving import halving_epochs
from analysis.selection.knowledge import Knowledge, RoundRules
from analysis.selection.policies import POLICIES
from analysis.selection.rounds import RoundPolicy, check_verdict, run_rounds
from tests.selection_matrices import converging_matrix, make_matrix

NAMES = sorted(POLICIES)
CANDIDATES = ("m4", "new", "m0", "m3", "m1")
"""One of them is not in the record."""
N_STAGES = 4
CURVES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.501, 0.7, 1.0]), min_size=N_STAGES, max_size=N_STAGES)
STUDIES = st.lists(CURVES, min_size=1, max_size=len(CANDIDATES)).map(
    lambda curves: dict(zip(CANDIDATES, curves, strict=False))
)


@cache
def _policy(name: str) -> RoundPolicy:
    """With one stage less on record than the target has."""
    record = converging_matrix(n_bases=6, n_tasks=4, n_stages=N_STAGES - 1)
    return POLICIES[name](RoundRules(n_trends=2), Knowledge(record=record, n_validation=50))


def test_the_registry_is_whole() -> None:
    assert set(NAMES) >= {"brute_force", "successive_halving", "fine_selection", "tied"}
    assert [_policy(name).name for name in NAMES] == NAMES


@pytest.mark.parametrize("name", NAMES)
@given(study=STUDIES)
@settings(max_examples=25, deadline=None)
def test_each_candidate_is_kept_or_dropped_and_the_order_is_kept(name: str, study: dict[str, list[float]]) -> None:
    for stage in range(1, N_STAGES + 1):
        curves = {base: curve[:stage] for base, curve in study.items()}
        verdict = check_verdict(
            _policy(name).decide(stage, N_STAGES, curves), curves, last=stage == N_STAGES, name=name
        )
        assert list(verdict.kept) == [base for base in curves if base in verdict.kept]
        assert all(reason.strip() for reason in verdict.dropped.values())
        assert verdict == _policy(name).decide(stage, N_STAGES, curves)


@pytest.mark.parametrize("name", NAMES)
@given(study=STUDIES)
@settings(max_examples=25, deadline=None)
def test_one_is_trained_to_the_end_and_no_one_is_trained_after_its_stage(
    name: str, study: dict[str, list[float]]
) -> None:
    found = run_rounds(_policy(name), study, dict.fromkeys(study, 0.5))
    assert found.chosen in study
    assert len(found.alive) == N_STAGES
    assert {drop.base_model for drop in found.dropped} == set(study) - {found.chosen}
    trained = sum(drop.stage for drop in found.dropped) + N_STAGES
    assert found.epochs_spent == trained
    if name != "brute_force":
        assert found.epochs_spent <= halving_epochs(len(study), N_STAGES)


@pytest.mark.parametrize("name", NAMES)
def test_a_failed_candidate_does_not_hold_up_the_others(name: str) -> None:
    curves = {"m4": [0.9, 0.9], "m0": [0.5, 0.6, 0.6, 0.7], "m3": [math.nan] * N_STAGES, "m1": []}
    found = run_rounds(_policy(name), curves, {"m0": 0.7}, n_stages=N_STAGES)
    failed = {drop.base_model: drop.stage for drop in found.dropped if drop.failed}
    assert failed["m3"] == failed["m1"] == 1
    assert found.chosen == "m0" or failed["m4"] == 3


@pytest.mark.parametrize("name", NAMES)
def test_all_failed(name: str) -> None:
    assert run_rounds(_policy(name), {"m0": [], "m1": [math.nan]}, {}, n_stages=2).chosen is None


@pytest.mark.parametrize("name", NAMES)
def test_all_equal_the_first_recalled_wins(name: str) -> None:
    record = make_matrix([[0.5, 0.6, 0.7]] * 3, [[[0.4], [0.5], [0.6]]] * 3)
    policy = POLICIES[name](RoundRules(), Knowledge(record=record))
    assert run_rounds(policy, {base: [0.5, 0.5] for base in ("m2", "m0", "m1")}, {}).chosen == "m2"


@pytest.mark.parametrize("name", NAMES)
def test_what_needs_a_record_says_so(name: str) -> None:
    empty = Knowledge(record=make_matrix([[0.5]]))
    if name in ("brute_force", "successive_halving"):
        assert POLICIES[name](RoundRules(), Knowledge()).name == name
        return
    for known in (Knowledge(), empty):
        with pytest.raises(ValueError, match=f"{name} predicts from recorded curves"):
            POLICIES[name](RoundRules(), known)
