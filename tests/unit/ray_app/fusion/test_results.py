"""The tables of an experiment against hand arithmetic: gains paired by task and seed, refused updates, the best single model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ray_app.fusion.evaluation import Evaluation, How
from ray_app.fusion.experiment import TaskSplit
from ray_app.fusion.lineage import Base
from ray_app.fusion.products import Product
from ray_app.fusion.results import ResultRow, best_single_task, result_rows

PRETRAINED = "org/base"


def product(label: str, number: int, seed: int, *, revision: str | None = None, last: bool = False) -> Product:
    base = Base(revision=revision or f"{label}{number}s{seed}", folder=Path("/m"), pretrained=revision == "pretrained")
    return Product(
        name=f"startline/a-{label}-{number}-s{seed}", label=label, seed=seed, number=number, base=base, last=last,
        n_contributions=4 * number, examples_seen=100 * number,
    )  # fmt: skip


class Scored(Evaluation):
    """An evaluation with given scores, by base model, task and seed, in points."""

    def __init__(
        self, products: list[Product], scores: dict[tuple[str, str, int], float], *, singles: list[str]
    ) -> None:
        config = SimpleNamespace(
            seeds=[0, 1],
            suite=SimpleNamespace(tasks=["seen", "new"]),
            arch=SimpleNamespace(name="a", pretrained=SimpleNamespace(id=PRETRAINED)),
            cold_fusion=SimpleNamespace(baselines=SimpleNamespace(singles=bool(singles))),
        )
        split = TaskSplit(seen=singles or ["seen", "other"], unseen=["new"])
        experiment: Any = SimpleNamespace(config=config, split=split, first="plain")
        super().__init__(experiment=experiment, products=products)
        self.given = scores

    def score(self, how: How, name: str, *, task: str, seed: int) -> float | None:
        points = self.given.get((name, task, seed)) if how is How.FINETUNED else None
        return None if points is None else points / 100


def scores(name: str, seen: tuple[float, float], new: tuple[float, float]) -> dict[tuple[str, str, int], float]:
    return {(name, task, seed): pair[seed] for task, pair in (("seen", seen), ("new", new)) for seed in (0, 1)}


def find(rows: list[ResultRow], candidate: str, targets: str = "all", iteration: int | None = None) -> ResultRow:
    (row,) = [
        row
        for row in rows
        if (row.candidate, row.targets, row.how) == (candidate, targets, "finetuned") and row.iteration == iteration
    ]
    return row


def test_gains_are_paired_by_task_and_seed() -> None:
    products = [product("plain", number, seed, last=number == 2) for seed in (0, 1) for number in (1, 2)]
    given = scores(PRETRAINED, (60, 62), (50, 50))
    for number, seen, new in ((1, (61, 63), (50, 52)), (2, (64, 64), (49, 53))):
        for seed in (0, 1):
            given |= {(f"startline/a-plain-{number}-s{seed}", "seen", seed): seen[seed]}
            given |= {(f"startline/a-plain-{number}-s{seed}", "new", seed): new[seed]}
    rows = result_rows(Scored(products, given, singles=[]))
    whole = find(rows, "plain", iteration=2)
    # differences: seen 4, 2; new -1, 3; seeds 1.5 and 2.5: variance 0.5 / 2; within tasks (2 + 8) / (2 x 4) = 1.25
    assert whole.gain == pytest.approx(2.0) and whole.se == pytest.approx(1.25**0.5)
    assert (whole.low, whole.high, whole.n_tasks, whole.n_seeds) == (pytest.approx(1.5), pytest.approx(2.5), 2, 2)
    assert whole.score == pytest.approx((64 + 64 + 49 + 53) / 4) and whole.minus_plain == pytest.approx(0.0)
    assert (whole.contributions, whole.examples_seen, whole.last) == (8, 200, True)
    first = find(rows, "plain", iteration=1)
    assert first.minus_plain == pytest.approx(-1.0) and not first.last  # seen -3, -1; new 1, -1
    assert find(rows, "plain", "seen", 2).gain == pytest.approx(3.0)
    assert find(rows, "plain", "unseen", 2).gain == pytest.approx(1.0)


def test_a_seed_with_a_missing_score_is_left_out_of_both() -> None:
    given = scores(PRETRAINED, (60, 62), (50, 50)) | scores("startline/a-plain-1-s0", (70, 0), (60, 0))
    rows = result_rows(
        Scored([product("plain", 1, 0, last=True), product("plain", 1, 1, last=True)], given, singles=[])
    )
    row = find(rows, "plain", iteration=1)
    assert (row.n_seeds, row.gain, row.se) == (1, pytest.approx(10.0), None)


def test_an_update_that_was_refused_from_the_start_is_the_pretrained_model() -> None:
    given = scores(PRETRAINED, (60, 62), (50, 50))
    products = [product("plain", 1, seed, revision="pretrained", last=True) for seed in (0, 1)]
    row = find(result_rows(Scored(products, given, singles=[])), "plain", iteration=1)
    assert row.gain == 0.0 and row.score == pytest.approx(55.5)


def test_equal_content_is_one_base_model_under_the_first_name() -> None:
    plain, other = (
        product("plain", 1, 0, revision="same", last=True),
        product("rollback", 1, 0, revision="same", last=True),
    )
    evaluation = Scored([plain, other], {(plain.name, "seen", 0): 70.0}, singles=[])
    assert evaluation.canonical(other) is plain
    assert evaluation.score_of(How.FINETUNED, other, "seen") == pytest.approx(0.7)


def test_the_best_single_model_is_told_by_all_targets() -> None:
    given = scores(PRETRAINED, (60, 60), (50, 50))
    given |= scores("startline/a-seen", (70, 70), (45, 45)) | scores("startline/a-other", (61, 61), (53, 53))
    rows = result_rows(Scored([], given, singles=["seen", "other"]))
    assert best_single_task(rows) == "seen"
    assert find(rows, "best_single").gain == pytest.approx(2.5) == find(rows, "single.seen").gain
    assert find(rows, "best_single", "unseen").gain == pytest.approx(-5.0)
    assert find(rows, "best_single").minus_plain is None
