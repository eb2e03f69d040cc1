"""The start policy on the published roberta-base results: what it spends and loses against trying all 319 models."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from analysis.start_replay import Replay, replay_start
from analysis.start_rules import StartRules
from analysis.study import GainStudy
from tests.published_files import available, read

pytestmark = pytest.mark.skipif(not available(), reason="published results are not in ../shared/published")


@pytest.fixture(scope="module")
def study() -> GainStudy:
    """Rows without a doubt, as the integrity gate finds them."""
    one = read("roberta-base")
    kept = np.array([kind == "intact" for kind in one.audit.kind]) & np.isfinite(one.scores).all(axis=1)
    n, n_tasks = int(kept.sum()), len(one.tasks)
    return GainStudy(
        arch="roberta-base",
        pretrained="roberta-base",
        settings="",
        bases=tuple(name for name, keep in zip(one.names, kept, strict=True) if keep),
        tasks=tuple(one.tasks),
        scores=one.scores[kept][:, :, None],
        baseline=one.repetitions.T,
        probe=one.probe[kept],
        probe_pretrained=np.nan,
        origins=(None,) * n,
        target_groups=("other",) * n_tasks,
        target_sizes=np.full(n_tasks, np.nan),
        source_groups=("",) * n,
    )


def replayed(study: GainStudy, budget: int) -> Replay:
    return replay_start(study, StartRules(budget=budget), rng=np.random.default_rng(0), pretrained_seeds=3)


def test_it_spends_its_budget_and_no_more(study: GainStudy) -> None:
    found = replayed(study, 13)
    assert found.brute_force_runs > 300 and (found.runs <= 13).all()
    # a target that surely has nothing to give ends the search after the first comparison: 3 + 1
    early = [verdict for verdict in found.verdicts if verdict is not None and "not sensitive" in verdict.stopped]
    assert early and all(verdict.runs == 4 for verdict in early)


def test_a_dozen_runs_keep_most_of_what_300_find(study: GainStudy) -> None:
    found = replayed(study, 13)
    # independent: the best recorded gain of every column, and the share of it that the choice keeps
    best = np.maximum(study.gain.max(axis=0), 0)
    assert found.best_gain == pytest.approx(best)
    assert found.chosen_gain.mean() > 0.6 * best.mean()
    assert found.loss.mean() < 0.5 * best.mean() and (found.loss >= 0).all()


def test_more_budget_loses_less(study: GainStudy) -> None:
    losses = [replayed(study, budget).loss.mean() for budget in (4, 6, 13, 23)]
    assert losses == sorted(losses, reverse=True)


def test_the_sensitive_targets_are_those_that_the_paper_names(study: GainStudy) -> None:
    found = replayed(study, 13)
    by_task = dict(zip(study.tasks, found.verdicts, strict=True))
    # "for some targets (e.g. ESNLI) intertraining makes little difference, for others (e.g. COPA) it is significant"
    assert by_task["rte"] is not None and by_task["rte"].sensitive is True
    assert by_task["esnli"] is not None and by_task["esnli"].sensitive is not True


def test_the_ranking_knows_nothing_of_the_target(study: GainStudy) -> None:
    changed = study.scores.copy()
    column = study.tasks.index("rte")
    changed[:, column] = changed[::-1, column]
    other = GainStudy(**{**vars(study), "scores": changed})
    one, two = replayed(study, 6), replayed(other, 6)
    names = [[tried.name for tried in found.verdicts[column].tried] for found in (one, two) if found.verdicts[column]]
    assert names[0] == names[1]


def test_the_published_files_are_the_ones_meant() -> None:
    path = Path(__file__).parents[3] / "shared" / "published" / "model-recycling" / "models_tested.csv"
    with path.open(encoding="utf-8") as file:
        assert sum(row["base_model"] == "roberta-base" for row in csv.DictReader(file)) > 380
